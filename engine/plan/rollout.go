package plan

import (
	"path"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
)

// rollout is a channel's head on its way to the cells, from one walk over them.
type rollout struct {
	march
	had      march              // the same without the needy
	lane     bool               // it is on the hotfix lane still (R17)
	needy    []need             // by name
	held     []channels.Verdict // by index in needy: what holds that one; no gate: nothing
	queue    []int32            // by index of cell: of those that wait for the head in the order of its turn, index in needy + 1
	aside    []int              // out of that line, as indexes in needy: nothing changes in them, or another head is for them
	verdicts []channels.Verdict // about cells whose grant failed
	slots    int                // in use
}

// grant lets cells of c have its head, as far as the rollout and what binds grants allow (R14, R18).
func (p *planner) grant(c *Channel) {
	r := p.rolls[c.Name]
	if r == nil {
		return
	}
	for _, v := range r.verdicts {
		p.block(v)
	}
	if len(r.needy) == 0 || p.restate(c, r.needy) {
		return
	}
	if v, bound := p.stopped(c); bound {
		p.blockHead(c, v)
		return
	}
	if v, bound := p.bound(c); bound {
		if c.Effective.Kind != Rollback || !p.onlyBack(c, r) {
			p.blockHead(c, v)
		}
		if c.Effective.Kind != Rollback {
			return
		}
	}
	p.give(c, r)
}

// blockHead adds a verdict about c's head.
func (p *planner) blockHead(c *Channel, v channels.Verdict) {
	v.Channel, v.Release = c.Name, c.Effective.Release
	p.block(v)
}

// onlyBack leaves of the needy those that the head takes back: they are not bound (R18). It tells whether that is all of them.
func (p *planner) onlyBack(c *Channel, r *rollout) bool {
	left := slices.DeleteFunc(slices.Clone(r.needy), func(n need) bool { return !p.goesBack(&n) })
	all := len(left) == len(r.needy)
	if !all {
		r.needy = left
		p.line(c, r)
		p.openWave(c, &r.march)
	}
	return all
}

// roll walks through the cells of c, and finds out how far its head has come.
func (p *planner) roll(c *Channel) *rollout {
	r := p.walk(c)
	r.had = r.march
	r.lane = c.Effective.Hotfix && p.lane(c, c.Effective.Release, c.Effective.Digest) != nil
	p.line(c, &r)
	p.openWave(c, &r.march)
	return &r
}

// walk goes through the cells of c once, and finds out who lacks the head, who has it, and how it does.
func (p *planner) walk(c *Channel) (r rollout) {
	if p.waved(c) {
		r.waves, r.turn = c.Valid.Rollout.Waves, c.turn()
		r.needy = make([]need, 0, len(c.Cells)) // many, mostly
	}
	t := p.tallies[c.Name]
	proven := c.Effective
	if !p.done(c.Name, c.Effective) {
		proven = p.proven(c)
	}
	for i, cell := range c.Cells {
		s := t.said[i]
		if s == nil {
			continue // never heard of: told its head when it reports
		}
		head := p.headFor(c, s, proven)
		has := p.has(c, cell, s, head)
		if has && s.Sequence == head.Sequence && s.Digest == head.Digest && (s.Running == nil || s.Running.Revision == cell.Revision) {
			if s.Applying == nil || s.Applying.Sequence == s.Sequence { // as nearly all: it runs what it was granted
				if t.bad[i] || p.fresh(s) {
					r.count(c, i, s, t.bad[i])
				}
				continue
			}
		}
		slot := false
		if p.lapsed(c, s) {
			p.plan.Learned.Lapsed = append(p.plan.Learned.Lapsed, cell.Name)
			s = Lapse(s)
			has = p.has(c, cell, s, head)
		} else if slot = p.pending(c, s); slot {
			r.slots++
		}
		if !has {
			r.needy = append(r.needy, need{cell, i, s, head, slot})
			continue
		}
		v, failed := p.failedGrant(c, cell, s, head)
		if failed {
			r.verdicts = append(r.verdicts, v)
		}
		if head == c.Effective && (t.bad[i] || !failed && (slot || p.fresh(s))) {
			r.count(c, i, s, t.bad[i])
		}
	}
	return r
}

// line puts the needy in line for the head, or aside, and finds out what holds single ones.
func (p *planner) line(c *Channel, r *rollout) {
	r.march = r.had
	if len(r.needy) == 0 {
		r.held, r.queue, r.aside = nil, nil, nil
		return
	}
	r.held, r.queue, r.aside = make([]channels.Verdict, len(r.needy)), make([]int32, len(c.Cells)), nil
	for i := range r.needy {
		n := &r.needy[i]
		r.held[i] = p.single(c, n, r.lane)
		switch {
		case r.held[i].Gate != "":
			if g := r.held[i].Gate; (g == "owner" || g == "window") && n.head == c.Effective && !p.tallies[c.Name].apart(c, n.at) {
				r.later++
			}
		case n.already():
			r.aside = append(r.aside, i)
			r.count(c, n.at, n.state, false)
		case n.head != c.Effective:
			r.aside = append(r.aside, i)
		default:
			r.queue[n.at] = int32(i) + 1
			r.waits(n.at)
		}
	}
}

// give grants to the needy what they may have: to those with nothing installed first, then in the order of the head's turn,
// up to the end of the open wave, as long as there are slots. To all others it says why not.
func (p *planner) give(c *Channel, r *rollout) {
	if len(r.needy) == 0 {
		return
	}
	needy, held := r.needy, r.held
	g := granter{p: p, c: c, free: p.free(c, r), heads: map[string]*grants{}}
	for _, i := range r.aside {
		if n := &needy[i]; n.already() {
			g.give(n, false)
		} else {
			held[i] = g.offer(n)
		}
	}
	place := r.given
	said := newWording(&r.march, len(needy))
	for _, at := range c.turn().order {
		i := r.queue[at] - 1
		if i < 0 {
			continue
		}
		place++
		if place > r.open {
			held[i] = channels.Verdict{Gate: "wave", Until: r.until(r.waveOf(place))}
			said.waits(int(i), place)
		} else if held[i] = g.offer(&needy[i]); held[i].Gate != "" {
			said.capped(int(i), place, held[i].Reason)
		}
	}
	said.put(held)
	p.plan.Blocked = slices.Grow(p.plan.Blocked, len(held))
	for i := range held {
		if v := &held[i]; v.Gate != "" {
			v.Channel, v.Cell, v.Release = c.Name, needy[i].cell.Name, needy[i].head.Release
			p.block(*v)
		}
	}
	g.act(r.wave)
}

// Assign is what head means for a cell whose last word is s. The epoch rises when the cell came from another
// channel, whose sequences say nothing here (R2).
func Assign(d *Desired, cell *Cell, head *EffectiveHead, s *CellState) cells.Assignment {
	epoch := cell.Identity.Epoch
	if last := s.Last(); last != nil {
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

// Last is the newest assignment that is known of: the grant, or without one, what it runs.
func (s *CellState) Last() *cells.Assignment {
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
	g := s.Last()
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
	if reason := p.o.Clock.Doubt(); reason != "" && p.timed(c) {
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
