//go:build !linux

package postgres

import "syscall"

// childAttributes can't tie a server to its parent here: Close stops it.
func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true}
}

func runOnLockedThread(do func()) { do() }
