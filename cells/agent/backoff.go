package agent

import (
	"math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	// retryCap bounds the pauses between tries (R33), deniedPause is the one after a 401.
	retryCap    = 30 * time.Second
	deniedPause = 300 * time.Second
)

// exponential gives the pause after a number of failures in a row.
func exponential(failures int, limit time.Duration) time.Duration {
	return min(firstPause<<min(failures, 20), limit)
}

// backoff is exponential with full jitter, so that a fleet that lost its control plane at one
// instant does not come back at one instant (fault 36).
func backoff(failures int, limit time.Duration) time.Duration {
	return rand.N(exponential(failures, limit)) + time.Millisecond //nolint:gosec // jitter
}

// jittered gives d or up to a tenth less.
func jittered(d time.Duration) time.Duration {
	return d - rand.N(d/10+1) //nolint:gosec // jitter
}
