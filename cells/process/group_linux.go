package process

import "syscall"

// newProcessGroup puts a child into a process group of its own and ties its life to ours.
func newProcessGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
