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
	"os"
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

	cmd, err := c.start()
	if err != nil && c.Cgroup != nil { // a kernel before 5.7, say
		c.Cgroup = nil
		cmd, err = c.start()
	}
	if err != nil {
		return err
	}
	stop := c.endWith(ctx, cmd.Process)
	err = cmd.Wait()
	told := stop()
	switch cause := context.Cause(ctx); {
	case told, cause != nil && err != nil && c.Whole: // its output was still waited for
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) // processes that the leader left behind
		return cause
	case errors.Is(err, exec.ErrWaitDelay) && !c.Whole:
		return nil // the child succeeded; a service that it left behind still holds the output
	}
	return err
}

// start starts the child.
func (c Child) start() (*exec.Cmd, error) {
	args := c.Args
	if len(c.Supervisor) > 0 {
		args = slices.Concat(c.Supervisor, []string{c.Grace.String()}, c.Args)
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // the agent's owner says what runs
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Dir = c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.SysProcAttr = newProcessGroup(len(c.Supervisor) > 0)
	c.Cgroup.assign(cmd.SysProcAttr)
	cmd.WaitDelay = outputDelay // from the child's end on: exec does not know the context
	if c.Whole {
		cmd.WaitDelay = wholeDelay
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return cmd, nil
}

// endWith has the child told to end, and killed after its grace, once ctx ended. A child that has ended by then, with
// its output held by what it left behind, is not told. stop, which is called once the child was waited for, ends this
// and reports whether the child was told.
func (c Child) endWith(ctx context.Context, p *os.Process) (stop func() (told bool)) {
	grace, supervised := c.Grace, len(c.Supervisor) > 0
	if supervised {
		grace += supervisorMargin
	}
	var told bool
	var killer *time.Timer
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		told = p.Signal(syscall.Signal(0)) == nil
		switch {
		case !told:
			return
		case grace <= 0:
			_ = signalGroup(p.Pid, syscall.SIGKILL)
			return
		}
		killer = time.AfterFunc(grace, func() { _ = signalGroup(p.Pid, syscall.SIGKILL) })
		if supervised {
			_ = p.Signal(syscall.SIGTERM) // it passes this on to all, once
		} else {
			_ = signalGroup(p.Pid, syscall.SIGTERM)
		}
	})
	return func() bool {
		if cancel() {
			return false
		}
		<-done
		if killer != nil {
			killer.Stop()
		}
		return told
	}
}

// signalGroup signals a process group. A group that is gone is no error.
func signalGroup(leader int, s syscall.Signal) error {
	if err := syscall.Kill(-leader, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
