//go:build !linux

package postgres

import "syscall"

// childAttributes can't make a server stop with its parent on this system: only Close stops it.
func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true}
}

func runOnLockedThread(do func()) { do() }
