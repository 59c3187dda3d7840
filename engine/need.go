package engine

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// need is a cell that lacks its head.
type need struct {
	cell    *Cell
	state   *CellState
	head    *EffectiveHead
	verdict channels.Verdict // what holds this one cell back; no gate: nothing
}

// already tells whether the cell runs just that under another sequence: nothing changes in it (R19).
func (n need) already() bool {
	return n.state.Digest == n.head.Digest && n.state.Running != nil && n.state.Running.Revision == n.cell.Revision
}

// back tells whether the grant takes the cell back, or changes nothing: what is new to it waits as ever (R18).
func (n need) back() bool {
	if n.already() {
		return true
	}
	running, err1 := releases.ParseVersion(n.state.Release)
	to, err2 := releases.ParseVersion(n.head.Release)
	return err1 == nil && err2 == nil && to.Less(running)
}

// needy lists the cells that were not granted what the head means for them, by name.
func (p *planner) needy(c *Channel) []need {
	var all []need
	for _, cell := range c.Cells {
		s := p.o.Cells[cell.Name]
		if s == nil {
			continue // never heard of: told its head when it reports
		}
		head := p.headFor(c, s)
		has := p.has(c, cell, s, head)
		if has && s.Sequence == head.Sequence && s.Digest == head.Digest && (s.Running == nil || s.Running.Revision == cell.Revision) {
			continue // as nearly all: it runs what it was granted
		}
		if p.lapsed(c, s) {
			p.plan.Learned.Lapsed = append(p.plan.Learned.Lapsed, cell.Name)
			s = Lapse(s)
			head = p.headFor(c, s)
		} else if has {
			p.failedGrant(c, cell, s, head)
			continue
		}
		all = append(all, need{cell, s, head, p.cellVerdict(c, cell, s, head)})
	}
	return all
}

// lapsed tells whether a cell's offer ended untaken: it fell silent, or what was offered is quarantined (R14, R21).
func (p *planner) lapsed(c *Channel, s *CellState) bool {
	g := s.Granted
	if g == nil || s.took() {
		return false
	}
	if p.quarantined(c.Name, g.Release, g.Digest) != nil {
		return true
	}
	ends := s.GrantedAt.Add(p.d.staleAfter())
	p.at(ends)
	return !p.fresh(s) && !p.now.Before(ends)
}

// failedGrant adds a verdict about a cell that is not on what it was granted because that failed there: under the same
// head and values it is not tried again (R21).
func (p *planner) failedGrant(c *Channel, cell *Cell, s *CellState, head *EffectiveHead) {
	if s.Digest == head.Digest && s.Running != nil && s.Running.Revision == cell.Revision {
		return // it was granted the same release again
	}
	for _, f := range slices.Backward(s.Failures) {
		if a := &f.Assignment; a.Digest == head.Digest && a.Sequence == head.Sequence && a.Revision == cell.Revision {
			tried := "the next head is"
			if f.Values {
				tried = "other values are"
			}
			p.block(channels.Verdict{Channel: c.Name, Cell: cell.Name, Release: head.Release, Gate: "failed",
				Reason: fmt.Sprintf("%s failed: %s; %s tried, not this again", head.Release, f.Reason, tried)})
			return
		}
	}
}

// headFor is the head that a cell is to have: the channel's, but for one that has nothing installed, the newest that is proven (R15).
func (p *planner) headFor(c *Channel, s *CellState) *EffectiveHead {
	e := c.Effective
	if s.Digest != "" || s.Granted != nil || p.done(c.Name, e) {
		return e
	}
	for i := len(c.History) - 1; i >= 0; i-- {
		h := &c.History[i]
		proven := p.done(c.Name, h) || i+1 < len(c.History) && c.History[i+1].ReplacedFinished
		if proven && p.quarantined(c.Name, h.Release, h.Digest) == nil {
			return h
		}
	}
	return e
}

// cellVerdict says what holds one cell back from its head, whatever the channel says (R16, R20).
func (p *planner) cellVerdict(c *Channel, cell *Cell, s *CellState, head *EffectiveHead) (v channels.Verdict) {
	blocked := func(gate, format string, args ...any) channels.Verdict {
		return channels.Verdict{Gate: gate, Reason: fmt.Sprintf(format, args...)}
	}
	if len(cell.Faults) > 0 {
		return blocked("invalid", "%s", cell.Faults[0])
	}
	r := p.d.Releases[head.Release]
	if r == nil || !r.Loaded {
		return v
	}
	if why := lacks(r, s); why != "" {
		return blocked("requires", "%s", why)
	}
	if over := p.over(c, s, r.Version); over != "" {
		return blocked("forward-only", "the cell runs %s, and %s is forward-only", s.Release, over)
	}
	if _, ok := r.Profile(cell.Profile); !ok {
		return blocked("values", "%s has no profile %q", head.Release, cell.Profile)
	}
	if wrong := releases.CheckValues(&r.Release, cell.Values); len(wrong) > 0 {
		return blocked("values", "%s", join(wrong))
	}
	return v
}

// lacks says what a cell has not that r requires (R16); empty: nothing.
func lacks(r *Release, s *CellState) string {
	if n := r.Requires.Infrastructure; n > s.Infrastructure {
		return fmt.Sprintf("%s needs infrastructure %d, the cell has %d", r.Version, n, s.Infrastructure)
	}
	if from := r.Requires.From; !from.IsZero() && s.Release != "" {
		if running, err := releases.ParseVersion(s.Release); err == nil && running.Less(from) {
			return fmt.Sprintf("%s installs over %s or later, the cell runs %s", r.Version, from, s.Release)
		}
	}
	return ""
}

// over names the forward-only release that a cell would go back over on the way to a version (R20); empty: none.
func (p *planner) over(c *Channel, s *CellState, to releases.Version) string {
	running, err := releases.ParseVersion(s.Release)
	if err != nil || !to.Less(running) {
		return ""
	}
	if r := p.d.Releases[s.Release]; r != nil && r.ForwardOnly() {
		return s.Release
	}
	if from := p.d.Channels[s.Channel]; from != nil && from != c { // it came from there, and what it runs rests on that past
		return p.crosses(from, to)
	}
	return ""
}
