package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/internal/filelock"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// Each cause has words of its own, however deep the error is, and whatever its text says.
func TestHintsByCause(t *testing.T) {
	full := os.WriteFile("/dev/full", []byte("x"), 0o600) // a real ENOSPC, with the file's name
	if !errors.Is(full, syscall.ENOSPC) {
		t.Fatalf("/dev/full took the bytes: %v", full)
	}
	local, remote := site{data: "/var/lib/sluice"}, site{data: "/var/lib/sluice", database: true}
	unknown := &net.DNSError{Name: "db.nowhere", IsNotFound: true}
	seen := map[string]string{}
	for _, c := range []struct {
		name string
		err  error
		at   site
		want string
	}{
		{"no git", gitrepo.ErrNoGit, local, "install git"},
		{"a full disk", full, local, "disk of /dev/full"},
		{"a full store", plan.ErrFull, local, "disk of /var/lib/sluice"},
		{"a full database", plan.ErrFull, remote, "database server's disk"},
		{"a quota", &os.PathError{Op: "write", Path: "/home/kim/x", Err: syscall.EDQUOT}, local, "quota"},
		{"a read-only disk", &os.PathError{Op: "open", Path: "/srv/x", Err: syscall.EROFS}, local, "/srv/x is on"},
		{"too many files", syscall.EMFILE, local, "LimitNOFILE"},
		{"somebody else's file", &os.PathError{Op: "open", Path: "/srv/y", Err: syscall.EACCES}, local, "/srv/y belo"},
		{"a lock", heldLock(t), local, "stop that process"},
		{"a locked store", plan.ErrBusy, local, "lsof /var/lib/sluice/sluice.db"},
		{"a store that takes no writes", plan.ErrReadOnly, local, "write to /var/lib/sluice/sluice.db"},
		{"a locked database", plan.ErrBusy, remote, "pg_stat_activity"},
		{"a standby", fmt.Errorf("%w: %w", plan.ErrBusy, plan.ErrReadOnly), remote, "primary"},
		{"no server", fmt.Errorf("%w: %w", plan.ErrAway, syscall.ECONNREFUSED), remote, "no PostgreSQL listens"},
		{"no host", fmt.Errorf("%w: %w", plan.ErrAway, unknown), remote, "no host db.nowhere"},
		{"a slow server", fmt.Errorf("%w: %w", plan.ErrAway, context.DeadlineExceeded), remote, "in time"},
		{"a server that stops", plan.ErrAway, remote, "starting, stopping"},
		{"a crowded server", plan.ErrCrowded, remote, "max_connections"},
		{"a wrong password", postgres.ErrUser, remote, "PGPASSWORD"},
		{"no database", postgres.ErrNoDatabase, remote, "createdb"},
		{"another owner", postgres.ErrNotOwner, remote, "own the database"},
		{"a full disk that only words tell of", errors.New("exit status 128"), site{full: "/tmp"}, "disk of /tmp"},
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

// What helps against the machine's trouble is said in place of advice that does not; other advice stays.
func TestHintOutranksAdvice(t *testing.T) {
	for _, c := range []struct {
		err       error
		want, not string
	}{
		{Fail(fmt.Errorf("open: %w", gitrepo.ErrNoGit), "is --repo right?"), "next: install git", "is --repo right"},
		{Fail(fmt.Errorf("open: %w", plan.ErrBusy), "stop the other first"), "next: stop the other first", "lsof"},
		{guess(fmt.Errorf("open: %w", &os.PathError{Op: "open", Path: "/srv/y", Err: syscall.EACCES}), "--repo right?"),
			"/srv/y belongs", "is --repo right"},
		{guess(errors.New("exit status 128"), "is --repo right?"), "next: is --repo right?", "df"},
		{WithExitCode(errors.New("wrong"), ExitUsage), "sluice: wrong", "next:"},
	} {
		var said strings.Builder
		a := NewApp([]string{"HOME=" + t.TempDir()}, nil, &said, &said)
		a.ReportError(c.err)
		if !strings.Contains(said.String(), c.want) || strings.Contains(said.String(), c.not) {
			t.Errorf("%v: said %q", c.err, said.String())
		}
	}
}
