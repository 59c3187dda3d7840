package plan

import (
	"path"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
)

// rollout is a channel's head on its way to the cells, from one walk over them.
type rollout struct {
	c              *channelPlan
	progress       waveProgress
	withoutWaiting waveProgress       // the same as of the cells that have the head; those that wait for it are counted on top
	lane           bool               // it is on the hotfix lane still (R17)
	waiting        []need             // by name
	held           []channels.Verdict // by index in waiting: what holds that one; no gate: nothing
	queue          []int32            // by index of cell: of those that wait for the head in its wave order, index in waiting + 1
	aside          []int              // out of that queue, as indexes in waiting: nothing changes in them, or another head is for them
	verdicts       []channels.Verdict // about cells whose grant failed
	slots          int                // in use
}

// newRollout walks through the cells of c, and finds out how far its head has come.
func newRollout(c *channelPlan) *rollout {
	r := &rollout{c: c}
	r.walk()
	r.withoutWaiting = r.progress
	r.lane = c.Effective.Hotfix && c.lane(c.Effective.Release, c.Effective.Digest) != nil
	r.enqueue()
	r.openWave()
	return r
}

// grant lets cells have the head, as far as the rollout and what binds grants allow (R14, R18).
func (r *rollout) grant() {
	c := r.c
	for _, v := range r.verdicts {
		c.p.block(v)
	}
	if len(r.waiting) == 0 || c.restate(r.waiting) {
		return
	}
	if v, bound := r.stopped(); bound {
		r.blockHead(v)
		return
	}
	if v, bound := r.bound(); bound {
		if c.Effective.Kind != Rollback || !r.onlyBack() {
			r.blockHead(v)
		}
		if c.Effective.Kind != Rollback {
			return
		}
	}
	r.give()
}

// blockHead adds a verdict about the head.
func (r *rollout) blockHead(v channels.Verdict) {
	v.Channel, v.Release = r.c.Name, r.c.Effective.Release
	r.c.p.block(v)
}

// onlyBack keeps of those that wait only the cells that the head takes back, which nothing binds (R18). It reports whether that is all of them.
func (r *rollout) onlyBack() bool {
	left := slices.DeleteFunc(slices.Clone(r.waiting), func(n need) bool { return !r.goesBack(&n) })
	all := len(left) == len(r.waiting)
	if !all {
		r.waiting = left
		r.enqueue()
		r.openWave()
	}
	return all
}

// walk goes through the cells once, and finds out which lack the head, which have it, and how these do.
func (r *rollout) walk() {
	c, p := r.c, r.c.p
	if r.waved() {
		r.progress.waves, r.progress.order = c.Valid.Rollout.Waves, c.waveOrder()
		r.waiting = make([]need, 0, len(c.Cells)) // many, mostly
	}
	proven := c.Effective
	if !c.done(c.Effective) {
		proven = r.proven()
	}
	for i, cell := range c.Cells {
		s, failedHead := c.tally.cells[i].last, c.tally.cells[i].failed
		if s == nil {
			continue // never heard of: told its head when it reports
		}
		head := r.headFor(s, proven)
		if r.runs(cell, s, head) { // as nearly all do
			if failedHead || p.fresh(s) {
				r.progress.count(c, i, s, failedHead)
			}
			continue
		}
		slot := false
		if c.lapsed(s) {
			p.plan.Learned.Lapsed = append(p.plan.Learned.Lapsed, cell.Name)
			s = Lapse(s)
		} else if slot = c.pending(s); slot {
			r.slots++
		}
		if !r.has(cell, s, head) {
			r.waiting = append(r.waiting, need{cell, i, s, head, slot})
			continue
		}
		v, failed := r.failedGrant(cell, s, head)
		if failed {
			r.verdicts = append(r.verdicts, v)
		}
		if head == c.Effective && (failedHead || !failed && (slot || p.fresh(s))) {
			r.progress.count(c, i, s, failedHead)
		}
	}
}

// runs reports whether a cell was granted what head means for it and runs that, with nothing else begun.
func (r *rollout) runs(cell *Cell, s *CellState, head *EffectiveHead) bool {
	return r.has(cell, s, head) && s.Sequence == head.Sequence && s.Digest == head.Digest &&
		(s.Running == nil || s.Running.Revision == cell.Revision) && (s.Applying == nil || s.Applying.Sequence == s.Sequence)
}

