package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
)

// stepDetector detects steps of the wall clock by comparing it with the monotonic clock (R10).
type stepDetector struct {
	baseWall  time.Time // wall time of the instant that steps are measured from
	baseMono  time.Time // monotonic time of the same instant
	steppedAt time.Time // when a step was first seen; zero: none
}

func newStepDetector(now time.Time) stepDetector {
	return stepDetector{baseWall: now.Round(0), baseMono: now}
}

// judge compares the clocks at now, which is at by the store's clock. A step is forgiven once cells that reported after
// the step agree with the new time.
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

// step returns how far wall time has run ahead of monotonic time.
func (k *stepDetector) step(now time.Time) time.Duration {
	return now.Round(0).Sub(k.baseWall) - now.Sub(k.baseMono)
}

// medianSkew returns the median skew of the cells that were granted something and reported after since; any is false if
// no cell did. Where no grant is known, as in a new store, it is the median of the cells that run something. Of the two
// in the middle of an even number it returns the smaller: only more than half of the cells can cast doubt on time (R10,
// R49).
func medianSkew(o *plan.Observed, since time.Time) (skew time.Duration, any bool) {
	skews := make([]time.Duration, 0, len(o.Cells))
	var ungranted []time.Duration
	for _, s := range o.Cells {
		switch {
		case !s.Watched() || !s.LastReport.After(since):
		case s.Granted != nil:
			skews = append(skews, s.Skew)
		case s.Running != nil:
			ungranted = append(ungranted, s.Skew)
		}
	}
	if len(skews) == 0 {
		skews = ungranted
	}
	if len(skews) == 0 {
		return 0, false
	}
	high := selectNth(skews, len(skews)/2)
	low := high
	if len(skews)%2 == 0 {
		low = slices.Max(skews[:len(skews)/2])
	}
	if low.Abs() < high.Abs() {
		return low, true
	}
	return high, true
}

// selectNth returns the element that is all[n] once all is sorted, and moves what is not greater to before it. It is
// quicker than sorting, for each plan needs it of all cells.
func selectNth(all []time.Duration, n int) time.Duration {
	for low, high := 0, len(all)-1; low < high; {
		pivot := all[low+rand.IntN(high-low+1)] // cells could know another choice
		i, j := low, high
		for i <= j {
			for all[i] < pivot {
				i++
			}
			for all[j] > pivot {
				j--
			}
			if i <= j {
				all[i], all[j] = all[j], all[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n <= j:
			high = j
		case n >= i:
			low = i
		default: // between them all are the pivot
			return all[n]
		}
	}
	return all[n]
}

// storeClock extrapolates the store's time, which all replicas share, from the last measurement. It advances by the
// monotonic clock, so that a step of this machine's wall clock does not show in receipts, plans and grants.
type storeClock struct {
	localTime time.Time // when the store was asked, by this process's clock; zero: never
	storeTime time.Time // the store's clock at localTime
}

// timeAt returns the store's time at an instant of this process; without a measurement, the instant itself.
func (k storeClock) timeAt(t time.Time) time.Time {
	if k.localTime.IsZero() {
		return t
	}
	return k.storeTime.Add(t.Sub(k.localTime))
}

// offset returns how far the store's clock is ahead of this machine's (fault 14).
func (k storeClock) offset() time.Duration {
	if k.localTime.IsZero() {
		return 0
	}
	return k.storeTime.Sub(k.localTime.Round(0))
}

// clocks returns the time that plans are made by: the store's, which all replicas share.
type clocks struct {
	store         Store
	log           zerolog.Logger
	singleProcess func() bool // reports whether no other process writes to the store

	mu       sync.Mutex // guards the fields below
	detector stepDetector
	measured storeClock
}

// measure reads the store's clock, and attributes half of the round trip to the answer. A slow or missing answer
// changes nothing.
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

// timeAt returns the store's time at an instant of this process. A single process uses its own clock as the store's:
// its monotonic readings are more precise than a measurement.
func (k *clocks) timeAt(t time.Time) time.Time {
	if k.singleProcess() {
		return t
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.measured.timeAt(t)
}

func (k *clocks) now() time.Time { return k.timeAt(time.Now()) }

// compareClocks returns how far the clocks are apart at t, an instant of this process that is now by the store's clock.
func (k *clocks) compareClocks(t, now time.Time, o *plan.Observed) plan.Clock {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.detector.judge(t, now, o)
	c.Store = k.measured.offset()
	return c
}

func (k *clocks) wallStep(t time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.detector.step(t)
}

// Now returns the store's time, which plans are made at.
func (e *Engine) Now() time.Time { return e.clocks.now() }

// TrustedTime returns the store's time, and why that time can't be trusted; an empty doubt means that it can (R10).
func (e *Engine) TrustedTime() (now time.Time, doubt string) {
	t := time.Now()
	now = e.clocks.timeAt(t)
	var k plan.Clock
	if v := e.View(); v != nil {
		k = v.Observed.Clock
	}
	k.Step = e.clocks.wallStep(t) // includes steps since the last plan
	return now, k.Doubt()
}
