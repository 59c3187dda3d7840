package plane

import (
	"time"

	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	minRetryPause     = 100 * time.Millisecond
	maxRetryPause     = 30 * time.Second  // (R33)
	unauthorizedPause = 300 * time.Second // after a 401
)

// retryPause returns the pause after a number of failures in a row. It is jittered: a fleet that lost its control plane
// at one instant must not return at one instant (fault 36).
func retryPause(failures int) time.Duration {
	return backoff.FullJitter(backoff.Exponential(minRetryPause, maxRetryPause, failures))
}
