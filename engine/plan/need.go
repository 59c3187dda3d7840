package plan

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// need is a cell that lacks its head.
type need struct {
	cell  *Cell
	at    int // its index in the channel
	state *CellState
	head  *EffectiveHead
	slot  bool // it has one in use already, for what it was granted before
}

// runs tells whether the cell runs just that under another sequence, though it may be about to leave it.
func (n *need) runs() bool {
	return n.state.Digest == n.head.Digest && n.state.Running != nil && n.state.Running.Revision == n.cell.Revision
}

// already tells whether nothing changes in the cell (R19). One that applies something else is to be taken back from that,
// and is in flight until it was.
func (n *need) already() bool { return n.runs() && n.state.Applying == nil }

// goesBack tells whether the grant takes a cell back, or changes nothing: what is new to it waits as ever (R18).
func (p *planner) goesBack(n *need) bool {
	if n.runs() {
		return true
	}
	running, to := p.version(n.state.Release), p.version(n.head.Release)
	return !running.IsZero() && to.Less(running)
}

// lapsed tells whether a cell's offer ended untaken: it fell silent, or what was offered is quarantined (R14, R21).
func (p *planner) lapsed(c *Channel, s *CellState) bool {
	g := s.Granted
	if g == nil {
		return false
	}
	withdrawn := len(p.d.Quarantine) > 0 && p.quarantined(c.Name, g.Release, g.Digest) != nil
	if !withdrawn {
		if p.fresh(s) {
			return false
		}
		ends := s.GrantedAt.Add(p.d.StaleAfter())
		p.at(ends)
		if p.now.Before(ends) {
			return false
		}
	}
	return !s.took()
}

// failedGrant gives the verdict about a cell that is not on what it was granted because that failed there: under the same
// head and values it is not tried again (R21). ok is false if it did not.
func (p *planner) failedGrant(c *Channel, cell *Cell, s *CellState, head *EffectiveHead) (v channels.Verdict, ok bool) {
	if s.Digest == head.Digest && s.Running != nil && s.Running.Revision == cell.Revision {
		return v, false // it was granted the same release again
	}
	for _, f := range slices.Backward(s.Failures) {
		if a := &f.Assignment; a.Digest == head.Digest && a.Sequence == head.Sequence && a.Revision == cell.Revision {
			tried := "the next head is"
			if f.Values {
				tried = "other values are"
			}
			return channels.Verdict{Channel: c.Name, Cell: cell.Name, Release: head.Release, Gate: "failed",
				Reason: fmt.Sprintf("%s failed: %s; %s tried, not this again", head.Release, f.Reason, tried)}, true
		}
	}
	return v, false
}

// proven is the newest head that a cell with nothing installed may have: of a release that is finished here, and not
// quarantined (R15); nil: none.
func (p *planner) proven(c *Channel) *EffectiveHead {
	finished := map[releases.Digest]bool{}
	for i := range c.History {
		h := &c.History[i]
		if p.done(c.Name, h) || i+1 < len(c.History) && c.History[i+1].ReplacedFinished {
			finished[h.Digest] = true
		}
	}
	for i := range slices.Backward(c.History) { // a rollback wrote it again, under a higher sequence
		if h := &c.History[i]; finished[h.Digest] && p.quarantined(c.Name, h.Release, h.Digest) == nil {
			return h
		}
	}
	return nil
}

// headFor is the head that a cell is to have: the channel's, but for one that has nothing installed, the newest that is
// proven (R15). It joins the rollout without one, where it failed that or never came to an end with it, and where it was
// granted a newer (R2).
func (p *planner) headFor(c *Channel, s *CellState, proven *EffectiveHead) *EffectiveHead {
	if s.Digest != "" || proven == nil || proven == c.Effective {
		return c.Effective
	}
	if g := s.Granted; g != nil && g.Channel == c.Name && (g.Sequence > proven.Sequence || s.took() && !p.pending(c, s)) {
		return c.Effective
	}
	for i := range s.Failures {
		if a := &s.Failures[i].Assignment; a.Channel == c.Name && a.Sequence >= proven.Sequence {
			return c.Effective
		}
	}
	return proven
}

