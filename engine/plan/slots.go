package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// pending tells whether a cell has a slot of c in use: it was granted something and has no result yet, for no longer than
// the stall limit (R14). Offers that lapsed are out of the question already.
func (p *planner) pending(c *Channel, s *CellState) bool {
	g := s.Granted
	if g == nil || g.Channel != c.Name || s.Applying == nil && s.on(g) {
		return false
	}
	if s.Digest == g.Digest && s.broken() {
		return false
	}
	for i := range s.Failures {
		if a := &s.Failures[i].Assignment; a.Sequence == g.Sequence && a.Epoch == g.Epoch && a.Digest == g.Digest && a.Revision == g.Revision {
			return false
		}
	}
	if c.Valid == nil {
		return true
	}
	since := s.StartedAt
	if since.IsZero() {
		since = s.GrantedAt // it did not begin
	}
	return !p.stalledSince(since, c.Valid.Rollout.Stall)
}

// stalledSince tells whether more than the stall limit has passed since an instant. Time in which nobody listened, or that
// can't be trusted, does not count (R10).
func (p *planner) stalledSince(since time.Time, limit time.Duration) bool {
	if p.o.Up.After(since) {
		since = p.o.Up
	}
	at := since.Add(limit)
	p.at(at)
	return !p.now.Before(at) && p.o.Clock.Doubt() == ""
}

// on tells whether the cell runs what g says, under whatever sequence: nothing is to change in it.
func (s *CellState) on(g *cells.Assignment) bool {
	return s.Digest == g.Digest && (s.Running == nil || s.Running.Revision == g.Revision)
}

// ended finds the slots that the store still counts, and that are over (R14).
func (p *planner) ended(c *Channel) {
	var over []string
	for _, name := range p.o.Slots[c.Name] {
		cell, s := p.d.Cells[name], p.o.Cells[name]
		if cell == nil || cell.Channel != c.Name || s == nil || p.lapsed(c, s) || !p.pending(c, s) {
			over = append(over, name)
		}
	}
	if len(over) > 0 {
		slices.Sort(over)
		p.plan.Learned.Freed = append(p.plan.Learned.Freed, Freed{Channel: c.Name, Cells: over})
	}
}

// abandoned ends the slots of channels that are gone.
func (p *planner) abandoned() {
	for _, name := range slices.Sorted(maps.Keys(p.o.Slots)) {
		if p.d.Channels[name] == nil && len(p.o.Slots[name]) > 0 {
			p.plan.Learned.Freed = append(p.plan.Learned.Freed, Freed{Channel: name, Cells: slices.Sorted(slices.Values(p.o.Slots[name]))})
		}
	}
}
