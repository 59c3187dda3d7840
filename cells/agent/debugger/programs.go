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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

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
	child := process.Child{Args: what.args, Dir: "/", Cgroup: process.NewCgroup("sluice-debug-" + p.id),
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + a.home,
			"USER=" + a.name, "LOGNAME=" + a.name, "SHELL=" + shell(), "LANG=C.UTF-8", sessionVariable + "=" + p.id}}
	if info, err := os.Stat(a.home); err == nil && info.IsDir() && what.terminal != nil {
		child.Dir = a.home
	}
	stop := p.sweepAt(ctx, child.Cgroup)
	defer child.Cgroup.Close()
	defer stop()
	sweep := func() { p.sweep(child.Cgroup) }
	child.Supervisor, err = process.Enclosure{Terminal: what.terminal != nil, User: a.id}.Command(p.enclose...)
	switch {
	case err != nil:
	case what.terminal != nil:
		err = runInTerminal(ctx, child, what, c, a, sweep)
	default:
		err = runInPipes(ctx, child, what, sweep)
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

// encloserTime is what the encloser of a command has to end all below it, before it is killed itself.
const encloserTime = 300 * time.Millisecond

// sweepAt has a command and all that it started killed once ctx ended, also if the person stopped or killed what
// encloses it (D2). The function that it returns ends the waiting.
func (p *programs) sweepAt(ctx context.Context, group *process.Cgroup) (stop func()) {
	over := make(chan struct{})
	ended := make(chan struct{})
	context.AfterFunc(ctx, group.Kill)
	go func() {
		defer close(ended)
		select {
		case <-over:
			return
		case <-ctx.Done():
		}
		select {
		case <-over:
		case <-time.After(encloserTime):
			p.sweep(group)
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// sweepTime bounds how long sweep looks for what was started while it killed, and waits for what it killed to end: on a
// busy machine, a process that was killed waits for a core to end on. sweepPause is between two looks.
const (
	sweepTime  = 400 * time.Millisecond
	sweepPause = 10 * time.Millisecond
)

// sweep kills what is left: usually nothing, unless the person killed what encloses the command.
func (p *programs) sweep(group *process.Cgroup) {
	group.Kill()
	for began := time.Now(); ; time.Sleep(sweepPause) {
		left := process.WithEnvironment(sessionVariable + "=" + p.id)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
		}
		if len(left) == 0 || time.Since(began) > sweepTime {
			return
		}
	}
}

// quiet is how long the output of a command that has ended may be silent before it counts as whole: a process that
// can't be found may hold it open.
const quiet = time.Second

// outputOf passes on what is written to the other end of a pipe or terminal, whoever holds that open.
type outputOf struct {
	ctx    context.Context
	near   *os.File // its reads can be given a deadline
	exited atomic.Bool
	done   chan struct{}
}

func passOn(ctx context.Context, near *os.File, to io.Writer) *outputOf {
	o := &outputOf{ctx: ctx, near: near, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		defer context.AfterFunc(ctx, func() { _ = near.SetReadDeadline(time.Now()) })()
		_, _ = io.Copy(to, readerFunc(func(b []byte) (int, error) {
			if o.exited.Load() {
				_ = near.SetReadDeadline(time.Now().Add(quiet))
			}
			if ctx.Err() != nil {
				return 0, io.EOF
			}
			return near.Read(b)
		})) // until no process has the other end, or what is written can't be passed on
	}()
	return o
}

// finish returns once the output of a command that has ended was passed on, or soon after the context ended.
func (o *outputOf) finish() {
	o.exited.Store(true)
	_ = o.near.SetReadDeadline(time.Now().Add(quiet))
	if o.ctx.Err() != nil {
		_ = o.near.SetReadDeadline(time.Now())
	}
	<-o.done
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// runInPipes runs a child whose input and output are pipes, and sweeps once it has ended.
func runInPipes(ctx context.Context, child process.Child, what program, sweep func()) error {
	var ends []io.Closer
	closeAll := func() {
		for _, e := range ends {
			_ = e.Close() // a second time, some of them
		}
	}
	defer closeAll()
	pipe := func() (near, far *os.File, err error) {
		if near, far, err = os.Pipe(); err != nil {
			return nil, nil, fmt.Errorf("open a pipe: %w", err)
		}
		ends = append(ends, near, far)
		return near, far, nil
	}
	out, outEnd, err := pipe()
	if err != nil {
		return err
	}
	errs, errEnd, err := pipe()
	if err != nil {
		return err
	}
	child.Stdout, child.Stderr = outEnd, errEnd
	if what.in != nil {
		near, far, err := pipe()
		if err != nil {
			return err
		}
		child.Stdin = near
		go func() {
			_, _ = io.Copy(far, what.in) // until the person's end is done, or the pipe is closed
			_ = far.Close()
		}()
	}
	outputs := []*outputOf{passOn(ctx, out, what.out), passOn(ctx, errs, what.err)}
	err = child.Run(ctx)
	_, _ = outEnd.Close(), errEnd.Close() // the child's are its own
	sweep()
	for _, o := range outputs {
		o.finish()
	}
	return err
}

// openTerminal opens a terminal whose near end can be read with a deadline, and closed while it is read.
func openTerminal() (near, far *os.File, err error) {
	blocking, far, err := pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	defer func() { _ = blocking.Close() }()
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true) // before NewFile, which looks at it
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open a terminal: %w", err), far.Close())
	}
	return os.NewFile(uintptr(fd), blocking.Name()), far, nil //nolint:gosec // descriptors are small and positive
}

// runInTerminal runs a child in a terminal of its own, and sweeps once it has ended.
func runInTerminal(ctx context.Context, child process.Child, what program, c *channel, a account, sweep func()) error {
	near, far, err := openTerminal()
	if err != nil {
		return err
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
	go c.followSize(what.terminal.size, func(s size) error { return setSize(near, s) }, over)
	go func() {
		if _, err := io.Copy(near, what.in); err == nil { // the person's end is done
			_, _ = near.Write([]byte{4}) // as whoever presses control-D at the end
		}
	}()
	output := passOn(ctx, near, what.out)
	err = child.Run(ctx)
	close(over)
	_ = far.Close()
	sweep()
	output.finish()
	return err
}

func setSize(of *os.File, s size) error {
	raw, err := of.SyscallConn() // (*os.File).Fd would make it blocking
	if err != nil {
		return fmt.Errorf("set a terminal's size: %w", err)
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		size := unix.Winsize{Row: uint16(s.Rows), Col: uint16(s.Columns)} //nolint:gosec // bounded
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &size)       //nolint:gosec // a descriptor
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("set a terminal's size: %w", err)
	}
	return nil
}

// followSize changes the terminal's size with the person's, not often, until it is over.
func (c *channel) followSize(first size, set func(size) error, over <-chan struct{}) {
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
		ok = record(s) && set(s) == nil
	}
}
