package repos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// Each cause has words of its own, however deep the error is, and whatever its text says.
func TestHintsByCause(t *testing.T) {
	local, remote := cli.Site{Data: "/var/lib/sluice"}, cli.Site{Data: "/var/lib/sluice", Database: true}
	unknown := &net.DNSError{Name: "db.nowhere", IsNotFound: true}
	seen := map[string]string{}
	for _, c := range []struct {
		name string
		err  error
		at   cli.Site
		want string
	}{
		{"no git", gitrepo.ErrNoGit, local, "install git"},
		{"a full store", plan.ErrFull, local, "disk of /var/lib/sluice"},
		{"a full database", plan.ErrFull, remote, "database server's disk"},
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
	} {
		deep := fmt.Errorf("serve: %w", errors.Join(errors.New("beside it"), fmt.Errorf("read it: %w", c.err)))
		hint := machineHint(deep, c.at)
		if hint == "" {
			hint = storeHint(deep, c.at)
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
	if hint := machineHint(misleading, local) + storeHint(misleading, local); hint != "" {
		t.Errorf("an error's text decided: %q", hint)
	}
}

// What helps against the machine's trouble is said in place of advice that does not; other advice stays.
func TestHintOutranksAdvice(t *testing.T) {
	for _, c := range []struct {
		err       error
		want, not string
	}{
		{cli.Fail(fmt.Errorf("open: %w", gitrepo.ErrNoGit), "is --repo right?"), "next: install git",
			"is --repo right"},
		{cli.Fail(fmt.Errorf("open: %w", plan.ErrBusy), "stop the other first"), "next: stop the other first", "lsof"},
		{cli.Guess(fmt.Errorf("open: %w", &os.PathError{Op: "open", Path: "/srv/y", Err: syscall.EACCES}),
			"--repo right?"), "/srv/y belongs", "is --repo right"},
		{cli.Guess(errors.New("exit status 128"), "is --repo right?"), "next: is --repo right?", "df"},
		{cli.WithExitCode(errors.New("wrong"), cli.ExitUsage), "sluice: wrong", "next:"},
	} {
		var said strings.Builder
		a := cli.NewApp([]string{"HOME=" + t.TempDir()}, nil, &said, &said)
		a.Hints = Hints()
		a.ReportError(c.err)
		if !strings.Contains(said.String(), c.want) || strings.Contains(said.String(), c.not) {
			t.Errorf("%v: said %q", c.err, said.String())
		}
	}
}
