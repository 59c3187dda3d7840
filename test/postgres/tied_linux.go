package postgres

import (
	"runtime"
	"syscall"
)

// tied has a server stop at once, and whole, when the process dies that started it.
func tied(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}

func lockedToThread(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	do()
}
