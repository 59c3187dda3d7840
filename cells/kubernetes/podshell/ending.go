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

// What endScript says.
const (
	saysReady = "ready" // it waits
	saysBlind = "blind" // it can't see processes
	saysDone  = "done"  // nothing is left
	saysLeft  = "left"  // something can't be killed
)

// endScript waits for a word, or for the end of its input. Then it kills what has the session's request in its
// environment, and all that is in a session of processes with such a one, but for the sessions of the container's first
// process and its own. It uses what every sh has built in. In /proc/PID/stat, the session is the fourth field after the
// name, which may have blanks and parentheses; read leaves out the zero bytes between the entries of an environment.
const endScript = `mark=SLUICE_DEBUG=$1 keep=' 0 ' sessions=' '
session() {
  read -r l <"$1/stat" || return 1
  set -- ${l##*) }
  state=$1 of=${4:-0}
}
marked() {
  while read -r e || [ -n "$e" ]; do
    case $e in *"$mark"*) return 0 ;; esac
    e=
  done <"$1/environ"
  return 1
}
find() {
  found=
  for d in /proc/[0-9]*; do
    marked "$d" || continue
    found="$found ${d#/proc/}"
    session "$d" || continue
    case $keep$sessions in *" $of "*) ;; *) sessions="$sessions$of " ;; esac
  done
  [ "$sessions" != ' ' ] || return 0
  for d in /proc/[0-9]*; do
    session "$d" || continue
    case $state$sessions in [ZX]*) ;; *" $of "*) found="$found ${d#/proc/}" ;; esac
  done
}
exec 2>/dev/null
for d in /proc/$$ /proc/1; do
  session $d && keep="$keep$of "
done
e=
read -r e </proc/$$/environ
[ -n "$e" ] || { echo blind; exit; }
echo ready
read -r go
i=0
while [ $i -lt 100 ]; do
  find
  [ -n "$found" ] || { echo done; exit; }
  kill -9 $found
  i=$((i + 1))
  sleep 0.02
done
echo left`

// ending is endScript in a container, which waits.
type ending struct {
	*process
	word *io.PipeWriter
	says chan string
}

// prepareEnd starts what ends all that a session starts in a container, and returns once it waits there. It outlives
// the context, until finish.
func (s *Shells) prepareEnd(ctx context.Context, in debug.Pod, request string) (*ending, error) {
	script, word := io.Pipe()
	e := &ending{word: word, says: make(chan string, 4)}
	e.process = s.exec(context.WithoutCancel(ctx), in, []string{"sh", "-c", endScript, "sh", request},
		remotecommand.StreamOptions{Stdin: script, Stdout: &lines{to: e.says}})
	context.AfterFunc(ctx, e.sendWord) // whatever else is done meanwhile
	go func() {
		<-e.done
		_ = script.Close() // frees who sends the word
	}()
	first, err := e.hear(ctx, startTimeout)
	switch {
	case err != nil:
	case first == saysReady:
		return e, nil
	case first == saysBlind:
		err = errors.New("the container does not show its processes (/proc), so none could be ended")
	default:
		err = errNotAShell
	}
	e.cut(context.Canceled)
	if text := strings.ToLower(fmt.Sprint(err)); strings.Contains(text, "executable file") ||
		strings.Contains(text, "no such file or directory") {
		err = fmt.Errorf("%w (%w)", errNoShell, err)
	}
	return nil, explain(err, "prepare a shell in the "+in.String())
}

// sendWord has the script kill.
func (e *ending) sendWord() {
	go func() {
		_, _ = e.word.Write([]byte("end\n")) // the end of the input is a word, too
		_ = e.word.Close()
	}()
}

// hear returns what the script says next.
func (e *ending) hear(ctx context.Context, within time.Duration) (string, error) {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case text := <-e.says:
		return text, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-late.C:
		return "", fmt.Errorf("the container did not answer within %s", within)
	case <-e.done:
	}
	select { // what it said last
	case text := <-e.says:
		return text, nil
	default:
	}
	if e.err != nil {
		return "", e.err
	}
	return "", errors.New("the command in the container ended early")
}

// finish has the script kill, and returns nil once nothing is left. It does not wait for long, and less once ctx ended;
// the script goes on nevertheless.
func (e *ending) finish(ctx context.Context) error {
	e.sendWord()
	said, err := e.hear(ctx, leisuredTime)
	if err != nil && ctx.Err() != nil {
		said, err = e.hear(context.WithoutCancel(ctx), endTime)
	}
	time.AfterFunc(leisuredTime, func() { e.cut(context.Canceled) })
	switch {
	case err != nil:
		return err
	case said == saysDone:
		return nil
	case said == saysLeft:
		return errors.New("the container has processes that can't be killed")
	}
	return errNotAShell
}

// maxSaid bounds a line of endScript's, which has five bytes.
const maxSaid = 64

// lines passes on each line that is written to it, as far as there is room.
type lines struct {
	to   chan<- string
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			break
		}
		l.rest = rest
		select {
		case l.to <- string(line):
		default:
			return 0, errNotAShell
		}
	}
	if len(l.rest) > maxSaid {
		return 0, errNotAShell
	}
	return len(p), nil
}
