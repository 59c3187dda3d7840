package debugger

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

const (
	maxCommandLine = 32 << 10 // bytes
	maxSide        = 1000     // columns or rows of a terminal

	// Exit codes of commands that did not run, as shells have them.
	codeRefused = 126
	codeUsage   = 2
	codeEnded   = 255
)

// size is a terminal's, in characters.
type size struct{ Columns, Rows uint32 }

func (s size) bounded() size {
	return size{max(1, min(s.Columns, maxSide)), max(1, min(s.Rows, maxSide))}
}

// terminal is what the person's end said of its terminal.
type terminal struct {
	name string // such as xterm-256color
	size size
}

// channel is an open session channel: one command, one shell, or one prompt for declared commands.
type channel struct {
	session  *session
	channel  ssh.Channel
	in       *recordedReader
	out, err *recordedWriter
	terminal *terminal   // nil: the person has none
	input    *typedInput // what is typed at the terminal, but to a shell; nil: nothing is
	resized  chan size   // buffer of one: the newest size that was not applied yet
}

func newChannel(s *session, ch ssh.Channel) *channel {
	return &channel{session: s, channel: ch, resized: make(chan size, 1),
		in:  &recordedReader{recorder: s.recorder, from: ch},
		out: &recordedWriter{recorder: s.recorder, to: ch},
		err: &recordedWriter{recorder: s.recorder, to: ch.Stderr()}}
}

// order is what the person's end asked to run.
type order struct {
	line  string
	shell bool
}

// errChannelClosed cancels what runs when the person's end closes the channel, or signals the command.
var errChannelClosed = errors.New("the person ended it")

// serve serves the channel to its end. The caller closes it.
func (c *channel) serve(ctx context.Context, requests <-chan *ssh.Request) {
	channelCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	orders := make(chan order, 1)
	go func() {
		c.answer(requests, orders, cancel)
		cancel(errChannelClosed)
	}()
	select {
	case <-channelCtx.Done():
		return
	case o := <-orders:
		code := c.run(channelCtx, o)
		if ctx.Err() != nil {
			c.say("the debug session ended: " + context.Cause(ctx).Error())
			code = codeEnded
		}
		c.out.flush()
		c.err.flush()
		_, _ = c.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)})) //nolint:gosec // 0 to 255
	}
}

// answer answers the channel's requests until the channel is closed.
func (c *channel) answer(requests <-chan *ssh.Request, orders chan<- order, cancel context.CancelCauseFunc) {
	ordered := false
	for r := range requests {
		ok := false
		switch r.Type {
		case "pty-req":
			var p struct {
				Term                         string
				Columns, Rows, Width, Height uint32
				Modes                        string
			}
			if ok = !ordered && ssh.Unmarshal(r.Payload, &p) == nil; ok {
				c.terminal = &terminal{cleanTerm(p.Term), size{p.Columns, p.Rows}.bounded()}
			}
		case "window-change":
			var p struct{ Columns, Rows, Width, Height uint32 }
			if ok = ssh.Unmarshal(r.Payload, &p) == nil; ok {
				select { // the newest counts
				case <-c.resized:
				default:
				}
				c.resized <- size{p.Columns, p.Rows}.bounded() // only this goroutine sends
			}
		case "shell", "exec":
			var p struct{ Line string }
			if ok = !ordered && (r.Type == "shell" || ssh.Unmarshal(r.Payload, &p) == nil) &&
				len(p.Line) <= maxCommandLine; ok {
				ordered = true
				orders <- order{p.Line, r.Type == "shell"}
			}
		case "signal":
			ok = ordered
			cancel(errChannelClosed)
		}
		if r.WantReply {
			_ = r.Reply(ok, nil) // an error means a closed channel
		}
	}
}

// cleanTerm returns the name of a terminal, if it is one.
func cleanTerm(name string) string {
	if name == "" || len(name) > 40 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-+._") != "" {
		return "dumb"
	}
	return name
}

// say tells the person something beside the output, on the record.
func (c *channel) say(text string) {
	end := "\n"
	if c.terminal != nil {
		end = "\r\n"
	}
	c.err.verbatim("sluice: " + text + end)
}

