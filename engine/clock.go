package engine

import (
	"slices"
	"time"
)

// clock watches whether wall time runs as monotonic time does (R10).
type clock struct {
	wall    time.Time // the instant that steps are measured from, by the wall clock
	mono    time.Time // the same, by the monotonic clock
	stepped time.Time // when a step was first seen; zero: none
}

func newClock(now time.Time) clock { return clock{wall: now.Round(0), mono: now} }

// read judges now. A step is forgiven once cells that reported after it agree with the new time.
func (k *clock) read(now time.Time, o *Observed) Clock {
	step := now.Round(0).Sub(k.wall) - now.Sub(k.mono)
	skew, since := medianSkew(o, k.stepped)
	if step.Abs() <= maxClockError {
		k.stepped = time.Time{}
		return Clock{Skew: skew}
	}
	if k.stepped.IsZero() {
		k.stepped = now
	} else if since && skew.Abs() <= maxClockError {
		*k = newClock(now)
		return Clock{Skew: skew}
	}
	return Clock{Step: step, Skew: skew}
}

// medianSkew is over the cells that reported after since; any is false if none did.
func medianSkew(o *Observed, since time.Time) (skew time.Duration, any bool) {
	skews := make([]time.Duration, 0, len(o.Cells))
	for _, s := range o.Cells {
		if s.live && s.LastReport.After(since) {
			skews = append(skews, s.Skew)
		}
	}
	if len(skews) == 0 {
		return 0, false
	}
	slices.Sort(skews)
	return skews[len(skews)/2], true
}
