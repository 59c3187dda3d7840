// Package process runs child processes within limits: hooks, health commands and renders.
//
// A child runs in a process group of its own, so that ending the child ends all that it started. It gets exactly the
// environment that it is given, and on Linux it is killed with its parent. Its output goes to writers that the caller
// bounds (Tail, LimitedBuffer). The package never retries, never logs and never interprets a child's output.
//
// Invariant: when Run returns an error because its context ended, no process of the group runs any more. A child that
// ended by itself may leave services running, which are not touched. Run may be called from several goroutines.
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

// outputDelay is how long a child's output is still read after the child ended, if a process that it left behind still
// holds the pipe.
const outputDelay = 250 * time.Millisecond

// Child is a program to run.
type Child struct {
	Args   []string      // required: the program (a path, or a name to look up) and its arguments
	Env    []string      // the whole environment; nil: empty
	Dir    string        // working directory; empty: the caller's
	Stdin  io.Reader     // nil: none
	Stdout io.Writer     // nil: discarded
	Stderr io.Writer     // nil: discarded; may be the same as Stdout
	Grace  time.Duration // between SIGTERM and SIGKILL once the context ended; zero: SIGKILL at once
}

// Run runs c to its end. The error is the context's cause if the context ended c, and an *exec.ExitError if c failed by
// itself.
func (c Child) Run(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// The parent-death signal is sent when the thread that started the child ends: the thread must live as long as the
	// child.
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
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) // processes that the leader left behind
		return cause
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // the child succeeded; a service that it left behind still holds the output
	}
	return err
}

// signalGroup signals a process group. A group that is gone is no error.
func signalGroup(leader int, s syscall.Signal) error {
	if err := syscall.Kill(-leader, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
