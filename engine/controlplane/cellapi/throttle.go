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

// Limits bounds the cells' requests. Limits are per cell, never per address: behind a private link all cells have one
// address (R34). Zero fields have a default; negative fields mean no limit.
type Limits struct {
	Polls     limit.Rate // of GET /v1/desired by one cell, and of downloads; default 10 a second, burst 60
	Reports   limit.Rate // of one cell; default 10 a second, burst 60
	Exports   limit.Rate // of one cell; default 4 a second, burst 60
	Bytes     limit.Rate // of content sent to one cell; default 32 MiB a second, burst 64 MiB
	Downloads int        // concurrent downloads of one cell, of releases and bundles; default 4
	InFlight  int        // concurrent requests of all cells, waiting polls and downloads not counted; default 4096
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
	if l.Exports.PerSecond == 0 {
		l.Exports = limit.Rate{PerSecond: 4, Burst: 60}
	}
	if l.Bytes.PerSecond == 0 {
		l.Bytes.PerSecond = 32 << 20
	}
	if l.Bytes.Burst <= 0 {
		l.Bytes.Burst = 64 << 20
	}
	l.Downloads, l.InFlight = cmp.Or(l.Downloads, 4), cmp.Or(l.InFlight, 4096)
	return l
}

// throttle refuses requests over the cells' limits.
type throttle struct {
	limits     Limits
	inFlight   limit.InFlight
	clockStart time.Time // of the buckets' clock
	metrics    *metrics.Metrics
}

func newThrottle(l Limits, m *metrics.Metrics) *throttle {
	return &throttle{limits: l, inFlight: limit.InFlight{Limit: int64(l.InFlight)}, clockStart: time.Now(), metrics: m}
}

// allow takes one token of a cell's bucket, or answers 429 (fault 40).
func (t *throttle) allow(w http.ResponseWriter, b *limit.Bucket, r limit.Rate, now time.Duration, what string) bool {
	after, ok := b.Allow(r, now)
	if !ok {
		t.metrics.CountShed(what)
		api.SetRetryAfter(w, limit.CeilSeconds(after))
		api.WriteProblem(w, http.StatusTooManyRequests,
			"This cell sends "+what+" faster than allowed: retry after the time in Retry-After.")
	}
	return ok
}

// admit counts a request in, or answers 503 if too many are in flight. Retry-After is spread by the hash of the cell's
// name.
func (t *throttle) admit(w http.ResponseWriter, hash uint32) bool {
	if t.inFlight.Acquire() {
		return true
	}
	t.metrics.CountShed("busy")
	api.SetRetryAfter(w, 1+int(hash%8))
	api.WriteProblem(w, http.StatusServiceUnavailable,
		"Too many requests at once: retry after the time in Retry-After.")
	return false
}

// startDownload counts a cell's download in, or answers 429 if the cell has too many.
func (t *throttle) startDownload(w http.ResponseWriter, e *cellEntry) bool {
	limit := t.limits.Downloads
	if n := e.downloads.Add(1); limit < 0 || int(n) <= limit {
		return true
	}
	e.downloads.Add(-1)
	t.metrics.CountShed("downloads")
	api.SetRetryAfter(w, 2)
	api.WriteProblem(w, http.StatusTooManyRequests,
		"This cell has "+strconv.Itoa(limit)+" downloads in progress already: wait until one ends.")
	return false
}

// now returns the time on the buckets' clock.
func (t *throttle) now() time.Duration { return time.Since(t.clockStart) }

// nextPollSeconds returns in how many seconds a cell should poll next: at its own offset in the interval, so that cells
// that polled together once do not do so again.
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

// secondsHeaders returns the header values for 0 to n-1 seconds.
func secondsHeaders(n int) [][]string {
	all := make([][]string, n)
	for i := range all {
		all[i] = []string{strconv.Itoa(i)}
	}
	return all
}
