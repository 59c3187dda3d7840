package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

// heartbeatDelay is how long a report that says nothing new may wait for others before a plan is made.
const heartbeatDelay = time.Second

// Run ticks until ctx ends: when time changes the plan, after pushes, reports and writes of other processes, and at
// intervals to find pushes that went unnoticed. It leads while it can. watch signals pushes; it may be nil, or be
// closed.
func (e *Engine) Run(ctx context.Context, watch <-chan struct{}) error {
	var background sync.WaitGroup // probes, and goroutines that follow the store
	defer background.Wait()
	stop := e.startBackground(ctx, &background)
	defer stop()
	probes := &probesInFlight{keys: map[string]bool{}}
	pollTimer := time.NewTimer(0) // the first tick fetches at once
	defer pollTimer.Stop()
	wakeTimer := time.NewTimer(time.Hour)
	defer wakeTimer.Stop()
	gatherTimer := time.NewTimer(time.Hour) // runs while gathering
	defer gatherTimer.Stop()
	failures, gathering := 0, false
	for {
		fetch := false
		select {
		case <-ctx.Done():
			return nil
		case <-pollTimer.C:
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
		case <-e.signals.hostAnswered:
		case <-wakeTimer.C:
		case <-e.signals.heartbeat:
			if !gathering {
				gathering = true
				gatherTimer.Reset(heartbeatDelay)
			}
			continue
		case <-gatherTimer.C:
		}
		gathering = false
		gatherTimer.Stop()
		p, fetched, err := e.runTick(ctx, fetch)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			e.opts.Log.Error().Err(err).Msg("tick failed")
			pollTimer.Reset(max(retryDelay(failures), askedToWait(err)))
			failures++
		case fetched:
			failures = 0
			pollTimer.Reset(backoff.Spread(e.opts.Poll))
		case fetch: // the host has not answered: if it still has not by then, people are told
			pollTimer.Reset(SlowHost)
		}
		if p == nil {
			continue
		}
		if e.lease.mayAct() {
			probes.startAll(ctx, e, p.Wants, &background)
		}
		if !p.Next.IsZero() {
			wakeTimer.Reset(max(p.Next.Sub(e.clocks.now()), time.Millisecond))
		} else {
			wakeTimer.Reset(time.Hour)
		}
	}
}

// startBackground begins to follow the store and to request the lease. stop releases the lease.
func (e *Engine) startBackground(ctx context.Context, background *sync.WaitGroup) (stop func()) {
	stop = e.lease.HoldLease(ctx)
	e.observations.setListeningSince(e.clocks.now())
	read := e.loader.readBeside(e.signals.changed.Notify)
	background.Go(func() { read(ctx) })
	background.Go(func() { e.follower.followStore(ctx) })
	background.Go(func() { e.follower.catchUp(ctx) })
	background.Go(func() { e.follower.forwardPushes(ctx) })
	return stop
}

// runTick is a tick for the loop, which waits for the git host for a moment only. Unless fetch is set, or a fetch was
// answered meanwhile, it plans on the commit that was read last. fetched reports whether the host was read.
func (e *Engine) runTick(ctx context.Context, fetch bool) (p *plan.Plan, fetched bool, err error) {
	e.tickMu.Lock()
	defer e.tickMu.Unlock()
	e.host.patience = hostPatience
	defer func() { e.host.patience = 0 }()
	if fetch || e.View() == nil {
		e.host.requestFetch()
		fetch = true
	}
	fetch = fetch || e.host.fetching.isAnswered()
	p, err = e.tickLocked(ctx, fetch)
	if errors.Is(err, errNoAnswer) {
		return p, false, nil // the answer wakes the loop
	}
	return p, fetch && err == nil, err
}

// canGoOn reports whether there is a commit to plan on while the git host can't be read. A process that has read none
// takes the mirror's. A new leader needs one that contains what was acted upon.
func (e *Engine) canGoOn(ctx context.Context) bool {
	if e.desired == nil {
		tip := e.repo.LastTip()
		if tip == "" || e.fetchAndLoad(ctx, tip) != nil {
			return false
		}
	}
	term, leads, settled := e.lease.currentTerm()
	if !leads || settled {
		return true
	}
	seen, _ := e.observations.seenCommit()
	contains := seen == ""
	if !contains {
		contains, _ = e.repo.Contains(ctx, seen, e.desired.Commit)
	}
	if contains {
		e.lease.markSynced(term)
	}
	return true
}

// probesInFlight holds the keys of running probes, so that no probe runs twice at a time.
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

// startAll starts the probes that are not running. Each answer is stored, and wakes the loop.
func (p *probesInFlight) startAll(ctx context.Context, e *Engine, wants []plan.Probe, background *sync.WaitGroup) {
	if e.opts.Probe == nil {
		return
	}
	for _, w := range wants {
		key := w.Channel + "\x00" + w.Gate + "\x00" + string(w.Subject) + "\x00" + w.Policy
		if !p.start(key) {
			continue
		}
		background.Go(func() {
			err := runProbes(ctx, e, []plan.Probe{w})
			if err != nil && ctx.Err() == nil && !errors.Is(err, plan.ErrDeposed) {
				e.opts.Log.Error().Err(err).Str("channel", w.Channel).Str("gate", w.Gate).Msg("probe failed")
				_ = backoff.Sleep(ctx, probeRetryAfter) // a probe whose answer can't be stored is not repeated at once
			}
			p.finish(key)
			e.signals.changed.Notify()
		})
	}
}

// RunProbes runs probes one after the other, and stores the answers if this process leads.
func (e *Engine) RunProbes(ctx context.Context, wants []plan.Probe) error {
	if e.opts.Probe == nil || len(wants) == 0 {
		return nil
	}
	stop := e.lease.HoldLease(ctx)
	defer stop()
	if err := runProbes(ctx, e, wants); !errors.Is(err, plan.ErrDeposed) {
		return err
	}
	return nil // the leader runs its own probes
}

func runProbes(ctx context.Context, e *Engine, wants []plan.Probe) error {
	answers := make([]plan.Observation, 0, len(wants))
	for _, w := range wants {
		answers = append(answers, e.opts.Probe.Observe(ctx, w, e.clocks.now()))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := e.store.RecordObservations(ctx, answers); err != nil {
		return err
	}
	e.observations.applyWrite(func(o *plan.Observed) {
		o.Observations = plan.MergeObservations(o.Observations, answers)
	})
	return nil
}

// askedToWait returns how long the git host asked to be left alone; 0: it did not.
func askedToWait(err error) time.Duration {
	if busy := new(releases.BusyError); errors.As(err, &busy) {
		return time.Until(busy.Until)
	}
	return 0
}

// retryDelay grows from 50 ms to a minute, with full jitter.
func retryDelay(failures int) time.Duration {
	return backoff.FullJitter(backoff.Exponential(50*time.Millisecond, time.Minute, failures))
}
