// Package limit bounds what clients may request: a rate (Bucket), and a number in flight (InFlight).
//
// It has no list of clients and reads no clock: a bucket lives beside what it bounds, and its callers pass the time.
// Zero values are ready for use. All methods may be called from any goroutine, and none blocks.
package limit

import (
	"sync/atomic"
	"time"
)

// Rate is a sustained rate and a burst. PerSecond 0 means the default, a negative value no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Bucket is a token bucket in one word: the instant, in nanoseconds of the caller's clock, at which it will be full.
// The zero bucket is full.
type Bucket struct{ fullAt atomic.Int64 }

// Allow takes one token at the instant now. If there is none, Allow returns the time until the next.
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

// Take takes n tokens at the instant now, though there may be fewer, and returns how long to wait until they are due.
func (b *Bucket) Take(r Rate, n int64, now time.Duration) (wait time.Duration) {
	if r.PerSecond <= 0 || n <= 0 {
		return 0
	}
	cost := time.Duration(float64(n) * float64(time.Second) / r.PerSecond)
	room := time.Duration(float64(r.Burst) * float64(time.Second) / r.PerSecond)
	for {
		old := b.fullAt.Load()
		next := max(time.Duration(old), now) + cost
		if b.fullAt.CompareAndSwap(old, int64(next)) {
			return max(next-now-room, 0)
		}
	}
}

// InFlight counts operations in flight.
type InFlight struct {
	Limit int64 // negative: no limit

	count atomic.Int64
}

// Acquire counts one operation in and reports whether the limit allows it.
func (f *InFlight) Acquire() bool {
	if n := f.count.Add(1); f.Limit >= 0 && n > f.Limit {
		f.count.Add(-1)
		return false
	}
	return true
}

// Release counts one operation out.
func (f *InFlight) Release() { f.count.Add(-1) }

// Reacquire counts an operation in again after Release. It ignores the limit.
func (f *InFlight) Reacquire() { f.count.Add(1) }

// CeilSeconds returns d in whole seconds, rounded up.
func CeilSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
