//go:build !linux

package cluster

import "syscall"

// childAttributes can't make a part stop with its parent on this system: only Close stops it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func runOnLockedThread(do func()) { do() }
