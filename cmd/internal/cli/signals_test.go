package cli

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// A log that nobody reads and a terminal that closes end neither serve nor an agent.
func TestOutliveReaders(t *testing.T) {
	defer OutliveReaders()()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // so that nothing closes it, and its number is no other file's, before it is duplicated
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	stderr, err := syscall.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Dup3(stderr, 2, 0) }()
	if err := syscall.Dup3(int(w.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	// SIGPIPE, on descriptor 2
	if _, err := os.Stderr.WriteString("nobody reads this"); !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
}
