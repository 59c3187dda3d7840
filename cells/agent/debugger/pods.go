package debugger

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

// PodShells runs shells in pods of a cluster.
type PodShells interface {
	// Run runs a shell to its end, or until ctx ends, and has what it started killed. It returns the shell's exit code,
	// soon after ctx ended whatever the pod does. The error is debug.ErrMayGoOn if something may not have ended, and
	// another one if the shell did not run.
	Run(ctx context.Context, in debug.Pod, what debug.PodShell) (code int, err error)
	// End kills what shells of a request started in a pod.
	End(ctx context.Context, in debug.Pod, request string) error
}

const (
	endInPodFor  = 5 * time.Minute // how long the agent tries to end what is left in a pod
	maxPodAnswer = 500             // characters of what a cluster says of a shell
)

// runInPod runs a shell, or one line in it, in the container that the owner chose.
func (c *channel) runInPod(ctx context.Context, line string) int {
	s, pod := c.session, *c.session.permission.Pod
	if s.podShells == nil {
		c.say("the owner permitted a shell in the " + pod.String() + ", and this cell is no cluster")
		return codeRefused
	}
	what := debug.PodShell{Request: s.id, Line: line, In: c.in, Out: c.out, Err: c.err}
	if t := c.terminal; t != nil {
		sizes := make(chan debug.TerminalSize, 1)
		set := func(to size) error {
			select { // the newest counts
			case <-sizes:
			default:
			}
			sizes <- debug.TerminalSize{Columns: uint16(to.Columns), Rows: uint16(to.Rows)} //nolint:gosec // bounded
			return nil
		}
		_ = set(t.size) // it never fails
		over := make(chan struct{})
		defer close(over)
		go c.followSize(t.size, set, over)
		what.Terminal, what.Sizes = t.name, sizes
		what.In = io.MultiReader(c.in, strings.NewReader("\x04")) // as whoever presses control-D at the end
	}
	code, err := s.podShells.Run(ctx, pod, what)
	switch {
	case errors.Is(err, debug.ErrMayGoOn):
		c.say(podAnswer(err) + ": the agent goes on trying to end it")
		go endInPod(s.podShells, pod, s.id, s.log)
		return codeEnded
	case ctx.Err() != nil:
		return codeEnded
	case err != nil:
		c.say(podAnswer(err))
		return codeRefused
	}
	return code
}

// podAnswer returns what a cluster said, which strangers may have written.
func podAnswer(err error) string { return words.Clip(cleantext.Line(err.Error()), maxPodAnswer) }

// endInPod kills what a session left in a pod, as soon as it can.
func endInPod(in PodShells, pod debug.Pod, request string, log zerolog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), endInPodFor)
	defer cancel()
	for failures := 0; ; failures++ {
		err := in.End(ctx, pod, request)
		if err == nil {
			log.Info().Str("request", request).Msgf("nothing that the debug session started in the %s is left", pod)
			return
		}
		if backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(minDialPause, maxDialPause, failures))) != nil {
			log.Error().Err(err).Str("request", request).Msgf("what a debug session started in the %s may go on", pod)
			return
		}
	}
}
