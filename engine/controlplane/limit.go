package controlplane

import (
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// Limits bound what one cell may ask for, and what is under way at once. What is counted is always a cell, never an
// address: behind a private link all cells have one (R34). Zero fields get their default, negative ones mean no limit.
type Limits struct {
	Polls      Rate // of GET /v1/desired by one cell; default 10 a second, 60 at once
	Reports    Rate // of one cell; default 10 a second, 60 at once
	Downloads  int  // of one cell at once; default 4
	InFlight   int  // requests of cells that are being answered, those that wait left out; default 4096
	Handshakes int  // TLS handshakes that compute at once; default: as many as there are processors
	Handshaken int  // TLS handshakes that are under way, waiting for the other side included; default 512
	Backlog    int  // connections whose handshake has not begun; default 16384
	Events     int  // people that follow /v1/events at once; default 64
}

// Rate is so many a second over time, and so many at once. PerSecond 0: the default; below: no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

func (l Limits) withDefaults() Limits {
	number := func(n *int, otherwise int) {
		if *n == 0 {
			*n = otherwise
		}
	}
	for _, r := range []*Rate{&l.Polls, &l.Reports} {
		if r.PerSecond == 0 {
			r.PerSecond = 10
		}
		if r.Burst <= 0 {
			r.Burst = 60
		}
	}
	number(&l.Downloads, 4)
	number(&l.InFlight, 4096)
	number(&l.Handshakes, runtime.GOMAXPROCS(0))
	number(&l.Handshaken, 512)
	number(&l.Backlog, 16384)
	number(&l.Events, 64)
	return l
}

// bucket is a token bucket in one word: the instant, in nanoseconds of its clock, at which it will be full again.
// The zero bucket is full.
type bucket struct{ full atomic.Int64 }

// take takes one at now. If there is none, it says when there will be.
func (b *bucket) take(r Rate, now time.Duration) (after time.Duration, ok bool) {
	if r.PerSecond <= 0 {
		return 0, true
	}
	each := time.Duration(float64(time.Second) / r.PerSecond)
	room := each * time.Duration(r.Burst)
	for {
		old := b.full.Load()
		next := now + each
		if old != 0 {
			next = max(time.Duration(old), now) + each
		}
		if over := next - now - room; over > 0 {
			return over, false
		}
		if b.full.CompareAndSwap(old, int64(next)) {
			return 0, true
		}
	}
}

// flights counts what is under way.
type flights struct {
	n     atomic.Int64
	limit int64 // negative: none
}

func (f *flights) enter() bool {
	if n := f.n.Add(1); f.limit >= 0 && n > f.limit {
		f.n.Add(-1)
		return false
	}
	return true
}

func (f *flights) leave() { f.n.Add(-1) }

// back counts one in again that had been counted in before: it is never turned away.
func (f *flights) back() { f.n.Add(1) }

// within takes one of a cell's tokens, or answers 429 (fault 40).
func (s *Server) within(w http.ResponseWriter, b *bucket, r Rate, what string) bool {
	after, ok := b.take(r, s.elapsed(w))
	if !ok {
		s.metrics.turnedAway(what)
		retryAfter(w, seconds(after))
		problem(w, http.StatusTooManyRequests, "This cell sends "+what+" faster than it may: wait as long as Retry-After says.")
	}
	return ok
}

// enter counts a request of a cell in, or answers 503: then more is under way than helps anyone. Who is turned away comes
// back spread over some seconds, by the hash of its name.
func (s *Server) enter(w http.ResponseWriter, hash uint32) bool {
	if s.flights.enter() {
		return true
	}
	s.metrics.turnedAway("busy")
	retryAfter(w, 1+int(hash%8))
	problem(w, http.StatusServiceUnavailable, "More is asked at once than can be answered: wait as long as Retry-After says.")
	return false
}

// elapsed is how long the server had been there when the request came.
func (s *Server) elapsed(w http.ResponseWriter) time.Duration {
	if a, ok := w.(*answer); ok {
		return a.begun.Sub(s.begun)
	}
	return time.Since(s.begun)
}

// mayReport tells whether a cell may report now; if not, it has answered. Cells that nobody knows are for the inbox to refuse.
func (s *Server) mayReport(w http.ResponseWriter, cell string) bool {
	p := s.board.now().places[cell]
	return p == nil || s.within(w, &p.reports, s.opts.Limits.Reports, "reports")
}

// nextSlot says when a cell that polls should ask next: at its own place in the period, so that those that once asked
// together do so only once. In whole seconds, rounded up.
func nextSlot(hash uint32, now, period time.Duration) int {
	if period < time.Second {
		return seconds(period)
	}
	at := time.Duration(uint64(hash)*uint64(period.Microseconds())>>32) * time.Microsecond
	wait := (at - now%period + period) % period
	if wait < period/2 {
		wait += period
	}
	return seconds(wait)
}

// seconds are whole seconds, rounded up, at least one for any time at all.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// numbers are the header values for small counts of seconds, made once.
func numbers(n int) [][]string {
	all := make([][]string, n)
	for i := range all {
		all[i] = []string{strconv.Itoa(i)}
	}
	return all
}
