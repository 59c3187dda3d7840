package plan

import (
	"path"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// rollout is a channel's head on its way to the cells, as of one walk over them.
type rollout struct {
	channel  *channelPlan
	progress waveProgress
	// Progress as of the cells that have the head already; enqueueWaiting adds the waiting cells to it
	withoutWaiting waveProgress
	hotfixOpen     bool               // the head's hotfix is still open (R17)
	waiting        []waitingCell      // cells that lack their head, sorted by name
	held           []channels.Verdict // by index in waiting: the verdict that holds the cell; no gate: none
	// By index of cell: 1 + the index in waiting of a cell that waits for the head in its wave order; 0: not in the
	// queue.
	queue []int32
	// Indexes in waiting of cells outside of the queue: cells in which nothing changes, or that another head is for.
	outOfQueue   []int
	cellVerdicts []channels.Verdict // about cells whose grant failed or stalled, or that get to the head by steps
	steps        []step             // former heads that lead to the head; nil: not looked for yet
	slotsInUse   int                // slots in use
}

func newRollout(c *channelPlan) *rollout {
	r := &rollout{channel: c}
	r.classifyCells()
	r.withoutWaiting = r.progress
	r.hotfixOpen = c.Effective.Hotfix && c.openHotfix(c.Effective.Release, c.Effective.Digest) != nil
	r.enqueueWaiting()
	r.findOpenWave()
	return r
}

// grantCells grants the head to cells, as far as its waves and what binds grants allow (R14, R18).
func (r *rollout) grantCells() {
	c := r.channel
	for _, v := range r.cellVerdicts {
		c.planner.block(v)
	}
	if len(r.waiting) == 0 {
		return
	}
	if v, bound := r.judgeAllGrants(); bound {
		r.blockHead(v)
		return
	}
	if v, bound := r.judgeForwardGrants(); bound {
		if c.Effective.Kind != Rollback || !r.dropForward() {
			r.blockHead(v)
		}
		if c.Effective.Kind != Rollback {
			return
		}
	}
	r.grantWaiting()
}

func (r *rollout) blockHead(v channels.Verdict) {
	v.Channel, v.Release = r.channel.Name, r.channel.Effective.Release
	r.channel.planner.block(v)
}

// dropForward drops all waiting cells but those that the head takes back, which nothing binds (R18). It reports whether
// it dropped none.
func (r *rollout) dropForward() bool {
	left := slices.DeleteFunc(slices.Clone(r.waiting), func(n waitingCell) bool { return !r.movesBack(&n) })
	all := len(left) == len(r.waiting)
	if !all {
		r.waiting = left
		r.enqueueWaiting()
		r.findOpenWave()
	}
	return all
}

// classifyCells walks over the cells once and finds out which lack the head, and how the others do on it.
func (r *rollout) classifyCells() {
	c, p := r.channel, r.channel.planner
	if r.goesByWaves() {
		r.progress.waves, r.progress.order = c.Valid.Rollout.Waves, c.waveOrder()
		r.waiting = make([]waitingCell, 0, len(c.Cells)) // usually many
	}
	provenHead := c.Effective
	if !c.isFinished(c.Effective) {
		provenHead = r.provenHead()
	}
	for i, cell := range c.Cells {
		s, outcome := c.tally.cells[i].last, c.tally.cells[i].outcome
		if s == nil || c.isAhead(cell) {
			continue // it gets a grant once it has reported, and what the branch can explain
		}
		failedHead := outcome != works
		head := r.headFor(s, provenHead)
		retry := retryIsDue(cell, s, head)
		if !retry && r.runsGrant(cell, s, head) { // the usual case
			if failedHead || p.inContact(s) {
				r.progress.addOffered(c, i, s, failedHead)
			}
			continue
		}
		if step, v := r.stepTo(cell, s); step != nil && head == c.Effective {
			head, retry = step, retryIsDue(cell, s, step)
			r.cellVerdicts = append(r.cellVerdicts, v)
		}
		hasSlot := false
		if c.offerLapsed(s) {
			p.plan.Learned.Lapsed = append(p.plan.Learned.Lapsed, cell.Name)
			s = WithoutGrant(s)
		} else if hasSlot = c.usesSlot(s); hasSlot {
			r.slotsInUse++
			if v, stalled := r.judgeStall(cell, s); stalled {
				r.cellVerdicts = append(r.cellVerdicts, v)
			}
		}
		if retry || !r.hasGrant(cell, s, head) {
			r.waiting = append(r.waiting, waitingCell{cell, i, s, head, hasSlot})
			continue
		}
		v, failed := r.failedGrant(cell, s, head)
		if failed {
			r.cellVerdicts = append(r.cellVerdicts, v)
		} else if v, waits := r.judgeMaintenance(cell, s); waits {
			r.cellVerdicts = append(r.cellVerdicts, v)
		}
		if head == c.Effective && (failedHead || !failed && (hasSlot || p.inContact(s))) {
			r.progress.addOffered(c, i, s, failedHead)
		}
	}
}

// runsGrant reports whether the cell was granted what head means for it, runs that, and applies nothing else.
func (r *rollout) runsGrant(cell *Cell, s *CellState, head *EffectiveHead) bool {
	return r.hasGrant(cell, s, head) && s.Sequence == head.Sequence && s.Digest == head.Digest &&
		(s.Running == nil || s.Running.Revision == cell.Revision) &&
		(s.Applying == nil || s.Applying.Sequence == s.Sequence)
}

// enqueueWaiting judges each waiting cell, and puts it in the queue for the head or in outOfQueue.
func (r *rollout) enqueueWaiting() {
	c := r.channel
	r.progress = r.withoutWaiting
	if len(r.waiting) == 0 {
		r.held, r.queue, r.outOfQueue = nil, nil, nil
		return
	}
	r.held, r.queue, r.outOfQueue = make([]channels.Verdict, len(r.waiting)), make([]int32, len(c.Cells)), nil
	for i := range r.waiting {
		n := &r.waiting[i]
		r.held[i] = r.judgeCell(n)
		switch {
		case r.held[i].Gate != "":
			if g := r.held[i].Gate; (g == "owner" || g == "window") && n.head == c.Effective &&
				!c.tally.isExcluded(n.index) {
				r.progress.awaiting++
			}
		case n.needsNothing():
			r.outOfQueue = append(r.outOfQueue, i)
			r.progress.addOffered(c, n.index, n.state, false)
		case n.head != c.Effective:
			r.outOfQueue = append(r.outOfQueue, i)
		default:
			r.queue[n.index] = int32(i) + 1
			r.progress.addReady(n.index)
		}
	}
}

// grantWaiting grants waiting cells what they may have: first the cells outside of the queue, then the queue in the
// head's wave order, up to the end of the open wave and while slots are free. All other cells get a verdict.
func (r *rollout) grantWaiting() {
	if len(r.waiting) == 0 {
		return
	}
	c, waiting, held := r.channel, r.waiting, r.held
	g := granter{channel: c, freeSlots: r.freeSlots(), byRelease: map[string]*headGrants{}}
	for _, i := range r.outOfQueue {
		if n := &waiting[i]; n.needsNothing() {
			g.addOffer(n, false)
		} else {
			held[i] = g.offerIfFree(n)
		}
	}
	place := r.progress.offered
	reasons := newReasonWriter(&r.progress, len(waiting))
	for _, cellIndex := range c.waveOrder().indexes {
		i := r.queue[cellIndex] - 1
		if i < 0 {
			continue
		}
		place++
		if place > r.progress.allowed {
			held[i] = channels.Verdict{
				Gate: "wave", Code: reason.Wave, Until: r.progress.opensAt(r.progress.waveAt(place)),
			}
			reasons.writeWave(int(i), place)
		} else if held[i] = g.offerIfFree(&waiting[i]); held[i].Gate != "" {
			reasons.writeCap(int(i), place, held[i].Reason)
		}
	}
	reasons.setReasons(held)
	c.planner.plan.Blocked = slices.Grow(c.planner.plan.Blocked, len(held))
	for i := range held {
		if v := &held[i]; v.Gate != "" {
			v.Channel, v.Cell, v.Release = c.Name, waiting[i].cell.Name, waiting[i].head.Release
			c.planner.block(*v)
		}
	}
	g.addActions(r.progress.openWave)
}

// hasGrant reports whether the cell's newest grant assigns what head means for it. Without a known grant, what the cell
// runs counts as granted.
func (r *rollout) hasGrant(cell *Cell, s *CellState, head *EffectiveHead) bool {
	g := s.Last()
	if g == nil {
		return s.Digest == head.Digest && r.channel.planner.cellState(cell) != nil
	}
	return g.Channel == r.channel.Name && g.Epoch >= cell.Identity.Epoch && g.Sequence == head.Sequence &&
		g.Digest == head.Digest && g.Revision == cell.Revision
}

// judgeAllGrants returns the verdict that stops all grants of the channel, even those that take cells back.
func (r *rollout) judgeAllGrants() (v channels.Verdict, stopped bool) {
	c, e := r.channel, r.channel.Effective
	if q := c.planner.findQuarantine(c.Name, e.Release, e.Digest); q != nil {
		return channels.Blocked("quarantine", reason.Quarantine, q.Reason), true
	}
	if until, yes := c.observing(); yes {
		return channels.Blocked("observing", reason.Observing).WithUntil(until), true
	}
	if e.Kind == Rollback {
		if i := slices.IndexFunc(c.Holds,
			func(h channels.Hold) bool { return path.Base(h.File) == haltFileName(e.Sequence) }); i >= 0 {
			return holdVerdict(c.Holds[i]), true // the rollback failed
		}
	}
	return v, false
}

// judgeForwardGrants returns the verdict that binds grants of the channel, except those that take cells back: a hold,
// the clock, a freeze or a window. An open hotfix ignores windows, and ignores freezes if it says so (R17, R18).
func (r *rollout) judgeForwardGrants() (v channels.Verdict, bound bool) {
	c, p := r.channel, r.channel.planner
	if c.Policy == nil {
		return invalidVerdict(c.Channel), true
	}
	if len(c.Holds) > 0 {
		return holdVerdict(c.Holds[0]), true
	}
	if doubt := p.observed.Clock.verdict(); !doubt.Holds && c.dependsOnTime() {
		return doubt, true
	}
	var hotfix *channels.Hotfix
	if e := c.Effective; e.Hotfix {
		hotfix = c.openHotfix(e.Release, e.Digest)
	}
	if f, any := c.judgeFreezes(); any && (hotfix == nil || !hotfix.OverrideFreeze) {
		p.replanAt(f.Until)
		if !f.Holds {
			return f, true
		}
	}
	for i := range c.Policy.Gates {
		g := &c.Policy.Gates[i]
		if g.AnyWindow() == nil || hotfix != nil {
			continue
		}
		if w := judgeWindows(c, g); !w.Holds {
			return w, true
		}
	}
	return r.judgeImages()
}

// warmingLook is how long a plan that waits for images stands: how much of them is here changes all the time.
const warmingLook = time.Second

// judgeImages returns the verdict that the head's images are still being fetched for cells.
func (r *rollout) judgeImages() (v channels.Verdict, bound bool) {
	p := r.channel.planner
	w, warming := p.observed.Warming[r.channel.Effective.Digest]
	if !warming || !p.now.Before(w.Until) {
		return v, false
	}
	p.replanAt(p.now.Add(warmingLook))
	return channels.Blocked("images", reason.ImagesWarming, w.Images-w.Ready, w.Images,
		words.Bytes(w.Here), words.Bytes(w.Bytes)).WithUntil(w.Until), true
}
