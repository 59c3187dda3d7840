package podshell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/client-go/tools/remotecommand"

	"github.com/sluice-cd/sluice/cells/debug"
)

// startScript becomes markedScript, with the session's request in its environment. Whatever that starts inherits it.
const startScript = `export SLUICE_DEBUG="$1"
[ -z "$2" ] || export TERM="$2"
exec sh -c "$4" sh "$1" "$3"`

// markedScript says that it can be found, and becomes a shell once a line comes, which is the first of the input. The
// container's runtime has it lead a session of processes, with the terminal if there is one: in another session
// (setsid), it would have none, and so no ^C. It is no login shell, whose profile would replace the image's PATH.
const markedScript = `echo "$1"
read -r go || exit
if command -v bash >/dev/null 2>&1; then s=bash; else s=sh; fi
if [ -n "$2" ]; then exec "$s" -c "$2"; fi
exec "$s"`

func startCommand(what debug.PodShell) []string {
	return []string{"sh", "-c", startScript, "sh", what.Request, what.Terminal, what.Line, markedScript}
}

// shell is a shell in a container.
type shell struct {
	*process
	stop context.CancelCauseFunc // cuts it, and lets nothing more pass
	out  *opening
	pass chan struct{} // closed once input and output may pass
}

// start starts a shell, from which and to which nothing passes yet.
func (s *Shells) start(ctx context.Context, in debug.Pod, what debug.PodShell) *shell {
	ctx, stop := context.WithCancelCause(ctx)
	sh := &shell{stop: stop, pass: make(chan struct{})}
	hold := valve{ctx: ctx, pass: sh.pass}
	sh.out = &opening{want: what.Request, to: heldWriter{hold, what.Out}, began: make(chan error, 1)}
	input := io.MultiReader(strings.NewReader("\n"), what.In)
	o := remotecommand.StreamOptions{Stdin: heldReader{hold, input}, Stdout: sh.out, Tty: what.Terminal != ""}
	if o.Tty {
		o.TerminalSizeQueue = sizes{ctx, what.Sizes}
	} else {
		o.Stderr = heldWriter{hold, what.Err}
	}
	sh.process = s.exec(ctx, in, startCommand(what), o)
	return sh
}

// awaitBegin returns once the shell runs.
func (sh *shell) awaitBegin(ctx context.Context) error {
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	select {
	case err := <-sh.out.began:
		return err
	case <-sh.done:
		if sh.err != nil {
			return sh.err
		}
		return errNotAShell
	case <-late.C:
		return fmt.Errorf("no shell began within %s", startTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (sh *shell) letPass() { close(sh.pass) }

// await returns once the shell has ended, or has to: without what ends it, it does not go on.
func (sh *shell) await(ctx context.Context, ending *ending) error {
	select {
	case <-sh.done:
		return sh.err
	case <-ending.done:
		return errUnguarded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var (
	errNotAShell = errors.New("sh in the container is no shell, or its output was not its own")
	errUnguarded = errors.New("the command in the container that would end what the session starts has ended, so the " +
		"shell was ended too")
)

// sizes are a terminal's, for the executor.
type sizes struct {
	ctx context.Context
	all <-chan debug.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	select {
	case size := <-s.all:
		return &remotecommand.TerminalSize{Width: size.Columns, Height: size.Rows}
	case <-s.ctx.Done():
		return nil
	}
}

// valve lets pass once it is opened, and nothing more once the context ended.
type valve struct {
	ctx  context.Context
	pass <-chan struct{}
}

func (v valve) wait() error {
	select {
	case <-v.pass:
	case <-v.ctx.Done():
	}
	return context.Cause(v.ctx)
}

type heldReader struct {
	valve
	from io.Reader
}

func (r heldReader) Read(p []byte) (int, error) {
	if err := r.wait(); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

type heldWriter struct {
	valve
	to io.Writer
}

func (w heldWriter) Write(p []byte) (int, error) {
	if err := w.wait(); err != nil {
		return 0, err
	}
	return w.to.Write(p)
}

// opening takes the line by which a shell says that it runs, and passes on the rest.
type opening struct {
	want  string
	to    io.Writer
	began chan error // buffer of one
	head  []byte
	isIn  bool // the line was there
}

func (o *opening) Write(p []byte) (int, error) {
	if o.isIn {
		return o.to.Write(p)
	}
	o.head = append(o.head, p...)
	line, rest, whole := bytes.Cut(o.head, []byte("\n"))
	switch {
	case !whole && len(o.head) <= len(o.want)+1:
		return len(p), nil
	case !whole || strings.TrimSuffix(string(line), "\r") != o.want:
		o.refuse()
		return 0, errNotAShell
	}
	o.isIn, o.head = true, nil
	o.began <- nil
	if len(rest) == 0 {
		return len(p), nil
	}
	if _, err := o.to.Write(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (o *opening) refuse() {
	select {
	case o.began <- errNotAShell:
	default:
	}
}
