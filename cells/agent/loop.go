package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime/debug"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// loop owns the state. Only its own goroutine touches it; a step in flight has copies.
type loop struct {
	agent    *Agent
	state    state
	lock     *os.File
	outbox   *plane.Outbox
	reporter *plane.Reporter
	flags    *flagserver.Server
	contents *content.Cache
	renderer *render.Renderer

	desired   chan *cells.Desired // from plane: what the control plane says
	owner     chan ownerFile      // from whoever watches owner.yaml
	confirmed chan string         // from plane: the key of an assignment that the control plane knows of

	saved    []byte         // the journal as it is on disk
	offered  []byte         // offered.json, the same
	lastWord *cells.Desired // the control plane's last word; nil: none in this process
	busy     *flight        // nil: no step runs
}

// flight is a step that runs.
type flight struct {
	step
	generation int
	cancel     context.CancelCauseFunc
	done       chan result // of one
}

// result is what came of a step.
type result struct {
	mended   int
	features []string // that the step's release contains; nil: they were not looked at
	err      error
}

// The pauses between tries of what can't be done yet.
const (
	firstPause = 100 * time.Millisecond
	retryCap   = 30 * time.Second
)

// errSuperseded ends a step that is no longer wanted.
var errSuperseded = errors.New("superseded by a newer assignment")

// run decides and acts until ctx ends.
func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	troubles := 0
	for ctx.Err() == nil {
		next := step{Task: rest}
		l.state.waited(time.Now())
		if err := l.keep(); err != nil { // a full disk, say: nothing goes on that is not journalled
			l.agent.options.Log.Error().Err(err).Msg("the agent waits until it can write its state folder")
			l.reporter.Trouble(words.Clip(err.Error(), maxReason))
			next.At = time.Now().Add(backoff.FullJitter(backoff.Exponential(firstPause, retryCap, troubles)))
			troubles++
		} else {
			troubles = 0
			next = l.state.step(time.Now())
		}
		l.launch(ctx, next)
		l.wait(ctx, timer, next.At)
	}
	if l.busy != nil {
		l.busy.cancel(context.Cause(ctx))
		<-l.busy.done
	}
}

// launch begins a step, unless one is in flight: that is ended if it is no longer wanted.
func (l *loop) launch(ctx context.Context, next step) {
	if l.busy != nil {
		if l.busy.generation != l.state.generation {
			l.busy.cancel(errSuperseded)
		}
		return
	}
	if next.Task == rest {
		return
	}
	stepping, cancel := context.WithCancelCause(ctx)
	l.busy = &flight{step: next, generation: l.state.generation, cancel: cancel, done: make(chan result, 1)}
	lastGood := l.state.LastGood
	go func(f *flight) {
		f.done <- l.do(stepping, f.step, lastGood)
		if f.Task == apply {
			debug.FreeOSMemory() // idle for long, most likely
		}
	}(l.busy)
}

// wait waits for whatever comes first, and folds it into the state.
func (l *loop) wait(ctx context.Context, timer *time.Timer, until time.Time) {
	var done chan result
	var alarm <-chan time.Time
	switch {
	case l.busy != nil:
		done = l.busy.done
	case !until.IsZero():
		timer.Reset(time.Until(until))
		alarm = timer.C
	}
	select {
	case <-ctx.Done():
	case <-alarm:
	case d := <-l.desired:
		l.lastWord = d
		l.state.offered(d.Assignment, time.Now())
	case k := <-l.confirmed:
		l.state.confirmed(k, time.Now())
	case w := <-l.owner:
		l.takeOwner(w)
	case r := <-done:
		l.busy.cancel(nil)
		f := l.busy
		l.busy = nil
		if f.generation == l.state.generation && ctx.Err() == nil {
			l.fold(f.step, r, time.Now())
		}
	}
}

// fold makes a step's result part of the state.
func (l *loop) fold(done step, r result, now time.Time) {
	t := done.Task
	if r.features != nil {
		l.state.learned(done.Assignment, r.features)
	}
	var unavailable *content.UnavailableError
	var refused *content.RefusedError
	missing := errors.As(r.err, &unavailable)
	if errors.As(r.err, &refused) {
		l.state.reject(refused)
	}
	switch {
	case missing && t == heal:
		l.state.unhealable(r.err.Error(), now)
	case missing:
		l.state.retry(r.err.Error(), now, l.agent.client.Pause(r.err, l.state.retries))
	case t == prepare:
		l.state.prepared(r.err, now)
	case t == apply:
		l.state.applied(r.err, now)
	case t == look:
		l.state.looked(r.err, now)
	case t == heal:
		l.state.healed(r.mended, r.err, now)
	}
}

