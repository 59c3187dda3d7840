package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// heartbeatDelay is how long reports that say nothing new may wait for others before a plan is made.
const heartbeatDelay = time.Second

// Run ticks until ctx ends: when time changes the plan, when a push, a report or another process does, and now and then to
// look whether a push went unnoticed. It leads while it can. watch may be nil, or be closed: then nobody tells of pushes.
func (e *Engine) Run(ctx context.Context, watch <-chan struct{}) error {
	var beside sync.WaitGroup // probes, and what follows the store
	defer beside.Wait()
	stop := e.startBackground(ctx, &beside)
	defer stop()
	probes := &probesInFlight{keys: map[string]bool{}}
	poll := time.NewTimer(0) // the first look is now
	defer poll.Stop()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	gather := time.NewTimer(time.Hour) // runs while late: reports without news wait for others
	defer gather.Stop()
	failures, late := 0, false
	for {
		fetch := false
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			fetch = true
		case <-e.signals.pushed:
			fetch = true
		case _, open := <-watch:
			if !open { // polling goes on
				watch = nil
				continue
			}
			fetch = true
		case <-e.signals.changed:
		case <-wake.C:
		case <-e.signals.heartbeat:
			if !late {
				late = true
				gather.Reset(heartbeatDelay)
			}
			continue
		case <-gather.C:
		}
		late = false
		gather.Stop()
		p, err := e.runTick(ctx, fetch)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			e.opts.Log.Error().Err(err).Msg("tick failed")
			poll.Reset(retryDelay(failures))
			failures++
			continue
		case fetch:
			failures = 0
			poll.Reset(backoff.Spread(e.opts.Poll))
		}
		if e.lease.mayAct() {
			e.startProbes(ctx, p.Wants, probes, &beside)
		}
		if !p.Next.IsZero() {
			wake.Reset(max(p.Next.Sub(e.clocks.now()), time.Millisecond))
		} else {
			wake.Reset(time.Hour)
		}
	}
}

// startBackground begins to follow the store and to seek its lease. stop gives the lease back.
func (e *Engine) startBackground(ctx context.Context, beside *sync.WaitGroup) (stop func()) {
	stop = e.lease.Lead(ctx)
	e.observations.setListeningSince(e.clocks.now())
	beside.Go(func() { e.follower.followStore(ctx) })
	beside.Go(func() { e.follower.catchUp(ctx) })
	beside.Go(func() { e.follower.forwardPushes(ctx) })
	return stop
}

// runTick is a tick for the loop: without news of the branch it plans on what was read last.
func (e *Engine) runTick(ctx context.Context, fetch bool) (plan.Plan, error) {
	e.tickMu.Lock()
	defer e.tickMu.Unlock()
	return e.tickLocked(ctx, fetch || e.View() == nil)
}

// probesInFlight is the probes that are under way, so that none is asked twice at a time.
type probesInFlight struct {
	mu   sync.Mutex
	keys map[string]bool
}

func (p *probesInFlight) start(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	busy := p.keys[key]
	p.keys[key] = true
	return !busy
}

func (p *probesInFlight) finish(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, key)
}

// startProbes starts the probes that are not under way. Each answer is kept, and wakes the loop.
func (e *Engine) startProbes(ctx context.Context, wants []plan.Probe, under *probesInFlight, beside *sync.WaitGroup) {
	if e.opts.Probe == nil {
		return
	}
	for _, w := range wants {
		key := w.Channel + "\x00" + w.Gate + "\x00" + string(w.Subject) + "\x00" + w.Policy
		if !under.start(key) {
			continue
		}
		beside.Go(func() {
			err := e.runProbes(ctx, []plan.Probe{w})
			if err != nil && ctx.Err() == nil && !errors.Is(err, plan.ErrDeposed) {
				e.opts.Log.Error().Err(err).Str("channel", w.Channel).Str("gate", w.Gate).Msg("probe failed")
				_ = backoff.Sleep(ctx, probeRetryAfter) // nobody is asked without end because answers can't be kept
			}
			under.finish(key)
			e.signals.changed.Notify()
		})
	}
}

// Answer carries probes out, one after the other, and keeps what they say, if this process leads.
func (e *Engine) Answer(ctx context.Context, wants []plan.Probe) error {
	if e.opts.Probe == nil || len(wants) == 0 {
		return nil
	}
	stop := e.lease.Lead(ctx)
	defer stop()
	if err := e.runProbes(ctx, wants); !errors.Is(err, plan.ErrDeposed) {
		return err
	}
	return nil // who leads asks for itself
}

func (e *Engine) runProbes(ctx context.Context, wants []plan.Probe) error {
	answers := make([]plan.Observation, 0, len(wants))
	for _, w := range wants {
		answers = append(answers, e.opts.Probe.Ask(ctx, w, e.clocks.now()))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := e.store.RecordObservations(ctx, answers); err != nil {
		return err
	}
	e.observations.applyWrite(func(o *plan.Observed) { o.Observations = plan.MergeAnswers(o.Observations, answers) })
	return nil
}

// retryDelay grows from 50 ms to a minute, with full jitter.
func retryDelay(failures int) time.Duration {
	return backoff.FullJitter(backoff.Exponential(50*time.Millisecond, time.Minute, failures))
}