// enqueue puts those that wait in the queue for the head, or aside, and finds out what holds single ones.
func (r *rollout) enqueue() {
	c := r.c
	r.progress = r.withoutWaiting
	if len(r.waiting) == 0 {
		r.held, r.queue, r.aside = nil, nil, nil
		return
	}
	r.held, r.queue, r.aside = make([]channels.Verdict, len(r.waiting)), make([]int32, len(c.Cells)), nil
	for i := range r.waiting {
		n := &r.waiting[i]
		r.held[i] = r.single(n)
		switch {
		case r.held[i].Gate != "":
			if g := r.held[i].Gate; (g == "owner" || g == "window") && n.head == c.Effective && !c.tally.excluded(n.at) {
				r.progress.awaiting++
			}
		case n.already():
			r.aside = append(r.aside, i)
			r.progress.count(c, n.at, n.state, false)
		case n.head != c.Effective:
			r.aside = append(r.aside, i)
		default:
			r.queue[n.at] = int32(i) + 1
			r.progress.waits(n.at)
		}
	}
}

// give grants to those that wait what they may have: to those with nothing installed first, then in the head's wave order,
// up to the end of the open wave, as long as there are slots. To all others it says why not.
func (r *rollout) give() {
	if len(r.waiting) == 0 {
		return
	}
	c, waiting, held := r.c, r.waiting, r.held
	g := granter{c: c, free: r.free(), heads: map[string]*grants{}}
	for _, i := range r.aside {
		if n := &waiting[i]; n.already() {
			g.give(n, false)
		} else {
			held[i] = g.offer(n)
		}
	}
	place := r.progress.offered
	reasons := newReasonWriter(&r.progress, len(waiting))
	for _, at := range c.waveOrder().order {
		i := r.queue[at] - 1
		if i < 0 {
			continue
		}
		place++
		if place > r.progress.open {
			held[i] = channels.Verdict{Gate: "wave", Code: reason.Wave, Until: r.progress.until(r.progress.waveOf(place))}
			reasons.waits(int(i), place)
		} else if held[i] = g.offer(&waiting[i]); held[i].Gate != "" {
			reasons.capped(int(i), place, held[i].Reason)
		}
	}
	reasons.put(held)
	c.p.plan.Blocked = slices.Grow(c.p.plan.Blocked, len(held))
	for i := range held {
		if v := &held[i]; v.Gate != "" {
			v.Channel, v.Cell, v.Release = c.Name, waiting[i].cell.Name, waiting[i].head.Release
			c.p.block(*v)
		}
	}
	g.act(r.progress.wave)
}

// has tells whether the newest grant of a cell is what head means for it. Without a known grant, what it runs counts as granted.
func (r *rollout) has(cell *Cell, s *CellState, head *EffectiveHead) bool {
	g := s.Last()
	if g == nil {
		return s.Digest == head.Digest && r.c.p.state(cell) != nil
	}
	return g.Channel == r.c.Name && g.Epoch >= cell.Identity.Epoch && g.Sequence == head.Sequence && g.Digest == head.Digest && g.Revision == cell.Revision
}

// stopped gives the verdict that stops all grants of c now, even those that go back.
func (r *rollout) stopped() (v channels.Verdict, stopped bool) {
	c, e := r.c, r.c.Effective
	if q := c.p.quarantined(c.Name, e.Release, e.Digest); q != nil {
		return channels.Blocked("quarantine", reason.Quarantine, q.Reason), true
	}
	if until, yes := c.observing(); yes {
		return channels.Blocked("observing", reason.Observing).Before(until), true
	}
	if e.Kind == Rollback {
		if i := slices.IndexFunc(c.Holds, func(h channels.Hold) bool { return path.Base(h.File) == haltFile(e.Sequence) }); i >= 0 {
			return holding(c.Holds[i]), true // the rollback itself failed
		}
	}
	return v, false
}

// bound gives the verdict that binds grants of c now, but for those that go back: a hold, the clock, freezes, windows.
// While its lane is open a hotfix ignores windows, and freezes if it says so (R17, R18).
func (r *rollout) bound() (v channels.Verdict, bound bool) {
	c, p := r.c, r.c.p
	if c.Policy == nil {
		return invalid(c.Channel), true
	}
	if len(c.Holds) > 0 {
		return holding(c.Holds[0]), true
	}
	if doubt := p.o.Clock.judge(); !doubt.Holds && c.timed() {
		return doubt, true
	}
	var lane *channels.Hotfix
	if e := c.Effective; e.Hotfix {
		lane = c.lane(e.Release, e.Digest)
	}
	if f, any := c.freeze(); any && (lane == nil || !lane.OverrideFreeze) {
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
