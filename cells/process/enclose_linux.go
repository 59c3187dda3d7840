package process

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// Command returns the command of a supervisor for Child, given the program's command whose body RunEnclosed is.
func (e Enclosure) Command(program ...string) ([]string, error) {
	text, err := json.Marshal(e)
	return append(program, string(text)), err
}

// RunEnclosed runs a command as Supervise does, and kills all that is below this process when the command ends, or when
// this process is told to end (SIGTERM): nothing that the command started survives it, whatever session it moved to.
func RunEnclosed(enclosure string, args []string) (int, error) {
	var e Enclosure
	if err := json.Unmarshal([]byte(enclosure), &e); err != nil {
		return 0, fmt.Errorf("enclose a command: %w", err)
	}
	runtime.LockOSThread() // the command is killed when this thread ends
	defer runtime.UnlockOSThread()
	if err := adoptOrphans(); err != nil {
		return 0, err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	// Caught, not ignored: the command would inherit that, and a shell's ^C would end nothing.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // the cell's owner permitted it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if e.Terminal {
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	}
	if e.User != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: e.User.ID, Gid: e.User.Group, Groups: e.User.Groups}
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("enclose a command: %w", err)
	}
	ended, allEnded := reap(cmd.Process.Pid)
	code := 128 + int(syscall.SIGKILL)
	select {
	case status := <-ended:
		if code = status.ExitStatus(); status.Signaled() {
			code = 128 + int(status.Signal())
		}
	case <-told:
	}
	killBelow(allEnded)
	return code, nil
}
