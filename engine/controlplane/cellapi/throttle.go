package cellapi

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
)

// Limits bound what cells may ask for. What is counted is always a cell, never an address: behind a private link all cells
// have one (R34). Zero fields get their default, negative ones mean no limit.
type Limits struct {
	Polls     limit.Rate // of GET /v1/desired by one cell; default 10 a second, 60 at once
	Reports   limit.Rate // of one cell; default 10 a second, 60 at once
	Downloads int        // of one cell at once; default 4
	InFlight  int        // requests of cells that are being answered, those that wait left out; default 4096
}

func (l Limits) withDefaults() Limits {
	for _, r := range []*limit.Rate{&l.Polls, &l.Reports} {
		if r.PerSecond == 0 {
			r.PerSecond = 10
		}
		if r.Burst <= 0 {
			r.Burst = 60
		}
	}
	l.Downloads, l.InFlight = cmp.Or(l.Downloads, 4), cmp.Or(l.InFlight, 4096)
	return l
}

// throttle turns away what cells ask for beyond their limits.
type throttle struct {
	limits     Limits
	inFlight   limit.InFlight
	clockStart time.Time // when the buckets' clock began
	metrics    *metrics.Metrics
}

func newThrottle(l Limits, m *metrics.Metrics) *throttle {
	return &throttle{limits: l, inFlight: limit.InFlight{Limit: int64(l.InFlight)}, clockStart: time.Now(), metrics: m}
}

// allow takes one of a cell's tokens, or answers 429 (fault 40).
func (t *throttle) allow(w http.ResponseWriter, b *limit.Bucket, r limit.Rate, now time.Duration, what string) bool {
	after, ok := b.Allow(r, now)
	if !ok {
		t.metrics.CountShed(what)
		api.SetRetryAfter(w, limit.CeilSeconds(after))
		api.WriteProblem(w, http.StatusTooManyRequests, "This cell sends "+what+" faster than it may: wait as long as Retry-After says.")
	}
	return ok
}

// admit counts a request of a cell in, or answers 503: then more is under way than helps anyone. Who is turned away comes
// back spread over some seconds, by the hash of its name.
func (t *throttle) admit(w http.ResponseWriter, hash uint32) bool {
	if t.inFlight.Acquire() {
		return true
	}
	t.metrics.CountShed("busy")
	api.SetRetryAfter(w, 1+int(hash%8))
	api.WriteProblem(w, http.StatusServiceUnavailable, "More is asked at once than can be answered: wait as long as Retry-After says.")
	return false
}

// startDownload counts a cell's download in, or answers 429: it has as many already as it may at once.
func (t *throttle) startDownload(w http.ResponseWriter, e *cellEntry) bool {
	limit := t.limits.Downloads
	if n := e.downloads.Add(1); limit < 0 || int(n) <= limit {
		return true
	}
	e.downloads.Add(-1)
	t.metrics.CountShed("downloads")
	api.SetRetryAfter(w, 2)
	api.WriteProblem(w, http.StatusTooManyRequests, "This cell has "+strconv.Itoa(limit)+" downloads under way already: let one end first.")
	return false
}

// now is the time on the buckets' clock.
func (t *throttle) now() time.Duration { return time.Since(t.clockStart) }

// nextPollSeconds says when a cell that polls should ask next: at its own place in the period, so that those that once asked
// together do so only once. In whole seconds, rounded up.
func nextPollSeconds(hash uint32, now, period time.Duration) int {
	if period < time.Second {
		return limit.CeilSeconds(period)
	}
	at := time.Duration(uint64(hash)*uint64(period.Microseconds())>>32) * time.Microsecond
	wait := (at - now%period + period) % period
	if wait < period/2 {
		wait += period
	}
	return limit.CeilSeconds(wait)
}

// secondsHeaders are the header values for small counts of seconds, made once.
func secondsHeaders(n int) [][]string {
	all := make([][]string, n)
	for i := range all {
		all[i] = []string{strconv.Itoa(i)}
	}
	return all
}
