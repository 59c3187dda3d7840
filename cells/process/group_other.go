//go:build !linux

package process

import "syscall"

// newProcessGroup puts a child into a process group of its own. Only Linux can kill the child when its parent dies.
func newProcessGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
