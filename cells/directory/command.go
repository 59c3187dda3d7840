package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/process"
)

const (
	outputKept = 64 << 10
	saidLast   = 1 << 10 // bytes of a command's output that go into an error
	grace      = 300 * time.Millisecond
)

// hook runs the hook command, if there is one, and keeps the end of what it printed.
func (t *Target) hook(ctx context.Context, reason string) error {
	if t.options.Hook == "" {
		return nil
	}
	mark, err := t.mark()
	if err != nil {
		return err
	}
	t.owed = true
	said, err := t.run(ctx, "hook", t.options.Hook, t.options.HookTimeout, "SLUICE_REASON="+reason, mark)
	if err == nil {
		t.owed = false
	}
	if after := errors.Join(t.unmark(), t.keepLog(said)); err == nil {
		err = after
	}
	return err
}

// Health runs the health command. With none, what is in place is healthy.
func (t *Target) Health(ctx context.Context) error {
	if _, err := os.Stat(t.path(link)); err != nil {
		return &cells.Unhealthy{Reason: "nothing is in place: " + err.Error()}
	}
	if t.options.Health == "" {
		return nil
	}
	_, err := t.run(ctx, "health command", t.options.Health, t.options.HealthTimeout)
	var failed *commandError
	if errors.As(err, &failed) {
		return &cells.Unhealthy{Reason: failed.Error()}
	}
	return err
}

// commandError: a command ran and did not succeed.
type commandError struct {
	name   string
	reason string
	last   string // the end of its output
}

func (e *commandError) Error() string {
	if e.last == "" {
		return e.name + ": " + e.reason
	}
	return e.name + ": " + e.reason + ": " + e.last
}

// run runs a shell command within its time limit. That it failed or took too long is a
// *commandError; that ctx ended is ctx's cause.
func (t *Target) run(ctx context.Context, name, command string, limit time.Duration, environment ...string) (*process.Tail, error) {
	said := process.NewTail(outputKept)
	late := &commandError{name: name, reason: fmt.Sprintf("no end after %s, killed", limit)}
	limited, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	err := process.Child{
		Args:   []string{"/bin/sh", "-c", command},
		Env:    append(append(os.Environ(), t.environment()...), environment...),
		Stdout: said,
		Stderr: said,
		Grace:  grace,
	}.Run(limited)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return said, nil
	case errors.Is(err, late):
		late.last = said.Last(saidLast)
		return said, late
	case errors.As(err, &exit):
		return said, &commandError{name: name, reason: exit.Error(), last: said.Last(saidLast)}
	default:
		return said, err
	}
}

func (t *Target) environment() []string {
	folder, err := filepath.EvalSymlinks(t.path(link))
	if err != nil {
		folder = t.path(link)
	}
	return []string{
		"SLUICE_CELL=" + t.options.Cell,
		"SLUICE_CHANNEL=" + t.told.Channel,
		"SLUICE_RELEASE=" + t.told.Release,
		"SLUICE_DIGEST=" + string(t.told.Digest),
		"SLUICE_PROFILE=" + t.told.Profile,
		"SLUICE_DIR=" + folder,
		"SLUICE_CURRENT=" + t.path(link),
	}
}

// keepLog replaces hook.log. It is for people to read, so it need not survive a power loss.
func (t *Target) keepLog(said *process.Tail) error {
	text := said.Bytes()
	if n := said.Dropped(); n > 0 {
		text = append(fmt.Appendf(nil, "… %d bytes before this are not kept\n", n), text...)
	}
	temporary := t.path(staging + "-log")
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return fmt.Errorf("keep the hook's output: %w", err)
	}
	if err := os.Rename(temporary, t.path("hook.log")); err != nil {
		return fmt.Errorf("keep the hook's output: %w", err)
	}
	return nil
}
