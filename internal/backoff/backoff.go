// Package backoff computes pauses between retries, and waits. It retries nothing itself and counts no failures: the
// caller does. Everything may be called at once.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Exponential returns the pause after a number of failures: first, doubled with each failure, at most limit.
func Exponential(first, limit time.Duration, failures int) time.Duration {
	return min(first<<min(failures, 20), limit)
}

// FullJitter returns a pause of up to d, so that callers that failed together do not retry together.
func FullJitter(d time.Duration) time.Duration {
	return rand.N(d) + time.Millisecond //nolint:gosec // jitter
}

// Shorten returns d or up to a tenth less.
func Shorten(d time.Duration) time.Duration {
	return d - rand.N(d/10+1) //nolint:gosec // jitter
}

// Lengthen returns d or up to half more, for a caller that was asked to stay away for d.
func Lengthen(d time.Duration) time.Duration {
	return d + rand.N(d/2+1) //nolint:gosec // jitter
}

// Spread returns d or up to a fifth more or less.
func Spread(d time.Duration) time.Duration {
	return d - d/5 + rand.N(d*2/5+1) //nolint:gosec // jitter
}

// Sleep waits for d, or until ctx ends; then it returns ctx's error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
