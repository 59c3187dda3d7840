package engine

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
)

// grant lets cells of c have its head, as far as the rollout and what binds grants allow (R14, R18).
func (p *planner) grant(c *Channel) {
	e := c.Effective
	if e == nil || c.Valid == nil {
		return
	}
	needy := p.needy(c)
	if len(needy) == 0 || p.restate(c, needy) {
		return
	}
	v, bound := p.stopped(c)
	if !bound {
		v, bound = p.bound(c)
		if bound && e.Kind == Rollback {
			all := len(needy)
			needy = slices.DeleteFunc(needy, func(n need) bool { return !n.back() })
			bound = len(needy) < all
		} else if bound {
			needy = nil
		}
	} else {
		needy = nil
	}
	if bound {
		v.Channel, v.Release = c.Name, e.Release
		p.block(v)
	}
	wave, open := p.wave(c)
	slots := p.slots(c)
	granted := map[string][]string{} // by head's release
	heads := map[string]*EffectiveHead{}
	give := func(n need) {
		heads[n.head.Release] = n.head
		granted[n.head.Release] = append(granted[n.head.Release], n.cell.Name)
	}
	for _, n := range needy {
		switch {
		case !p.fresh(n.state):
			continue // an offer would only lapse
		case n.verdict.Gate != "":
			n.verdict.Channel, n.verdict.Cell, n.verdict.Release = c.Name, n.cell.Name, n.head.Release
			p.block(n.verdict)
		case n.already():
			give(n)
		case n.head == e && open != nil && !open[n.cell.Name]:
			p.block(channels.Verdict{Channel: c.Name, Cell: n.cell.Name, Release: e.Release, Gate: "wave", Reason: fmt.Sprintf("waits for wave %d to be through", wave)})
		case slots == 0:
			p.block(channels.Verdict{Channel: c.Name, Cell: n.cell.Name, Release: e.Release, Gate: "maxInFlight", Reason: "updating at once: at most " + count(c.Valid.Rollout.MaxInFlight, "cell")})
		default:
			slots--
			give(n)
		}
	}
	for _, release := range slices.Sorted(maps.Keys(granted)) {
		h := heads[release]
		p.act(Action{
			Kind: Grant, Channel: c.Name, Release: release, Digest: h.Digest, Sequence: h.Sequence,
			Wave: wave, Cells: granted[release], Evidence: []string{},
		})
	}
}

// Assign is what head means for a cell whose last word is s. The epoch rises when the cell came from another
// channel, whose sequences say nothing here (R2).
func Assign(d *Desired, cell *Cell, head *EffectiveHead, s *CellState) cells.Assignment {
	epoch := cell.Identity.Epoch
	if last := s.last(); last != nil {
		if last.Channel != cell.Channel {
			epoch = max(epoch, last.Epoch+1)
		}
		epoch = max(epoch, last.Epoch)
	}
	a := cells.Assignment{
		Channel: cell.Channel, Epoch: epoch, Sequence: head.Sequence, Release: head.Release, Digest: head.Digest,
		Profile: cell.Profile, Values: cell.Values, Revision: cell.Revision,
	}
	a.Forward = forwardOnly(d, head)
	return a
}

// last is the newest assignment that is known of: the grant, or without one, what it runs.
func (s *CellState) last() *cells.Assignment {
	if s == nil {
		return nil
	}
	if s.Granted != nil {
		return s.Granted
	}
	return s.Running
}

// has tells whether the newest grant of a cell is what head means for it. Without a known grant, what it runs counts as granted.
func (p *planner) has(c *Channel, cell *Cell, s *CellState, head *EffectiveHead) bool {
	g := s.last()
	if g == nil {
		return s.Digest == head.Digest && p.state(cell) != nil
	}
	return g.Channel == c.Name && g.Epoch >= cell.Identity.Epoch && g.Sequence == head.Sequence && g.Digest == head.Digest && g.Revision == cell.Revision
}

// stopped gives the verdict that stops all grants of c now, even those that go back.
func (p *planner) stopped(c *Channel) (v channels.Verdict, stopped bool) {
	e := c.Effective
	if q := p.quarantined(c.Name, e.Release, e.Digest); q != nil {
		return channels.Verdict{Gate: "quarantine", Reason: q.Reason}, true
	}
	if until, yes := p.observing(c); yes {
		return channels.Verdict{Gate: "observing", Reason: "not every cell has reported since observing began", Until: until}, true
	}
	if e.Kind == Rollback {
		if i := slices.IndexFunc(c.Holds, func(h channels.Hold) bool { return path.Base(h.File) == haltFile(e.Sequence) }); i >= 0 {
			return channels.Verdict{Gate: "hold", Reason: holding(c.Holds[i])}, true // the rollback itself failed
		}
	}
	return v, false
}

// bound gives the verdict that binds grants of c now, but for those that go back: a hold, the clock, freezes, windows.
// While its lane is open a hotfix ignores windows, and freezes if it says so (R17, R18).
func (p *planner) bound(c *Channel) (v channels.Verdict, bound bool) {
	if c.Policy == nil {
		return channels.Verdict{Gate: "invalid", Reason: invalid(c)}, true
	}
	if len(c.Holds) > 0 {
		return channels.Verdict{Gate: "hold", Reason: holding(c.Holds[0])}, true
	}
	if reason := p.clock(); reason != "" && p.timed(c) {
		return channels.Verdict{Gate: "clock", Reason: reason}, true
	}
	var lane *channels.Hotfix
	if e := c.Effective; e.Hotfix {
		lane = p.lane(c, e.Release, e.Digest)
	}
	if f, any := p.freeze(c); any && (lane == nil || !lane.OverrideFreeze) {
		p.at(f.Until)
		if !f.Holds {
			return f, true
		}
	}
	for i := range c.Policy.Gates {
		g := &c.Policy.Gates[i]
		if g.Window == nil || lane != nil {
			continue
		}
		w := channels.JudgeWindow(g.Window, p.now)
		p.at(w.Until)
		if !w.Holds {
			w.Gate = g.ID
			return w, true
		}
	}
	return v, false
}

// slots is how many more cells may begin now; negative: any number.
func (p *planner) slots(c *Channel) int {
	limit := c.Valid.Rollout.MaxInFlight
	if limit == 0 {
		return -1
	}
	e := c.Effective
	for _, cell := range c.Cells {
		s := p.o.Cells[cell.Name]
		if s == nil || s.Granted == nil || s.Granted.Sequence != e.Sequence || s.Granted.Channel != c.Name || s.Digest == e.Digest || p.failedOn(c, s) {
			continue
		}
		if p.fresh(s) { // an offer to a silent cell lapses
			limit--
		}
	}
	return max(limit, 0)
}
