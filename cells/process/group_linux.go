package process

import "syscall"

// newProcessGroup puts a child into a process group of its own, and has it killed when its parent dies.
func newProcessGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
