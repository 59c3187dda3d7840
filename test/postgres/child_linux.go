package postgres

import (
	"runtime"
	"syscall"
)

// childAttributes has a server stop at once, and whole, when the process dies that started it.
func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}

func runOnLockedThread(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	do()
}
