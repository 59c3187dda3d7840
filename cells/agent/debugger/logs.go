package debugger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// PodLogs reads logs of the pods of a cluster.
type PodLogs interface {
	// Read writes what was asked for to out, in whole lines, until that is done or ctx ends. It calls say with what the
	// person has to know beside that, such as that a container has no log. An error means that nothing was read.
	Read(ctx context.Context, what diagnostics.LogRead, out io.Writer, say func(string)) error
}

const (
	codeNotRead = 1

	maxLogLine = 64 << 10 // bytes that wait for the end of their line
)

// runLogs lists logs, or reads one (scope logs).
func (c *channel) runLogs(ctx context.Context, line string) int {
	logs := c.session.logs()
	if line = strings.TrimSpace(line); line == diagnostics.HelpCommand || line == diagnostics.LogsCommand {
		_, _ = io.WriteString(c.out, cleantext.Text(logs.Help())) // an error ends the session by itself
		return 0
	}
	what, err := logs.Resolve(line)
	if err != nil {
		c.say(err.Error())
		return codeUsage
	}
	if !c.isAllowed(ctx, strings.Fields(line)) {
		return codeRefused
	}
	b := bounds{what: line, output: diagnostics.MaxLogOutput}
	if !what.Follow { // else until the permission ends
		b.timeout = diagnostics.LogTimeout
	}
	return c.runBounded(ctx, b, func(ctx context.Context, out, errs io.Writer) int {
		clean, cleanErr := &cleanWriter{to: out}, &cleanWriter{to: errs}
		defer clean.flush()
		defer cleanErr.flush()
		switch args := what.Args(); {
		case args != nil:
			return c.session.programs.run(ctx, program{args: args, out: clean, err: cleanErr}, c)
		case what.Log.File != "":
			return c.readFile(ctx, what, clean)
		}
		return c.readPods(ctx, what, clean)
	})
}

func (c *channel) readPods(ctx context.Context, what diagnostics.LogRead, out io.Writer) int {
	if c.session.podLogs == nil {
		c.say(what.Log.Name + " is a log of pods, and this cell is no cluster")
		return codeRefused
	}
	err := c.session.podLogs.Read(ctx, what, out, func(text string) { c.say(cleantext.Line(text)) })
	switch {
	case ctx.Err() != nil:
		return codeEnded
	case err != nil:
		c.say(cleantext.Line(err.Error()))
		return codeNotRead
	}
	return 0
}

// bounds are those of one command.
type bounds struct {
	what    string
	timeout time.Duration // 0: as long as the session
	output  int           // bytes
}

// runBounded runs a command within its bounds, and returns its exit code.
func (c *channel) runBounded(
	ctx context.Context, b bounds, run func(ctx context.Context, out, errs io.Writer) int,
) int {
	late := fmt.Errorf("%s ran for more than %s", b.what, b.timeout)
	if b.timeout > 0 {
		var cancelTimer context.CancelFunc
		ctx, cancelTimer = context.WithTimeoutCause(ctx, b.timeout, late)
		defer cancelTimer()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	full := fmt.Errorf("%s wrote more than %d bytes", b.what, b.output)
	limit := &outputLimit{full: func() { cancel(full) }}
	limit.left.Store(int64(b.output))
	if c.input != nil {
		defer c.input.onInterrupt(func() { cancel(errInterrupted) })()
	}
	code := run(ctx, limit.of(c.out), limit.of(c.err))
	if cause := context.Cause(ctx); errors.Is(cause, late) || errors.Is(cause, full) {
		c.say(cause.Error() + ", and was killed")
	}
	return code
}

// errInterrupted cancels a command when the person types ^C.
var errInterrupted = errors.New("the person interrupted it")

// colours match what logs colour their text with.
var colours = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("\x1b\\[[0-9;]*m") })

// cleanWriter passes on lines without what a terminal would obey: anyone whose words a program logs could write that.
// Colours are left out, and all else is shown.
type cleanWriter struct {
	to io.Writer

	mu   sync.Mutex
	rest []byte // of a line that is not complete
}

func (w *cleanWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	end := bytes.LastIndexByte(w.rest, '\n') + 1
	if len(w.rest)-end > maxLogLine {
		whole, _ := splitRune(w.rest)
		end = len(whole)
	}
	lines := string(w.rest[:end])
	w.rest = append([]byte(nil), w.rest[end:]...)
	return len(p), w.pass(lines)
}

func (w *cleanWriter) pass(text string) error {
	if text == "" {
		return nil
	}
	_, err := io.WriteString(w.to, cleantext.Text(colours().ReplaceAllString(text, "")))
	return err
}

// flush passes on what waits for the end of its line.
func (w *cleanWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.pass(string(w.rest)) // an error ended the session
	w.rest = nil
}

// runLine runs what a person asked for in one line, under every scope but the one for shells.
func (c *channel) runLine(ctx context.Context, line string) int {
	if !c.mark(line) {
		return codeRefused
	}
	if c.session.request.Scope == debug.Logs {
		return c.runLogs(ctx, line)
	}
	return c.runDeclared(ctx, line)
}
