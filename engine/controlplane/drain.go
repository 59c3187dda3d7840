package controlplane

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	drainDelay = time.Second      // over which waiting polls and few streams are let go when the server stops
	drainMost  = 5 * time.Second  // over which any number of streams is
	silentFor  = 10 * time.Second // how long streams stay that nothing can be told, on top of what it takes to notice
)

// goingTimes says over which time so many listeners are let go, and within which they come back: so that a replica
// that takes them over is not asked for more handshakes than it can make.
func goingTimes(n int) (over, back time.Duration) {
	return min(drainMost, drainDelay+time.Duration(n)*time.Millisecond/2), 4*time.Second + time.Duration(n)*time.Millisecond
}

// Drain lets those who listen go, with jitter over a few seconds, so that a server can stop; each is told when to come
// back. Nobody can wait any more. Drained says when all have gone.
func (s *Server) Drain() {
	s.draining.Do(func() {
		close(s.drain)
		for _, h := range s.fanout.shards {
			signal(h.poke)
		}
	})
}

// Drained waits until nobody listens any more, or ctx ends: then it cuts those who still do. http.Server.Shutdown
// knows nothing of streams.
func (s *Server) Drained(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for slices.ContainsFunc(s.fanout.shards, func(h *shard) bool { return !h.idle() }) {
		select {
		case <-t.C:
		case <-ctx.Done():
			for _, h := range s.fanout.shards {
				h.cut()
			}
			return fmt.Errorf("stop: cells were still told: %w", ctx.Err())
		}
	}
	return nil
}

// stopping tells whether the server is being drained.
func (s *Server) stopping() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}
