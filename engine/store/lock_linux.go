package store

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// Commands of fcntl for open file description locks, which package syscall does not name.
const (
	getLock = 36 // F_OFD_GETLK
	setLock = 37 // F_OFD_SETLK
)

// leaseLock shows that the holder of a lease is alive: the holder locks the byte of its term in a file beside the
// database, and the system releases the lock when the process ends. The locks belong to open files, not to processes,
// so that two stores of one process are distinct too.
type leaseLock struct {
	file string

	mu     sync.Mutex // guards open
	handle *os.File   // nil: not open
}

func (l *leaseLock) lockTerm(term int64) error {
	return l.fcntl(setLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: term, Len: 1})
}

// isTermFree reports whether nobody locks a term's byte; false if that is unknown.
func (l *leaseLock) isTermFree(term int64) bool {
	about := &syscall.Flock_t{Type: syscall.F_WRLCK, Start: term, Len: 1}
	return l.fcntl(getLock, about) == nil && about.Type == syscall.F_UNLCK
}

func (l *leaseLock) fcntl(command int, flock *syscall.Flock_t) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		f, err := os.OpenFile(l.file, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		l.handle = f
	}
	flock.Whence = io.SeekStart
	return syscall.FcntlFlock(l.handle.Fd(), command, flock)
}

// close releases all locks. lockTerm may be called again.
func (l *leaseLock) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle != nil {
		l.handle.Close()
		l.handle = nil
	}
}
