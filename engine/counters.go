package engine

import (
	"sync/atomic"
	"time"
)

// Stats are what an engine counted since it was made.
type Stats struct {
	Leads       bool
	Plans       Timing
	Ticks       Timing
	Retries     uint64 // pushes that failed for any reason
	Commits     uint64 // pushed
	Grants      uint64 // made
	Receiving   int    // reports that are being folded and stored now
	UnreadCells int    // cells with states in the store that were not read yet
}

// Timing counts how often something was done, and how long it took.
type Timing struct {
	Count       uint64
	Total, Last time.Duration
}

type counters struct {
	plans, ticks             timer
	retries, commits, grants atomic.Uint64
	receiving                atomic.Int64
	led                      atomic.Bool // the last plan was carried out
}

type timer struct {
	count       atomic.Uint64
	total, last atomic.Int64
}

func (t *timer) observeSince(began time.Time) {
	took := int64(time.Since(began))
	t.count.Add(1)
	t.total.Add(took)
	t.last.Store(took)
}

func (t *timer) load() Timing {
	return Timing{Count: t.count.Load(), Total: time.Duration(t.total.Load()), Last: time.Duration(t.last.Load())}
}

// Stats returns the current counts, for metrics.
func (e *Engine) Stats() Stats {
	c := &e.counters
	return Stats{
		Leads: e.lease.Leads(), Plans: c.plans.load(), Ticks: c.ticks.load(),
		Retries: c.retries.Load(), Commits: c.commits.Load(),
		Grants: c.grants.Load(), Receiving: int(c.receiving.Load()), UnreadCells: e.follower.unreadCells(),
	}
}
