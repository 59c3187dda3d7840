// Package process runs child processes that can't outlive their welcome: hooks, health
// commands and renders.
//
// A child runs in a process group of its own, so that ending it ends all that it started;
// it gets exactly the environment it is given; and on Linux it is killed with its parent.
// What it writes goes to writers that the caller bounds (Tail, Head). The package never
// retries, never logs and never reads a child's output itself.
//
// Invariant: when Run returns an error because its context ended, nothing of the group
// runs any more. A child that ended by itself may leave services running behind it: those
// are left alone. Run may be called from several goroutines.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// outputDelay is how long a child's output is still read after the child ended, if something
// that it left behind holds on to it.
const outputDelay = 250 * time.Millisecond

// Child is a program to run.
type Child struct {
	Args   []string      // required: the program's absolute path, or a name to look up, and its arguments
	Env    []string      // all of its environment; nil: empty
	Dir    string        // working directory; empty: the caller's
	Stdin  io.Reader     // nil: none
	Stdout io.Writer     // nil: dropped
	Stderr io.Writer     // nil: dropped; may be the same as Stdout
	Grace  time.Duration // between SIGTERM and SIGKILL once the context ended; zero: SIGKILL at once
}

// Run runs c to its end. The error is the context's cause if that ended it, and an
// *exec.ExitError if it failed by itself.
func (c Child) Run(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// The parent-death signal comes when the thread that started the child ends, so that thread is kept.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...) //nolint:gosec // the agent's owner says what runs
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Dir = c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.SysProcAttr = newProcessGroup()
	cmd.WaitDelay = c.Grace + outputDelay
	var reaper *time.Timer
	cmd.Cancel = func() error {
		if c.Grace <= 0 {
			return signalGroup(cmd.Process.Pid, syscall.SIGKILL)
		}
		reaper = time.AfterFunc(c.Grace, func() { _ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) })
		return signalGroup(cmd.Process.Pid, syscall.SIGTERM)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	err := cmd.Wait()
	if reaper != nil {
		reaper.Stop()
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) // what the leader left behind
		return cause
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well; a service that it left behind still holds the output
	}
	return err
}

// signalGroup signals a whole process group. That it is gone already is no error.
func signalGroup(leader int, s syscall.Signal) error {
	if err := syscall.Kill(-leader, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
