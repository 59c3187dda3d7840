// Package filelock locks files between processes of one machine, and says who holds a lock.
//
// A lock ends with the process that holds it, however that ends, so a file that is left behind locks nothing. The
// package never removes a file. Its functions may be called at once.
package filelock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

const (
	maxHolder = 512                   // bytes of what a lock's file says
	pause     = 20 * time.Millisecond // between two tries
)

// HeldError says that another process holds a lock.
type HeldError struct{ By string } // as it described itself; empty: it did not

func (e *HeldError) Error() string {
	if e.By == "" {
		return "another process holds it"
	}
	return e.By + " holds it"
}

// Open opens a file to lock by open, which gets the flags of os.OpenFile. On a read-only disk it is opened for reading:
// its lock holds nevertheless.
func Open(open func(flags int) (*os.File, error)) (*os.File, error) {
	f, err := open(os.O_CREATE | os.O_RDWR)
	if errors.Is(err, syscall.EROFS) {
		return open(os.O_RDONLY)
	}
	return f, err
}

// Lock locks f for as long as f is open, and writes into it who the holder is. It waits up to wait for a lock that may
// be about to be freed: a child process holds its parent's lock until it runs its own program, and a program that is
// told to stop needs a moment. The error is a *HeldError if another process keeps the lock.
func Lock(f *os.File, wait time.Duration, who string) error {
	for end := time.Now().Add(wait); ; time.Sleep(pause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch held := errors.Is(err, syscall.EWOULDBLOCK); {
		case err == nil:
			describe(f, who)
			return nil
		case held && !time.Now().Before(end):
			return &HeldError{By: holder(f)}
		case !held && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// describe writes who holds the lock. With a full disk, the lock holds without it.
func describe(f *os.File, who string) {
	host, _ := os.Hostname() // better without than not at all
	text := fmt.Sprintf("process %d on %s (%s, since %s)", os.Getpid(), host, who,
		time.Now().UTC().Format(time.RFC3339))
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(text[:min(len(text), maxHolder)]), 0)
	}
}

func holder(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxHolder))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}