// single says what holds one cell back from its head, whatever the channel says; no gate: nothing.
func (p *planner) single(c *Channel, n *need, lane bool) (v channels.Verdict) {
	if v = p.fits(c, n); v.Gate != "" {
		return v
	}
	if !p.goesBack(n) {
		if v = p.vendor(c, n, lane); v.Gate != "" {
			return v
		}
	}
	if !n.runs() { // R18: else it is what it has, or its last good one
		v = p.owner(n)
	}
	if v.Gate == "" && !p.fresh(n.state) {
		v = channels.Verdict{Gate: "silent", Reason: "not heard of since " + words.Stamp(n.state.LastReport)} // an offer would only lapse
	}
	return v
}

// fits says what a cell lacks for its head (R16, R20).
func (p *planner) fits(c *Channel, n *need) (v channels.Verdict) {
	if len(n.cell.Faults) > 0 {
		return channels.Verdict{Gate: "invalid", Reason: n.cell.Faults[0].String()}
	}
	r := p.d.Releases[n.head.Release]
	if r == nil || !r.Loaded {
		return v
	}
	if why := p.lacks(r, n.state); why != "" {
		return channels.Verdict{Gate: "requires", Reason: why}
	}
	if over := p.over(c, n.state, r.Version); over != "" {
		return channels.Verdict{Gate: "forward-only", Reason: fmt.Sprintf("the cell runs %s, and %s is forward-only", n.state.Release, over)}
	}
	t := p.tallies[c.Name]
	if t.misfitsOf != r {
		t.misfits, t.misfitsOf = c.misfits(r), r
	}
	if why := t.misfits[n.at]; why != "" {
		return channels.Verdict{Gate: "values", Reason: why}
	}
	return v
}

// vendor says what the vendor decided about one cell: paused, pinned, held, or outside its windows, which a hotfix's lane
// ignores. Rollbacks ask none of it.
func (p *planner) vendor(c *Channel, n *need, lane bool) (v channels.Verdict) {
	if h := p.tallies[c.Name].held[n.cell.Name]; h != nil {
		return channels.Verdict{Gate: "hold", Reason: holding(*h)}
	}
	if n.cell.Paused == "" && n.cell.Pin == "" && len(n.cell.Windows) == 0 {
		return v
	}
	gate, reason, until, ok := n.cell.Binds(n.head.Release, p.now)
	if gate == "window" && lane {
		return v
	}
	p.at(until)
	if ok {
		return p.timely(len(n.cell.Windows) > 0 && !lane)
	}
	return channels.Verdict{Gate: gate, Reason: reason, Until: until}
}

// owner says what the cell's owner decided. It binds rollbacks too: all but what the cell goes back to by itself (R18).
func (p *planner) owner(n *need) (v channels.Verdict) {
	o := n.state.Owner
	if o == nil {
		return v
	}
	reason, until, ok := o.Judge(cells.Assignment{Release: n.head.Release, Digest: n.head.Digest}, p.now)
	p.at(until)
	if ok {
		return p.timely(len(o.Windows) > 0)
	}
	return channels.Verdict{Gate: "owner", Reason: reason, Until: until}
}

// timely blocks what time has a part in while time can't be trusted (R10).
func (p *planner) timely(timed bool) (v channels.Verdict) {
	if reason := p.o.Clock.Doubt(); timed && reason != "" {
		return channels.Verdict{Gate: "clock", Reason: reason}
	}
	return v
}

// lacks says what a cell has not that r requires (R16); empty: nothing.
func (p *planner) lacks(r *Release, s *CellState) string {
	if n := r.Requires.Infrastructure; n > s.Infrastructure {
		return fmt.Sprintf("%s needs infrastructure %d, the cell has %d", r.Version, n, s.Infrastructure)
	}
	if from := r.Requires.From; !from.IsZero() && s.Release != "" {
		if running := p.version(s.Release); !running.IsZero() && running.Less(from) {
			return fmt.Sprintf("%s installs over %s or later, the cell runs %s", r.Version, from, s.Release)
		}
	}
	return ""
}

// over names the forward-only release that a cell would go back over on the way to a version (R20); empty: none.
func (p *planner) over(c *Channel, s *CellState, to releases.Version) string {
	running := p.version(s.Release)
	if running.IsZero() || !to.Less(running) {
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
