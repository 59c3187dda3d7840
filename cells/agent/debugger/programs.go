package debugger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/creack/pty"

	"github.com/sluice-cd/sluice/cells/process"
)

// sessionVariable is in the environment of all that a session runs, and names the session's request.
const sessionVariable = "SLUICE_DEBUG"

// resizePause is between two changes of a terminal's size.
const resizePause = 50 * time.Millisecond

// programs runs the commands and shells of one session.
type programs struct {
	enclose []string // command of the program whose body is process.RunEnclosed
	id      string   // of the request
	user    string   // empty: the agent's own
}

// program is one command.
type program struct {
	args     []string
	in       io.Reader // nil: nothing
	out, err io.Writer
	terminal *terminal // nil: pipes
}

// account is a user as whom programs run.
type account struct {
	name, home string
	id         *process.User // nil: the agent's own
}

// lookUp returns the account whose user the owner chose.
func (p *programs) lookUp() (account, error) {
	u, err := user.Current()
	if err != nil {
		return account{}, fmt.Errorf("find the agent's user: %w", err)
	}
	a := account{name: u.Username, home: u.HomeDir}
	if p.user == "" || p.user == u.Username {
		return a, nil
	}
	own := u.Username
	if u, err = user.Lookup(p.user); err != nil {
		return account{}, fmt.Errorf("find the user %s, which the owner chose: %w", p.user, err)
	}
	if os.Geteuid() != 0 {
		return account{}, fmt.Errorf("the agent runs as %s and can't become %s, which the owner chose: ask the owner to "+
			"approve without --user, or to run the agent as root", own, p.user)
	}
	a = account{name: u.Username, home: u.HomeDir, id: &process.User{}}
	groups, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("find the groups of %s: %w", p.user, err)
	}
	numbers := []*uint32{&a.id.ID, &a.id.Group}
	a.id.Groups = make([]uint32, len(groups))
	for i := range groups {
		numbers = append(numbers, &a.id.Groups[i])
	}
	for i, text := range append([]string{u.Uid, u.Gid}, groups...) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("find the user %s: %w", p.user, err)
		}
		*numbers[i] = uint32(n)
	}
	return a, nil
}

// shell returns the shell of sessions.
func shell() string {
	for _, name := range []string{"/bin/bash", "/usr/bin/bash"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return "/bin/sh"
}

// runShell runs a shell, or one line in it.
func (p *programs) runShell(ctx context.Context, c *channel, line string) int {
	args := []string{shell(), "-l"}
	if line != "" {
		args = []string{shell(), "-c", line}
	}
	return p.run(ctx, program{args: args, in: c.in, out: c.out, err: c.err, terminal: c.terminal}, c)
}

// run runs a program to its end, and returns its exit code. When it returns, nothing that the program started is alive.
func (p *programs) run(ctx context.Context, what program, c *channel) int {
	a, err := p.lookUp()
	if err != nil {
		c.say(err.Error())
		return codeRefused
	}
	if len(p.enclose) == 0 {
		c.say("the agent can't run commands here: on this system, it could not end all that they start")
		return codeRefused
	}
	child := process.Child{Args: what.args, Dir: "/", Whole: true, Cgroup: process.NewCgroup("sluice-debug-" + p.id),
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + a.home,
			"USER=" + a.name, "LOGNAME=" + a.name, "SHELL=" + shell(), "LANG=C.UTF-8", sessionVariable + "=" + p.id}}
	if info, err := os.Stat(a.home); err == nil && info.IsDir() && what.terminal != nil {
		child.Dir = a.home
	}
	defer p.sweep(child.Cgroup)
	child.Supervisor, err = process.Enclosure{Terminal: what.terminal != nil, User: a.id}.Command(p.enclose...)
	switch {
	case err != nil:
	case what.terminal != nil:
		err = runInTerminal(ctx, child, what, c, a)
	default:
		err = runInPipes(ctx, child, what)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return codeEnded
	case errors.As(err, &exit):
		if code := exit.ExitCode(); code >= 0 {
			return code
		}
		return codeEnded
	}
	c.say(err.Error())
	return codeRefused
}

// sweep kills what is left: usually nothing, unless the person killed what encloses the command.
func (p *programs) sweep(group *process.Cgroup) {
	group.Kill()
	for _, pid := range process.WithEnvironment(sessionVariable + "=" + p.id) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
	}
	group.Close()
}

// runInPipes runs a child whose input and output are pipes.
func runInPipes(ctx context.Context, child process.Child, what program) error {
	child.Stdout, child.Stderr = what.out, what.err
	if what.in == nil {
		return child.Run(ctx)
	}
	near, far, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	defer func() { _ = near.Close() }()
	child.Stdin = near
	go func() {
		_, _ = io.Copy(far, what.in) // until the person's end is done, or the pipe is closed
		_ = far.Close()
	}()
	defer func() { _ = far.Close() }()
	return child.Run(ctx)
}

// runInTerminal runs a child in a terminal of its own.
func runInTerminal(ctx context.Context, child process.Child, what program, c *channel, a account) error {
	near, far, err := pty.Open()
	if err != nil {
		return fmt.Errorf("open a terminal: %w", err)
	}
	defer func() { _ = near.Close() }()
	if err := setSize(near, what.terminal.size); err != nil {
		return errors.Join(err, far.Close())
	}
	if a.id != nil {
		if err := far.Chown(int(a.id.ID), -1); err != nil {
			return errors.Join(fmt.Errorf("prepare a terminal: %w", err), far.Close())
		}
	}
	child.Env = append(child.Env, "TERM="+what.terminal.name)
	child.Stdin, child.Stdout, child.Stderr = far, far, far
	over := make(chan struct{})
	written := make(chan struct{})
	go c.followSize(near, what.terminal.size, over)
	go func() {
		if _, err := io.Copy(near, what.in); err == nil { // the person's end is done
			_, _ = near.Write([]byte{4}) // as whoever presses control-D at the end
		}
	}()
	go func() {
		defer close(written)
		_, _ = io.Copy(what.out, near) // until no process has the terminal, or what is written can't be passed on
	}()
	err = child.Run(ctx)
	close(over)
	_ = far.Close()
	<-written
	return err
}

func setSize(of *os.File, s size) error {
	if err := pty.Setsize(of, &pty.Winsize{Rows: uint16(s.Rows), Cols: uint16(s.Columns)}); err != nil {
		return fmt.Errorf("set a terminal's size: %w", err)
	}
	return nil
}

// followSize changes the terminal's size with the person's, not often, until it is over.
func (c *channel) followSize(of *os.File, first size, over <-chan struct{}) {
	record := func(s size) bool {
		return c.session.recorder.add(eventResize, fmt.Appendf(nil, "%dx%d", s.Columns, s.Rows)) == nil
	}
	for s, ok := first, record(first); ok; {
		select {
		case <-over:
			return
		case <-time.After(resizePause):
		}
		select {
		case <-over:
			return
		case s = <-c.resized:
		}
		ok = record(s) && setSize(of, s) == nil
	}
}
