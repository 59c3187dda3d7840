package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// CanSupervise reports whether Supervise works here.
func CanSupervise() bool { return true }

const prSetChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER of prctl(2)

// killPause is between two rounds of killing: what forks meanwhile is found in the next one.
const killPause = 10 * time.Millisecond

// Supervise runs a command as this process's only child and returns the exit status that this process should end with.
// Every orphan below the process becomes its child, whatever session it moved to. When the command ends by itself, what
// it left running goes on. When this process is told to end (SIGTERM, SIGINT, SIGHUP), it tells its process group to,
// and waits for everything below it. What is left after grace is killed.
func Supervise(grace time.Duration, args []string) (int, error) {
	runtime.LockOSThread() // the command is killed when this thread ends
	defer runtime.UnlockOSThread()
	if err := adoptOrphans(); err != nil {
		return 0, err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // the agent's owner says what runs
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("supervise a command: %w", err)
	}
	ended, allEnded := reap(cmd.Process.Pid)
	select {
	case status := <-ended:
		return exitAs(status), nil
	case <-told:
	}
	_ = syscall.Kill(0, syscall.SIGTERM) // the group, in which the command is; this process was told already
	patience := time.After(grace)
	select {
	case <-allEnded:
		return 128 + int(syscall.SIGTERM), nil
	case <-patience:
	}
	killBelow(allEnded)
	return 128 + int(syscall.SIGKILL), nil
}

// killBelow kills all that is below this process, until allEnded is closed. The parent kills this process if that does
// not come: another user's process can't be ended.
func killBelow(allEnded <-chan struct{}) {
	for {
		for _, pid := range descendants(os.Getpid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
		}
		select {
		case <-allEnded:
			return
		case <-time.After(killPause):
		}
	}
}

// adoptOrphans makes every orphan below this process its child.
func adoptOrphans() error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("supervise a command: %w", errno)
	}
	return nil
}

// reap waits for children until there are none. ended receives the status of the leader; all is closed at the end, when
// nothing is below this process any more.
func reap(leader int) (ended <-chan syscall.WaitStatus, all <-chan struct{}) {
	first, rest := make(chan syscall.WaitStatus, 1), make(chan struct{})
	go func() {
		defer close(rest)
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, 0, nil)
			switch {
			case errors.Is(err, syscall.EINTR):
			case err != nil: // ECHILD
				return
			case pid == leader:
				first <- status
			}
		}
	}()
	return first, rest
}

// exitAs returns the exit status of a command that ended by itself. If a signal ended it, the same one ends this
// process, so that its parent sees what happened.
func exitAs(status syscall.WaitStatus) int {
	if !status.Signaled() {
		return status.ExitStatus()
	}
	switch s := status.Signal(); s {
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP:
		signal.Reset(s)
		if syscall.Kill(os.Getpid(), s) == nil {
			time.Sleep(time.Second) // it arrives before
		}
	}
	return 128 + int(status.Signal())
}
