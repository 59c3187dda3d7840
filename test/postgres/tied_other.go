//go:build !linux

package postgres

import "syscall"

// tied can't tie a server to its parent here: Close stops it.
func tied(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true}
}

func lockedToThread(do func()) { do() }
