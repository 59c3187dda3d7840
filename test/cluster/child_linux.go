package cluster

import (
	"runtime"
	"syscall"
)

// childAttributes makes a part stop at once when the process that started it dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func runOnLockedThread(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	do()
}
