package engine

import (
	"sync/atomic"
	"time"
)

// Numbers are what an engine counted since it was made.
type Numbers struct {
	Leads       bool
	Plans       Timed
	Ticks       Timed
	Retries     uint64 // pushes that failed for any reason
	Commits     uint64 // pushed
	Grants      uint64 // made
	Receiving   int    // reports that are being folded and stored now
	UnreadCells int    // cells with states in the store that were not read yet
}

// Timed counts how often something was done, and how long it took.
type Timed struct {
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

func (t *timer) load() Timed {
	return Timed{Count: t.count.Load(), Total: time.Duration(t.total.Load()), Last: time.Duration(t.last.Load())}
}

// Numbers returns the current counts, for metrics.
func (e *Engine) Numbers() Numbers {
	c := &e.counters
	return Numbers{
		Leads: e.lease.Leads(), Plans: c.plans.load(), Ticks: c.ticks.load(),
		Retries: c.retries.Load(), Commits: c.commits.Load(),
		Grants: c.grants.Load(), Receiving: int(c.receiving.Load()), UnreadCells: e.follower.unreadCells(),
	}
}
