package postgres

import (
	"runtime"
	"syscall"
)

// childAttributes makes a server stop at once when the process that started it dies.
func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}

func runOnLockedThread(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	do()
}
