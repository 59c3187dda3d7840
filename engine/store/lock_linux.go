package store

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// fcntl's commands for locks of open files: Linux has them, syscall does not name them.
const (
	getLock = 36 // F_OFD_GETLK
	setLock = 37 // F_OFD_SETLK
)

// leaseLock shows that the holder of a lease lives: it locks the byte of its term in a file beside the database, and the
// system lets go of it when the process ends, however it ends. The locks are of open files, not of processes, so that two
// stores of one process are told apart as well.
type leaseLock struct {
	file string

	mu     sync.Mutex // guards open
	handle *os.File   // nil: not open
}

// lockTerm locks a term's byte, until close.
func (l *leaseLock) lockTerm(term int64) error {
	return l.fcntl(setLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: term, Len: 1})
}

// isTermFree tells whether nobody locks a term's byte. What can't be found out is not free.
func (l *leaseLock) isTermFree(term int64) bool {
	about := &syscall.Flock_t{Type: syscall.F_WRLCK, Start: term, Len: 1}
	return l.fcntl(getLock, about) == nil && about.Type == syscall.F_UNLCK
}

func (l *leaseLock) fcntl(command int, about *syscall.Flock_t) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		f, err := os.OpenFile(l.file, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		l.handle = f
	}
	about.Whence = io.SeekStart
	return syscall.FcntlFlock(l.handle.Fd(), command, about)
}

// close lets go of everything. The lock may be taken again.
func (l *leaseLock) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle != nil {
		l.handle.Close()
		l.handle = nil
	}
}
