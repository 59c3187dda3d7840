// Package limit counts what clients may ask for: so many a second (Bucket), and so many at once (InFlight).
//
// It keeps no list of clients and reads no clock: a bucket lives beside what it bounds, and is told the time. The zero
// values are ready for use. All methods may be called from any goroutine, and none waits.
package limit

import (
	"sync/atomic"
	"time"
)

// Rate is so many a second over time, and so many at once. PerSecond 0: the default; below: no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Bucket is a token bucket in one word: the instant, in nanoseconds of its clock, at which it will be full again.
// The zero bucket is full.
type Bucket struct{ fullAt atomic.Int64 }

// Allow takes one at now. If there is none, it says when there will be.
func (b *Bucket) Allow(r Rate, now time.Duration) (after time.Duration, ok bool) {
	if r.PerSecond <= 0 {
		return 0, true
	}
	each := time.Duration(float64(time.Second) / r.PerSecond)
	room := each * time.Duration(r.Burst)
	for {
		old := b.fullAt.Load()
		next := now + each
		if old != 0 {
			next = max(time.Duration(old), now) + each
		}
		if over := next - now - room; over > 0 {
			return over, false
		}
		if b.fullAt.CompareAndSwap(old, int64(next)) {
			return 0, true
		}
	}
}

// InFlight counts what is under way.
type InFlight struct {
	Limit int64 // negative: none

	count atomic.Int64
}

// Acquire counts one in, and reports whether there was room.
func (f *InFlight) Acquire() bool {
	if n := f.count.Add(1); f.Limit >= 0 && n > f.Limit {
		f.count.Add(-1)
		return false
	}
	return true
}

// Release counts one out.
func (f *InFlight) Release() { f.count.Add(-1) }

// Reacquire counts one in again that had been counted in before: it is never turned away.
func (f *InFlight) Reacquire() { f.count.Add(1) }

// CeilSeconds are whole seconds, rounded up, at least one for any time at all.
func CeilSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
