package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/internal/filelock"
)

// Each cause has words of its own, however deep the error is, and whatever its text says.
func TestHintsByCause(t *testing.T) {
	full := os.WriteFile("/dev/full", []byte("x"), 0o600) // a real ENOSPC, with the file's name
	if !errors.Is(full, syscall.ENOSPC) {
		t.Fatalf("/dev/full took the bytes: %v", full)
	}
	local := Site{Data: "/var/lib/sluice"}
	seen := map[string]string{}
	for _, c := range []struct {
		name string
		err  error
		at   Site
		want string
	}{
		{"a full disk", full, local, "disk of /dev/full"},
		{"a quota", &os.PathError{Op: "write", Path: "/home/kim/x", Err: syscall.EDQUOT}, local, "quota"},
		{"a read-only disk", &os.PathError{Op: "open", Path: "/srv/x", Err: syscall.EROFS}, local, "/srv/x is on"},
		{"too many files", syscall.EMFILE, local, "LimitNOFILE"},
		{"somebody else's file", &os.PathError{Op: "open", Path: "/srv/y", Err: syscall.EACCES}, local, "/srv/y belo"},
		{"a lock", heldLock(t), local, "stop that process"},
		{"a full disk that only words tell of", errors.New("exit status 128"), Site{Full: "/tmp"}, "disk of /tmp"},
	} {
		deep := fmt.Errorf("serve: %w", errors.Join(errors.New("beside it"), fmt.Errorf("read it: %w", c.err)))
		hint := machineHint(deep, c.at)
		if hint == "" {
			hint = causeHint(deep, c.at)
		}
		if !strings.Contains(hint, c.want) {
			t.Errorf("%s: %q, want %q", c.name, hint, c.want)
		}
		if other := seen[hint]; other != "" {
			t.Errorf("%s and %s have the same words: %s", c.name, other, hint)
		}
		seen[hint] = c.name
	}
	misleading := errors.New("git: no space left on device: disk full: connection refused: database is locked")
	if hint := machineHint(misleading, local) + causeHint(misleading, local); hint != "" {
		t.Errorf("an error's text decided: %q", hint)
	}
}

// heldLock returns the error of a lock that another open file holds.
func heldLock(t *testing.T) error {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	if err := filelock.Lock(open(), 0, "one"); err != nil {
		t.Fatal(err)
	}
	return filelock.Lock(open(), 0, "another")
}
