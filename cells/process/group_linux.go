package process

import "syscall"

// newProcessGroup puts a child into a process group of its own, and has it killed when its parent dies; a supervisor is
// told to end then, so that it can end what it supervises.
func newProcessGroup(supervisor bool) *syscall.SysProcAttr {
	if supervisor {
		return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
