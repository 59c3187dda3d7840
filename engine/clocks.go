package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
)

// stepDetector watches whether wall time runs as monotonic time does (R10).
type stepDetector struct {
	baseWall  time.Time // the instant that steps are measured from, by the wall clock
	baseMono  time.Time // the same, by the monotonic clock
	steppedAt time.Time // when a step was first seen; zero: none
}

func newStepDetector(now time.Time) stepDetector {
	return stepDetector{baseWall: now.Round(0), baseMono: now}
}

// judge judges now. at is the same by the store's clock. A step is forgiven once cells that reported after it agree with the new time.
func (k *stepDetector) judge(now, at time.Time, o *plan.Observed) plan.Clock {
	step := k.step(now)
	skew, since := medianSkew(o, k.steppedAt)
	if step.Abs() <= plan.MaxClockError {
		k.steppedAt = time.Time{}
		return plan.Clock{Skew: skew}
	}
	if k.steppedAt.IsZero() {
		k.steppedAt = at
	} else if since && skew.Abs() <= plan.MaxClockError {
		*k = newStepDetector(now)
		return plan.Clock{Skew: skew}
	}
	return plan.Clock{Step: step, Skew: skew}
}

// step is how far wall time has run ahead of monotonic time.
func (k *stepDetector) step(now time.Time) time.Duration {
	return now.Round(0).Sub(k.baseWall) - now.Sub(k.baseMono)
}

// medianSkew is over the cells that reported after since; any is false if none did.
func medianSkew(o *plan.Observed, since time.Time) (skew time.Duration, any bool) {
	skews := make([]time.Duration, 0, len(o.Cells))
	for _, s := range o.Cells {
		if s.Watched() && s.LastReport.After(since) {
			skews = append(skews, s.Skew)
		}
	}
	if len(skews) == 0 {
		return 0, false
	}
	slices.Sort(skews)
	return skews[len(skews)/2], true
}

// storeClock tells the store's time, which is the same for all replicas, between looks at it: receipts, plans and grants
// are in it. It is counted on by the monotonic clock, so that a step of this machine's wall clock does not show.
type storeClock struct {
	localTime time.Time // when the store was asked, by this process's clock; zero: not yet
	storeTime time.Time // its clock then
}

// timeAt is the store's time at an instant of this process. Where it was never asked, the process's own counts.
func (k storeClock) timeAt(t time.Time) time.Time {
	if k.localTime.IsZero() {
		return t
	}
	return k.storeTime.Add(t.Sub(k.localTime))
}

// offset is how far the store's clock is ahead of this machine's (fault 14).
func (k storeClock) offset() time.Duration {
	if k.localTime.IsZero() {
		return 0
	}
	return k.storeTime.Sub(k.localTime.Round(0))
}

// clocks tell the time that plans are made by: the store's, which all replicas share.
type clocks struct {
	store         Store
	log           zerolog.Logger
	singleProcess func() bool // no other process writes to the store, so that this one's clock is the store's

	mu       sync.Mutex // guards what follows
	detector stepDetector
	measured storeClock
}

// measure asks the store for its time. Half the way there and back is taken for the answer's way. One that took long tells
// little, and an answer that does not come changes nothing.
func (k *clocks) measure(ctx context.Context) {
	const slow = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, slow)
	defer cancel()
	asked := time.Now()
	now, err := k.store.Now(ctx)
	if err != nil {
		if ctx.Err() == nil {
			k.log.Debug().Err(err).Msg("the store's clock could not be read")
		}
		return
	}
	answered := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.measured = storeClock{localTime: answered, storeTime: now.Round(0).UTC().Add(answered.Sub(asked) / 2)}
}

// timeAt is the store's time at an instant of this process. A process alone has the store's time by its own clock, whose
// monotonic readings tell more than a time that was asked for.
func (k *clocks) timeAt(t time.Time) time.Time {
	if k.singleProcess() {
		return t
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.measured.timeAt(t)
}

// now is the store's time.
func (k *clocks) now() time.Time { return k.timeAt(time.Now()) }

// compareClocks says how far clocks are apart at an instant of this process, which is now by the store's clock.
func (k *clocks) compareClocks(t, now time.Time, o *plan.Observed) plan.Clock {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.detector.judge(t, now, o)
	c.Store = k.measured.offset()
	return c
}

// wallStep is how far the wall clock was stepped, as of t.
func (k *clocks) wallStep(t time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.detector.step(t)
}

// Now is the instant that plans are made at: the store's time.
func (e *Engine) Now() time.Time { return e.clocks.now() }

// Time is the store's time, and why it can't be trusted; empty: it can (R10).
func (e *Engine) Time() (now time.Time, doubt string) {
	t := time.Now()
	now = e.clocks.timeAt(t)
	var k plan.Clock
	if v := e.View(); v != nil {
		k = v.Observed.Clock
	}
	k.Step = e.clocks.wallStep(t) // since the last look, too
	return now, k.Doubt()
}
