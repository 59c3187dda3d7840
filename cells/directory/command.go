package directory

import (
	"cmp"
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
	hookLog        = "hook.log"
	maxHookLog     = 64 << 10
	maxErrorOutput = 1 << 10 // bytes of a command's output in an error
	commandGrace   = 300 * time.Millisecond
)

// runHook runs the hook command, if there is one, and logs the end of its output.
func (t *Target) runHook(ctx context.Context, reason string) error {
	if t.options.Hook == "" {
		return nil
	}
	closeRoot, err := t.openRoot()
	if err != nil {
		return err
	}
	defer closeRoot()
	marker, err := t.writeHookMarker()
	if err != nil {
		return err
	}
	t.hookPending = true
	output, err := t.runCommand(ctx, "hook", t.options.Hook, t.options.HookTimeout, "SLUICE_REASON="+reason, marker)
	if err == nil {
		t.hookPending = false
	}
	if afterErr := errors.Join(t.removeHookMarker(), t.writeHookLog(output)); err == nil {
		err = afterErr
	}
	return err
}

// Health runs the health command. Without one, whatever is in place is healthy.
func (t *Target) Health(ctx context.Context) error {
	if _, err := os.Stat(t.path(currentLink)); err != nil {
		return &cells.Unhealthy{Reason: "nothing is installed: " + err.Error()}
	}
	if t.options.Health == "" {
		return nil
	}
	_, err := t.runCommand(ctx, "health command", t.options.Health, t.options.HealthTimeout)
	var failed *commandError
	if errors.As(err, &failed) {
		return &cells.Unhealthy{Reason: failed.Error()}
	}
	return err
}

type commandError struct {
	name   string
	reason string
	cause  cells.Cause // empty: unknown
	output string      // the end of it
}

func (e *commandError) Error() string {
	if e.output == "" {
		return e.name + ": " + e.reason
	}
	return e.name + ": " + e.reason + ": " + e.output
}

func (e *commandError) FailureCause() cells.Cause { return cmp.Or(e.cause, cells.CauseUnknown) }

// runCommand runs a shell command within its time limit. If the command failed or took too long, the error is a
// *commandError; if ctx ended, the error is ctx's cause.
func (t *Target) runCommand(
	ctx context.Context, name, command string, limit time.Duration, environment ...string,
) (*process.Tail, error) {
	output := process.NewTail(maxHookLog)
	timeout := &commandError{name: name, reason: fmt.Sprintf("not finished after %s, killed", limit)}
	limited, cancel := context.WithTimeoutCause(ctx, limit, timeout)
	defer cancel()
	err := process.Child{
		Args:   []string{"/bin/sh", "-c", command},
		Env:    append(append(os.Environ(), t.commandEnvironment()...), environment...),
		Stdout: output,
		Stderr: output,
		Grace:  commandGrace,
	}.Run(limited)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return output, nil
	case errors.Is(err, timeout):
		timeout.output = output.LastLine(maxErrorOutput)
		return output, timeout
	case errors.As(err, &exit):
		failure := &commandError{name: name, reason: exit.Error(), output: output.LastLine(maxErrorOutput)}
		if exit.Exited() {
			failure.cause = cells.CauseRelease
		}
		return output, failure
	default:
		return output, err
	}
}

func (t *Target) commandEnvironment() []string {
	folder, err := filepath.EvalSymlinks(t.path(currentLink))
	if err != nil {
		folder = t.path(currentLink)
	}
	return []string{
		"SLUICE_CELL=" + t.options.Cell,
		"SLUICE_CHANNEL=" + t.assignment.Channel,
		"SLUICE_RELEASE=" + t.assignment.Release,
		"SLUICE_DIGEST=" + string(t.assignment.Digest),
		"SLUICE_PROFILE=" + t.assignment.Profile,
		"SLUICE_DIR=" + folder,
		"SLUICE_CURRENT=" + t.path(currentLink),
	}
}

// writeHookLog replaces hook.log. The log is for people to read, so it need not survive a power loss.
func (t *Target) writeHookLog(output *process.Tail) error {
	text := output.Bytes()
	if n := output.Dropped(); n > 0 {
		text = append(fmt.Appendf(nil, "… %d earlier bytes were dropped\n", n), text...)
	}
	const temporary = stagingPrefix + "-log"
	if err := t.writeOwnFile(temporary, text); err != nil {
		return fmt.Errorf("write the hook's output: %w", err)
	}
	if info, err := t.root.Lstat(hookLog); err == nil && info.IsDir() {
		if err := t.root.RemoveAll(hookLog); err != nil { // a rename can't replace a folder
			return fmt.Errorf("write the hook's output: %w", err)
		}
	}
	if err := t.root.Rename(temporary, hookLog); err != nil {
		return fmt.Errorf("write the hook's output: %w", err)
	}
	return nil
}
