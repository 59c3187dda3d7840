package plan

import (
	"path"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// rollout is a channel's head on its way to the cells.
type rollout struct {
	channel  *channelPlan
	progress waveProgress
	// Progress as of the cells that have the head already; enqueueWaiting adds the waiting cells to it
	withoutWaiting waveProgress
	hotfixOpen     bool          // the head's hotfix is still open (R17)
	waiting        []waitingCell // cells that lack their head, sorted by name
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

// class says what a cell is to the head's rollout.
type class uint8

const (
	aside      class = iota // it counts for nothing now
	lacksHead               // it lacks its head
	hasHead                 // it was granted the head, or runs it
	failedHead              // it was granted the head, and failed it
)

// classifyCells finds out which cells lack the head, and how the others do on it.
func (r *rollout) classifyCells() {
	c, p := r.channel, r.channel.planner
	if r.goesByWaves() {
		r.progress.waves, r.progress.order = c.Valid.Rollout.Waves, c.waveOrder()
	}
	provenHead := c.Effective
	if !c.isFinished(c.Effective) {
		provenHead = r.provenHead()
	}
	m := c.memory
	var anew []waitingCell // what is not remembered of cells that lack their head, in order
	for i := range m.unknown(classified) {
		t := &m.cells[i]
		n := waitingCell{cell: c.Cells[i], index: i, state: t.last}
		m.forget(judged, i)
		before, slots := p.asks, r.slotsInUse
		told := len(r.cellVerdicts) + len(p.plan.Learned.Lapsed)
		m.sums.add(t, -1)
		r.classify(&n, t, provenHead)
		m.sums.add(t, 1)
		m.lacking.Set(i, t.class == lacksHead)
		m.soakers.Set(i, t.class == hasHead && t.soaks)
		if m.known[counted].Has(i) && slots == r.slotsInUse &&
			told == len(r.cellVerdicts)+len(p.plan.Learned.Lapsed) {
			m.remember(p, classified, i, before)
		} else if t.class == lacksHead {
			n.head = t.head
			anew = append(anew, n)
		}
	}
	m.nameSilences(p, classified)
	r.progress.addClassified(m, p.now)
	r.waiting = m.waiting[:0]
	for i := range m.lacking.All() {
		if len(anew) > 0 && anew[0].index == i {
			r.waiting, anew = append(r.waiting, anew[0]), anew[1:]
			continue
		}
		t := &m.cells[i]
		r.waiting = append(r.waiting, waitingCell{cell: c.Cells[i], index: i, state: t.last, head: t.head})
	}
	m.waiting = r.waiting
}

// classify sets the class of a cell and what belongs to it, in n and t.
func (r *rollout) classify(n *waitingCell, t *cellTally, provenHead *EffectiveHead) {
	c, p := r.channel, r.channel.planner
	cell, s := n.cell, n.state
	t.class, t.head = aside, nil
	if s == nil || c.isAhead(cell) {
		return // it gets a grant once it has reported, and what the branch can explain
	}
	t.soaks = s.Digest == c.Effective.Digest && s.State == cells.StateHealthy
	has := hasHead
	if t.outcome != works {
		has = failedHead
	}
	head := r.headFor(s, provenHead)
	retry := retryIsDue(cell, s, head)
	if !retry && r.runsGrant(cell, s, head) { // the usual case
		if has == failedHead || p.inContact(s) {
			t.class = has
		}
		return
	}
	if step, v := r.stepTo(cell, s); step != nil && head == c.Effective {
		head, retry = step, retryIsDue(cell, s, step)
		r.cellVerdicts = append(r.cellVerdicts, v)
	}
	if c.offerLapsed(s) {
		p.plan.Learned.Lapsed = append(p.plan.Learned.Lapsed, cell.Name)
		s = WithoutGrant(s)
		n.state = s
	} else if n.hasSlot = c.usesSlot(s); n.hasSlot {
		r.slotsInUse++
		if v, stalled := r.judgeStall(cell, s); stalled {
			r.cellVerdicts = append(r.cellVerdicts, v)
		}
	}
	if retry || !r.hasGrant(cell, s, head) {
		t.class, t.head = lacksHead, head
		return
	}
	v, failed := r.failedGrant(cell, s, head)
	if failed {
		r.cellVerdicts = append(r.cellVerdicts, v)
	} else if v, waits := r.judgeMaintenance(cell, s); waits {
		r.cellVerdicts = append(r.cellVerdicts, v)
	}
	if head == c.Effective && (has == failedHead || !failed && (n.hasSlot || p.inContact(s))) {
		t.class = has
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
		r.queue, r.outOfQueue = nil, nil
		return
	}
	m := c.memory
	m.queue = slices.Grow(m.queue[:0], len(c.Cells))[:len(c.Cells)]
	clear(m.queue)
	r.queue, r.outOfQueue = m.queue, nil
	if m.hotfixOpen != r.hotfixOpen {
		m.forgetAll(judged)
	}
	for i := range r.waiting {
		n := &r.waiting[i]
		t := &m.cells[n.index]
		if !m.known[judged].Has(n.index) {
			r.judge(n, t)
		}
		switch {
		case t.held != nil:
			if g := t.held.Gate; (g == "owner" || g == "window") && n.head == c.Effective &&
				!c.tally.isExcluded(n.index) {
				r.progress.awaiting++
			}
		case t.needsNothing:
			r.outOfQueue = append(r.outOfQueue, i)
			r.progress.addOffered(n.index, t, c.planner.now)
		case n.head != c.Effective:
			r.outOfQueue = append(r.outOfQueue, i)
		default:
			r.queue[n.index] = int32(i) + 1
			r.progress.addReady(n.index)
		}
	}
	m.nameSilences(c.planner, judged)
	m.hotfixOpen = r.hotfixOpen
}

// judge sets whether anything holds a cell back from its head. A cell that comes from another channel is judged anew in
// each plan: what that channel's history is may be in dispute.
func (r *rollout) judge(n *waitingCell, t *cellTally) {
	p, m := r.channel.planner, r.channel.memory
	before := p.asks
	t.held, t.needsNothing = nil, n.needsNothing()
	if v := r.judgeCell(n); v.Gate != "" {
		t.held = &v
	}
	if m.known[classified].Has(n.index) && t.inChannel != nil {
		m.remember(p, judged, n.index, before)
	}
}

// grantWaiting grants waiting cells what they may have: first the cells outside of the queue, then the queue in the
// head's wave order, up to the end of the open wave and while slots are free. All other cells get a verdict.
func (r *rollout) grantWaiting() {
	if len(r.waiting) == 0 {
		return
	}
	c := r.channel
	g := granter{channel: c, freeSlots: r.freeSlots(), byRelease: map[string]*headGrants{}}
	m := c.memory
	m.places = slices.Grow(m.places[:0], len(r.waiting))[:len(r.waiting)]
	clear(m.places)
	places := m.places // of cells that get nothing, in the queue; 0: it gets something; noPlace
	for _, i := range r.outOfQueue {
		if n := &r.waiting[i]; n.needsNothing() {
			g.addOffer(n, false)
		} else if !g.offerIfFree(n) {
			places[i] = noPlace
		}
	}
	place := r.progress.offered
	for _, cellIndex := range c.waveOrder().indexes {
		i := r.queue[cellIndex] - 1
		if i < 0 {
			continue
		}
		place++
		if place > r.progress.allowed || !g.offerIfFree(&r.waiting[i]) {
			places[i] = int32(place)
		}
	}
	if c.planner.brief {
		r.sumUpWaiting(places, place)
	} else {
		r.blockWaiting(places)
	}
	g.addActions(r.progress.openWave)
}

// noPlace is the place of a cell that is not in the queue, and finds no free slot.
const noPlace = -1

// blockWaiting adds a verdict for each waiting cell that gets nothing: the one that holds it, or one about its place.
func (r *rollout) blockWaiting(places []int32) {
	c, p := r.channel, r.channel.planner
	p.plan.Blocked = slices.Grow(p.plan.Blocked, len(r.waiting))
	reasons, full := newReasonWriter(&r.progress, len(r.waiting)), r.fullVerdict()
	for i := range r.waiting {
		n, place := &r.waiting[i], int(places[i])
		v := full
		switch held := c.tally.cells[n.index].held; {
		case held != nil:
			v = *held
		case place == 0:
			continue
		case place == noPlace:
		case place > r.progress.allowed:
			v = channels.Verdict{
				Gate: waveGate, Code: reason.Wave, Until: r.progress.opensAt(r.progress.waveAt(place)),
			}
			reasons.writeWave(len(p.plan.Blocked), place)
		default:
			reasons.writeCap(len(p.plan.Blocked), place, full.Reason)
		}
		v.Channel, v.Cell, v.Release = c.Name, n.cell.Name, n.head.Release
		p.block(v)
	}
	reasons.setReasons(p.plan.Blocked)
}

// The gates of verdicts about cells that wait for their turn.
const (
	waveGate = "wave"
	slotGate = "maxInFlight"
)

// fullVerdict returns the verdict about a cell that finds no free slot.
func (r *rollout) fullVerdict() channels.Verdict {
	limit := r.channel.Valid.Rollout.MaxInFlight
	return channels.Blocked(slotGate, reason.Slots, words.Count(limit, "cell"))
}

// sumUpWaiting does what blockWaiting does for a brief plan. last is the place of the last cell in the queue.
func (r *rollout) sumUpWaiting(places []int32, last int) {
	c, p, w := r.channel, r.channel.planner, &r.progress
	own, full := len(p.turns), r.fullVerdict()
	for i := range r.waiting {
		n, place := &r.waiting[i], int(places[i])
		if held := c.tally.cells[n.index].held; held != nil {
			v := *held
			v.Channel, v.Cell, v.Release = c.Name, n.cell.Name, n.head.Release
			p.block(v)
			continue
		}
		gate := slotGate
		switch {
		case place == 0:
			continue
		case place > w.allowed:
			gate = waveGate
		}
		turn := p.findTurn(own, c.Name, n.head.Release, gate)
		if turn.Cells++; turn.Cells == 1 {
			turn.Reason = w.describeTurn(place, full.Reason)
		}
		if turn.Cells <= MaxTurnNames {
			turn.First = append(turn.First, n.cell.Name)
		}
	}
	for place := max(w.offered, w.allowed) + 1; place <= last; { // the first in each wave
		wave := w.waveAt(place)
		p.replanAt(w.opensAt(wave))
		if wave > len(w.sizes) {
			break
		}
		place = w.sizes[wave-1] + 1
	}
}

// findTurn returns a channel's turn, which it adds if there is none. The channel's turns begin at index own.
func (p *planner) findTurn(own int, channel, release, gate string) *Turn {
	for i := own; i < len(p.turns); i++ {
		if t := &p.turns[i]; t.Gate == gate && t.Release == release {
			return t
		}
	}
	p.turns = append(p.turns, Turn{Channel: channel, Release: release, Gate: gate})
	return &p.turns[len(p.turns)-1]
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
