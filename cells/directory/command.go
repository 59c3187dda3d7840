package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/process"
)

const (
	maxHookLog     = 64 << 10
	maxErrorOutput = 1 << 10 // bytes of a command's output in an error
	healthGrace    = 300 * time.Millisecond
	exitNotNow     = 75 // EX_TEMPFAIL of sysexits.h

	// What a shell's exit says of a program that it ran.
	cannotExecute = 126
	notFound      = 127
	exitSignalled = 128 // plus the signal that ended it
)

// runHook runs the hook command, if there is one, and logs the end of its output. objects are those of the release that
// is in place. An error is a *commandError, ctx's cause, or a *cells.UnavailableError if the hook could not be run or
// asks to be run later.
func (t *Target) runHook(ctx context.Context, reason string, objects []cells.Object) error {
	end, err := t.begin()
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	defer end()
	if t.options.Hook == "" {
		if len(objects) == 0 {
			return nil
		}
		if err := t.recordObjects(objects); err != nil {
			return &cells.UnavailableError{Cause: err}
		}
		return nil
	}
	gone, err := t.writeGone(objects)
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	t.hookPending = true
	err = t.runMarkedHook(ctx, "SLUICE_REASON="+reason, "SLUICE_GONE="+gone)
	var failed *commandError
	switch {
	case err == nil && len(objects) > 0:
		if err := t.recordObjects(objects); err != nil {
			return &cells.UnavailableError{Cause: err}
		}
		fallthrough
	case err == nil:
		t.hookPending, t.interrupted = false, false
	case !errors.As(err, &failed):
	case failed.notNow:
		return &cells.UnavailableError{Cause: err}
	case t.interrupted: // it may have met what the interrupted run left behind, such as a lock
		failed.cause, t.interrupted = cells.CauseCell, failed.timedOut
	}
	return err
}

// runMarkedHook runs the hook with a marker, see hookRun. What a hook left behind that had to be ended, or that failed,
// is ended too, or the marker stays for the next call: only a hook that succeeded may leave services.
func (t *Target) runMarkedHook(ctx context.Context, environment ...string) error {
	run, err := t.beginHookRun()
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	defer run.cgroup.Close()
	command := command{name: "hook", text: t.options.Hook, limit: t.options.HookTimeout, grace: t.options.HookGrace,
		supervisor: t.options.Supervisor, cgroup: run.cgroup}
	output, err := t.runCommand(ctx, command, append(environment, run.variable())...)
	if logErr := t.writeHookLog(output); logErr != nil {
		t.warn(logErr)
	}
	if cut := new(commandError); context.Cause(ctx) != nil && err != nil || errors.As(err, &cut) && cut.timedOut {
		run.kill()
		return err
	}
	if err != nil {
		if left := run.stop(ctx, t.options.HookGrace); left != nil {
			t.warn(left)
			return err
		}
	}
	if markerErr := t.removeHookMarker(); err == nil && markerErr != nil {
		err = &cells.UnavailableError{Cause: markerErr} // left there, it would end what the hook started
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
	run := newHookRun()
	_, err := t.runCommand(ctx, command{name: "health command", text: t.options.Health, limit: t.options.HealthTimeout,
		grace: healthGrace}, run.variable())
	var failed *commandError
	if errors.As(err, &failed) && failed.timedOut {
		run.kill() // what left the process group
	}
	switch {
	case failed == nil:
		return err
	case failed.notNow:
		return &cells.UnavailableError{Cause: err}
	}
	return &cells.Unhealthy{Reason: failed.Error()}
}

type commandError struct {
	name   string
	reason string
	cause  cells.Cause // empty: unknown
	notNow bool        // the command can't do it now, or others ended it: later may be better
	output string      // the end of it

	timedOut bool // it was killed after its time limit
}

func (e *commandError) Error() string {
	if e.output == "" {
		return e.name + ": " + e.reason
	}
	return e.name + ": " + e.reason + ": " + e.output
}

func (e *commandError) FailureCause() cells.Cause { return cmp.Or(e.cause, cells.CauseUnknown) }

// isMachines reports whether the machine ended a command or kept it from running: it was ended from outside, by the
// kernel for want of memory, by a person or by a service manager; or the shell says so of a program of the command, or
// that it could not run one.
func isMachines(exit *exec.ExitError) bool {
	s, ok := exit.Sys().(syscall.WaitStatus)
	if !ok {
		return false
	}
	signal := s.Signal()
	switch code := s.ExitStatus(); {
	case code == cannotExecute || code == notFound:
		return true
	case code > exitSignalled:
		signal = syscall.Signal(code - exitSignalled)
	}
	return slices.Contains([]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}, signal)
}

// command is a shell command with its limits.
type command struct {
	name       string // for messages
	text       string
	limit      time.Duration
	grace      time.Duration // between telling it to end and killing it
	supervisor []string
	cgroup     *process.Cgroup
}

// runCommand runs a command within its time limit. If the command failed or took too long, the error is a
// *commandError; if it could not be started, a *cells.UnavailableError; if ctx ended, the error is ctx's cause.
func (t *Target) runCommand(ctx context.Context, c command, environment ...string) (*process.Tail, error) {
	output := process.NewTail(maxHookLog)
	timeout := &commandError{name: c.name, timedOut: true,
		reason: fmt.Sprintf("not finished after %s, killed", c.limit)}
	limited, cancel := context.WithTimeoutCause(ctx, c.limit, timeout)
	defer cancel()
	err := process.Child{
		Args:       []string{"/bin/sh", "-c", c.text},
		Env:        slices.Concat(os.Environ(), t.commandEnvironment(), environment),
		Stdout:     output,
		Stderr:     output,
		Grace:      c.grace,
		Supervisor: c.supervisor,
		Cgroup:     c.cgroup,
	}.Run(limited)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return output, nil
	case errors.Is(err, timeout):
		timeout.output = output.LastLine(maxErrorOutput)
		return output, timeout
	case errors.As(err, &exit):
		failure := &commandError{name: c.name, reason: exit.Error(), output: output.LastLine(maxErrorOutput)}
		if exit.Exited() {
			failure.cause = cells.CauseRelease
		}
		failure.notNow = exit.ExitCode() == exitNotNow || isMachines(exit)
		return output, failure
	case context.Cause(ctx) != nil:
		return output, err
	default:
		return output, &cells.UnavailableError{Cause: fmt.Errorf("%s: %w", c.name, err)}
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
	temporary := path.Join(ownDir, "log")
	err := t.root.RemoveAll(temporary)
	if err == nil {
		err = t.root.WriteFile(temporary, text, 0o600)
	}
	if err == nil {
		err = t.root.Rename(temporary, hookLog)
	}
	if err != nil {
		return fmt.Errorf("what the hook printed is not kept: %w", err)
	}
	return nil
}
