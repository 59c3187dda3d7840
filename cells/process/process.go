// Package process runs child processes within limits: hooks, health commands, renders and
// credential helpers.
//
// A child runs in a process group of its own, so that ending the child ends all that it started. It gets exactly the
// environment that it is given, and on Linux it is killed with its parent. Its output goes to writers that the caller
// bounds (Tail, LimitedBuffer). The package never retries, never logs and never interprets a child's output.
//
// What a child starts in a session of its own (setsid, sudo, docker run) has left the group. Under a supervisor it is
// ended nevertheless: Supervise is the body of a small program between the caller and the child, to which orphans
// return. Where the caller may make control groups, a Cgroup ends even what the caller may not signal.
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
	"slices"
	"syscall"
	"time"
)

// outputDelay is how long a child's output is still read after the child ended, if a process that it left behind still
// holds the pipe.
const outputDelay = 250 * time.Millisecond

// wholeDelay is outputDelay for a child whose whole output is needed: on a busy machine, this process may read the last
// of it late.
const wholeDelay = time.Minute

// Child is a program to run.
type Child struct {
	Args   []string      // required: the program (a path, or a name to look up) and its arguments
	Env    []string      // the whole environment; nil: empty
	Dir    string        // working directory; empty: the caller's
	Stdin  io.Reader     // nil: none
	Stdout io.Writer     // nil: discarded
	Stderr io.Writer     // nil: discarded; may be the same as Stdout
	Whole  bool          // all that it writes is needed: it is an error if that is not read to its end
	Grace  time.Duration // between SIGTERM and SIGKILL once the context ended; zero: SIGKILL at once

	Supervisor []string // command of a program that calls Supervise with the arguments that follow; empty: none
	Cgroup     *Cgroup  // the control group of the child and of all that it starts; nil: the caller's
}

// supervisorMargin is the time that a supervisor has, after its child's grace, to kill what is left.
const supervisorMargin = 3 * time.Second

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

	cmd, reaper, err := c.start(ctx)
	if err != nil && c.Cgroup != nil { // a kernel before 5.7, say
		c.Cgroup = nil
		cmd, reaper, err = c.start(ctx)
	}
	if err != nil {
		return err
	}
	err = cmd.Wait()
	reaper.stop()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) // processes that the leader left behind
		return cause
	}
	if errors.Is(err, exec.ErrWaitDelay) && !c.Whole {
		return nil // the child succeeded; a service that it left behind still holds the output
	}
	return err
}

// start starts the child; it is told to end, and killed after its grace, once ctx ended.
func (c Child) start(ctx context.Context) (*exec.Cmd, *killTimer, error) {
	args, grace := c.Args, c.Grace
	if len(c.Supervisor) > 0 {
		args = slices.Concat(c.Supervisor, []string{c.Grace.String()}, c.Args)
		grace += supervisorMargin
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the agent's owner says what runs
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Dir = c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.SysProcAttr = newProcessGroup(len(c.Supervisor) > 0)
	c.Cgroup.assign(cmd.SysProcAttr)
	cmd.WaitDelay = grace + outputDelay
	if c.Whole {
		cmd.WaitDelay = grace + wholeDelay
	}
	reaper := &killTimer{}
	cmd.Cancel = func() error {
		if grace <= 0 {
			return signalGroup(cmd.Process.Pid, syscall.SIGKILL)
		}
		reaper.timer = time.AfterFunc(grace, func() { _ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) })
		if len(c.Supervisor) > 0 {
			return cmd.Process.Signal(syscall.SIGTERM) // it passes this on to all, once
		}
		return signalGroup(cmd.Process.Pid, syscall.SIGTERM)
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return cmd, reaper, nil
}

// killTimer kills a child after its grace. Cancel of an exec.Cmd has returned before Wait returns.
type killTimer struct{ timer *time.Timer }

func (k *killTimer) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

// signalGroup signals a process group. A group that is gone is no error.
func signalGroup(leader int, s syscall.Signal) error {
	if err := syscall.Kill(-leader, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