// run does what the person's end asked for, as far as the permission covers it, and returns the exit code.
func (c *channel) run(ctx context.Context, o order) int {
	s := c.session
	switch {
	case s.request.Scope == debug.Shell && (o.shell || strings.TrimSpace(o.line) == "") && s.permission.PerCommand:
		c.say("the owner permits single commands only: name one")
		return codeRefused
	case s.request.Scope == debug.Shell:
		what := o.line
		if o.shell || what == "" {
			what = "a shell"
		}
		if s.permission.Pod != nil {
			what += ", in the " + s.permission.Pod.String()
		}
		if !c.mark(what) || !c.isAllowed(ctx, []string{what}) {
			return codeRefused
		}
		if s.permission.Pod != nil {
			return c.runInPod(ctx, o.line)
		}
		return s.programs.runShell(ctx, c, o.line)
	}
	if c.terminal != nil {
		c.out.crlf, c.err.crlf = true, true
		c.input = readTyped(c.in)
		defer c.input.close()
	}
	if o.shell {
		return c.prompt(ctx)
	}
	return c.runLine(ctx, o.line)
}

// mark records what is about to run, and reports whether it could be recorded.
func (c *channel) mark(what string) bool {
	return c.session.recorder.add(eventMarker, []byte(what)) == nil
}

// isAllowed asks the owner, if the permission is for each command.
func (c *channel) isAllowed(ctx context.Context, command []string) bool {
	s := c.session
	if !s.permission.PerCommand {
		return true
	}
	c.say("waiting for the owner's answer")
	ok, err := s.permit.ask(ctx, command)
	switch {
	case err != nil && ctx.Err() == nil:
		c.say("the owner can't be asked: " + err.Error())
	case err == nil && !ok:
		c.say("the owner refuses this command")
	}
	return err == nil && ok
}

// runDeclared runs one of the commands that the release declares.
func (c *channel) runDeclared(ctx context.Context, line string) int {
	s := c.session
	only := s.request.Scope.Command()
	if strings.TrimSpace(line) == diagnostics.HelpCommand {
		_, _ = io.WriteString(c.out, s.commands().Help(only)) // an error ends the session by itself
		return 0
	}
	r, err := s.commands().Resolve(line)
	switch {
	case err != nil:
		c.say(err.Error())
		return codeUsage
	case only != "" && r.Command.Name != only:
		c.say("this session may run " + only + " only")
		return codeRefused
	case !c.isAllowed(ctx, r.Args):
		return codeRefused
	}
	return c.runBounded(ctx, bounds{r.Command.Name, r.Timeout, r.Output},
		func(ctx context.Context, out, errs io.Writer) int {
			return s.programs.run(ctx, program{args: r.Args, out: out, err: errs}, c)
		})
}

// outputLimit bounds what a command writes.
type outputLimit struct {
	left atomic.Int64
	full func()
}

type limitedWriter struct {
	limit *outputLimit
	to    io.Writer
}

func (l *outputLimit) of(to io.Writer) io.Writer { return &limitedWriter{l, to} }

func (w *limitedWriter) Write(p []byte) (int, error) {
	after := w.limit.left.Add(-int64(len(p)))
	if after >= 0 {
		return w.to.Write(p)
	}
	w.limit.full()
	if rest := after + int64(len(p)); rest > 0 {
		if _, err := w.to.Write(p[:rest]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// prompt runs what may run, one line after the other, until the person leaves.
func (c *channel) prompt(ctx context.Context) int {
	read := c.readLines()
	for ctx.Err() == nil {
		line, err := read()
		if err != nil {
			return 0
		}
		switch line = strings.TrimSpace(line); line {
		case "":
		case "exit", "quit":
			return 0
		default:
			c.runLine(ctx, line)
		}
	}
	return codeEnded
}

// readLines returns a function that reads the person's next line, with a prompt and an editor at a terminal.
func (c *channel) readLines() func() (string, error) {
	if c.terminal == nil {
		lines := bufio.NewScanner(c.in)
		lines.Buffer(nil, maxCommandLine)
		return func() (string, error) {
			if !lines.Scan() {
				return "", errors.Join(lines.Err(), io.EOF)
			}
			return lines.Text(), nil
		}
	}
	editor := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{c.input, c.out}, c.session.request.Cell+"> ")
	_ = editor.SetSize(int(c.terminal.size.Columns), int(c.terminal.size.Rows)) // it writes nothing yet
	return func() (string, error) {
		if c.input.lostSome() {
			c.say("more was typed while the command ran than can wait: the rest of it was dropped")
		}
		c.out.crlf, c.err.crlf = false, false
		line, err := editor.ReadLine()
		c.out.crlf, c.err.crlf = true, true // of the command's output
		return line, err
	}
}