// do carries out a step. It runs beside the loop and touches no state.
func (l *loop) do(ctx context.Context, s step, lastGood *cells.Assignment) (r result) {
	target := l.agent.options.Target
	if s.Task == look {
		return result{err: target.Health(ctx)}
	}
	rendered, err := l.renderer.Render(ctx, s.Assignment)
	if err != nil {
		return result{err: err}
	}
	r.features = rendered.Features
	switch s.Task {
	case apply:
		l.agent.at("applying")
		if r.err = target.Apply(ctx, rendered.Rendered); r.err == nil {
			l.agent.at("target has it")
			l.prune(s.Assignment, lastGood)
		}
	case heal:
		r.mended, r.err = target.Heal(ctx, rendered.Rendered)
	}
	return r
}

// prune drops releases and renderings that nothing rests on. That it fails hurts nothing but the disk.
func (l *loop) prune(a, lastGood *cells.Assignment) {
	keep, digests := []*cells.Assignment{a}, []releases.Digest{a.Digest}
	if lastGood != nil {
		keep, digests = append(keep, lastGood), append(digests, lastGood.Digest)
	}
	if err := errors.Join(l.renderer.Prune(keep...), l.contents.Prune(digests...)); err != nil {
		l.agent.options.Log.Warn().Err(err).Msg("old releases could not be removed")
	}
}

// keep makes durable what the state has learned: first the history, then the journal, so that a
// crash in between repeats an event rather than loses it. Then it tells the reporter.
func (l *loop) keep() error {
	s := &l.state
	news := len(s.events) > 0
	if err := l.outbox.Add(s.events, time.Now()); err != nil {
		return err
	}
	for _, e := range s.events {
		l.log(e)
	}
	s.events = nil
	l.agent.at("history kept")
	text, err := json.Marshal(s.journal)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, l.saved) {
		if err := s.save(l.agent.options.StateDir); err != nil {
			return err
		}
		l.saved = text
		if s.Attempt != nil {
			l.agent.at("journal " + string(s.Attempt.Phase))
		} else {
			l.agent.at("journal")
		}
	}
	l.flags.Runs(s.runningRelease(), s.Contained) // durable before it counts, and in force before anything is written (R38)
	l.reporter.Publish(s.report(), s.reportable(), news)
	return l.saveOffered()
}

// takeOwner takes the owner's word: flags first, then what may begin.
func (l *loop) takeOwner(w ownerFile) {
	if w.invalid != "" {
		l.agent.options.Log.Error().Str("why", w.invalid).Msg("the owner's decisions can't be read: nothing new is begun")
	} else if w.decisions != nil || l.state.owner.decisions != nil {
		l.agent.options.Log.Info().Msg("the owner's decisions are read")
	}
	if w.invalid == "" {
		l.flags.Hold(w.features())
	} // else what was held stays so
	l.state.ownerDecided(w, time.Now())
}

func (l *loop) log(e cells.Event) {
	line := l.agent.options.Log.Info()
	switch e.Kind {
	case "failed", "stuck", "refused", "unhealthy", "unhealed":
		line = l.agent.options.Log.Warn()
	}
	line.Str("release", e.Release).Str("detail", e.Detail).Msg(e.Kind)
}

// Desired hands the loop what the control plane says: see plane.Handler.
func (l *loop) Desired(ctx context.Context, d *cells.Desired) {
	l.flags.Take(d.Flags) // first: a kill waits for nothing
	select {
	case l.desired <- d:
	case <-ctx.Done():
	}
}

// Confirmed hands the loop the key of an assignment that the control plane knows of.
func (l *loop) Confirmed(ctx context.Context, key string) {
	select {
	case l.confirmed <- key:
	case <-ctx.Done():
	}
}

// Flags is what is reported of flags.
func (l *loop) Flags() *cells.FlagsReport { return l.flags.Report() }

func (l *loop) close() error {
	return errors.Join(l.outbox.Close(), l.lock.Close())
}
