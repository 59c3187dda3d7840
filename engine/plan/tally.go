package plan

import (
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// tally holds what a channel's cells say about its head.
type tally struct {
	channel   *channelPlan
	cells     []cellTally               // of the channel's memory
	cellHolds map[string]*channels.Hold // holds on single cells, by cell
	misfits   []string                  // Channel.misfits of misfitsOf
	misfitsOf *Release

	eligible int // cells that count for the head's rollout
	healthy  int // eligible cells that are healthy on the head now
	// Eligible cells that failed within the budget or are out of contact: no rollout waits for them
	excused         int
	healthyWithLate int      // cells that are healthy on the head now, including those that joined later
	ill             int      // eligible cells in contact that run the head and are not healthy
	failed          []string // names of cells whose failure or stall counts against the head
	unreadable      []string // names of eligible cells whose files have faults, so that they are in no channel

	soakSamples  []channels.Sample           // set by collectSamples
	soakVerdicts map[string]channels.Verdict // set by judgeSoakOnce, by downstream
}

// inContact reports whether a cell reported within the stale limit.
func (p *planner) inContact(s *CellState) bool {
	if s == nil {
		return false
	}
	last, _ := s.Heard(p.now)
	if last.IsZero() {
		return false
	}
	silentAt := last.Add(p.desired.StaleAfter())
	p.replanIfSilentAt(silentAt)
	return p.now.Before(silentAt)
}

// cellState returns the cell's last state, if it is about the channel that the cell is in now; else nil.
func (p *planner) cellState(cell *Cell) *CellState {
	return p.observed.Cells[cell.Name].ifIn(cell.Channel)
}

// learn adds what the cells report now to what is remembered: which cells the head's rollout is for, whether the
// rollout is through, and which downstreams the head soaked for.
func (c *channelPlan) learn() {
	p := c.planner
	e := c.Effective
	t := &tally{
		channel: c, cells: c.memory.cells, soakVerdicts: map[string]channels.Verdict{},
		cellHolds: cellHolds(c.Channel),
	}
	c.tally = t
	if e == nil {
		return
	}
	_, observing := c.observing()
	if c.cohort == nil {
		c.cohort = &Cohort{Channel: c.Name, Sequence: e.Sequence, Since: p.now, Eligible: t.findEligible()}
		if !observing {
			p.plan.Learned.Cohorts = append(p.plan.Learned.Cohorts, *c.cohort)
		}
	}
	t.countCells(c.cohort.Eligible)
	through := true
	if c.Valid != nil {
		c.rollout = newRollout(c)
	}
	t.weighOutcomes()
	if c.rollout != nil {
		w := &c.rollout.progress
		// The last wave must be open. It must also be through if none of the eligible cells is healthy on the head.
		if last := len(w.waves); last > 0 {
			through = w.openWave == last && (t.healthy > 0 || w.isThrough(last))
		}
	}
	if observing {
		return // cells that have not reported yet count too
	}
	through = through && t.healthy+t.excused >= t.eligible && len(t.failed) <= t.failureBudget() &&
		(t.healthyWithLate > 0 || len(c.Cells) == 0)
	if through && !c.isFinished(e) {
		p.finished[finishKey{c.Name, e.Sequence, e.Digest}] = true
		p.plan.Learned.Finished = append(p.plan.Learned.Finished, Finish{
			Channel: c.Name, Sequence: e.Sequence, Digest: e.Digest, At: p.now,
		})
	}
	for _, name := range c.Down {
		t.latchAcceptance(p.channels[name])
	}
}

// isFinished reports whether a head of the channel is known to have reached its cells (R19).
func (c *channelPlan) isFinished(h *EffectiveHead) bool {
	return h.Finished || c.planner.finished[finishKey{c.Name, h.Sequence, h.Digest}]
}

func cellHolds(c *Channel) map[string]*channels.Hold {
	if len(c.CellHolds) == 0 {
		return nil
	}
	held := map[string]*channels.Hold{}
	for i := range c.CellHolds {
		for _, name := range c.CellHolds[i].Cells {
			if held[name] == nil {
				held[name] = &c.CellHolds[i]
			}
		}
	}
	return held
}

// isExcluded reports whether the vendor or the owner decided that a cell, given by its index, gets nothing of the head
// for now. Neither a rollout nor a soak waits for such a cell (R9, R14).
func (t *tally) isExcluded(i int) bool {
	c := t.channel
	cell, s := c.Cells[i], t.cells[i].last
	if cell.Paused != "" || cell.Pin != "" && cell.Pin != c.Effective.Release ||
		len(t.cellHolds) > 0 && t.cellHolds[cell.Name] != nil {
		return true
	}
	if v, hotfixes := c.planner.judgeSupport(cell, s); v.Gate != "" &&
		(!hotfixes || c.openHotfix(c.Effective.Release, c.Effective.Digest) == nil) {
		return true
	}
	return s != nil && s.Owner != nil &&
		(s.Owner.Paused != "" || s.Owner.Pin != "" && s.Owner.Pin != c.Effective.Release)
}

// findEligible returns the names of the cells that the head is for, as of its first plan. A cell is eligible if it runs
// the head, or if it was in contact when the head moved, is not excluded, and meets the release's requirements (R14,
// R16).
func (t *tally) findEligible() []string {
	c := t.channel
	p := c.planner
	eligible := make([]string, 0, len(c.Cells))
	moved := c.Effective.Moved
	if moved.After(p.now) {
		moved = p.now
	}
	since := moved.Add(-p.desired.StaleAfter())
	r := p.desired.Releases[c.Effective.Release]
	hasRequirements := r != nil && r.Loaded && r.Requires != releases.Requires{}
	for i := range t.cells {
		s := t.cells[i].inChannel
		if s == nil {
			continue
		}
		last, _ := s.Heard(p.now)
		if last.IsZero() {
			continue
		}
		if s.Digest == c.Effective.Digest || !last.Before(since) && !t.isExcluded(i) &&
			(!hasRequirements || p.judgeRequirements(r, s).Gate == "") {
			eligible = append(eligible, c.Cells[i].Name)
		}
	}
	return eligible
}

// countCells counts what the cells say. eligible is sorted by name, as the cells are.
func (t *tally) countCells(eligible []string) {
	t.markCohort(eligible)
	for _, name := range t.channel.memory.missing {
		t.countMissing(name)
	}
	p, m := t.channel.planner, t.channel.memory
	for i := range m.unknown(counted) {
		cell, before := &t.cells[i], p.asks
		m.forget(sampled, i)
		m.sums.add(cell, -1)
		cell.outcome = t.outcomeOf(i)
		cell.eligible, cell.counts = t.countCell(i)
		m.sums.add(cell, 1)
		m.remember(p, counted, i, before)
	}
	m.nameSilences(p, counted)
	t.eligible += m.sums.eligible
	t.healthy, t.excused, t.ill = m.sums.healthy, m.sums.excused, m.sums.ill
	t.healthyWithLate = m.sums.healthyWithLate
}

// markCohort finds out which cells of the channel are eligible, and which eligible cells the channel lacks.
func (t *tally) markCohort(eligible []string) {
	m := t.channel.memory
	if m.cohort != nil && len(m.cohort) == len(eligible) && (len(eligible) == 0 || &m.cohort[0] == &eligible[0]) {
		return // lists are replaced, never changed
	}
	m.cohort, m.missing = eligible, nil
	for i := range t.cells {
		cell, name := &t.cells[i], t.channel.Cells[i].Name
		for len(eligible) > 0 && eligible[0] < name {
			m.missing = append(m.missing, eligible[0])
			eligible = eligible[1:]
		}
		cell.inCohort = len(eligible) > 0 && eligible[0] == name
		if cell.inCohort {
			eligible = eligible[1:]
		}
	}
	m.forgetAll(counted)
	m.forgetAll(classified)
	m.forgetAll(sampled)
	clear(m.soaks)
	m.missing = append(m.missing, eligible...)
}

// countCell returns whether a cell, given by its index, counts for the head's rollout, and what it counts for.
func (t *tally) countCell(i int) (eligible bool, what counts) {
	c, cell := t.channel, &t.cells[i]
	p, s := c.planner, cell.inChannel
	if s == nil {
		return false, 0
	}
	healthy := s.Digest == c.Effective.Digest && s.State == cells.StateHealthy && p.inContact(s)
	if healthy {
		what |= healthyOnHead
	}
	if !cell.inCohort || cell.outcome == works && t.isExcluded(i) {
		return false, what // it joined later, or was paused or pinned since (R9, R59)
	}
	if s.Digest == c.Effective.Digest && s.State != cells.StateHealthy && p.inContact(s) {
		what |= illOnHead
	}
	switch {
	case healthy, cell.outcome == works && s.reached(c.Effective):
		what |= countsHealthy
	case cell.outcome != works, !p.inContact(s) && s.Applying == nil:
		what |= countsExcused // (R14)
	}
	return true, what
}

// countMissing counts an eligible cell that is no longer in the channel, if the reason is a fault in its file: a fault
// does not remove a cell.
func (t *tally) countMissing(name string) {
	if t.channel.planner.fileBroken(name) {
		t.eligible++
		t.unreadable = append(t.unreadable, name)
	}
}

// latchAcceptance finds out whether down accepts the head now, and latches the acceptance (R7). A quarantine ends what
// was accepted before it (R50).
func (t *tally) latchAcceptance(down *channelPlan) {
	up, p := t.channel, t.channel.planner
	e := up.Effective
	if down == nil || down.Policy == nil || p.findQuarantine(up.Name, e.Release, e.Digest) != nil ||
		p.findQuarantine(down.Name, e.Release, e.Digest) != nil {
		return
	}
	if _, observing := up.observing(); observing || down.hasAccepted(up, e.Release, e.Digest) {
		return
	}
	v := t.judgeSoakOnce(down)
	if !v.Holds {
		if down.Effective == nil || down.Effective.Digest != e.Digest {
			p.replanAt(v.Until) // even if down does not wait for it now
		}
		return
	}
	a := Acceptance{
		Upstream: up.Name, Downstream: down.Name, Release: e.Release, Digest: e.Digest, At: p.now, Evidence: v.Reason,
	}
	p.accepted[acceptKey{up.Name, down.Name, e.Digest}] = a
	p.plan.Learned.Accepted = append(p.plan.Learned.Accepted, a)
}

// judgeSoakOnce returns judgeSoak's verdict about down. It calls judgeSoak once for each plan.
func (t *tally) judgeSoakOnce(down *channelPlan) channels.Verdict {
	v, known := t.soakVerdicts[down.Name]
	if !known {
		v = t.judgeSoak(down)
		t.soakVerdicts[down.Name] = v
	}
	return v
}

func (t *tally) judgeSoak(down *channelPlan) channels.Verdict {
	up := t.channel
	var held channels.Verdict
	var gate *channels.Soak
	for i := range down.Policy.Gates {
		if s := down.Policy.Gates[i].Soak; s != nil {
			gate = s
			if held = t.judgeSoakGate(soakKey{down.Name, i}, s); !held.Holds {
				return held
			}
		}
	}
	if len(t.failed) > t.failureBudget() {
		return channels.Blocked("", reason.UpstreamFailed, up.Effective.Release, words.Some(t.failed, 3))
	}
	if gate != nil {
		return held
	}
	if !up.isFinished(up.Effective) {
		return channels.Blocked("", reason.UpstreamUnfinished, up.Name, t.healthy, t.eligible)
	}
	return channels.Held("", reason.UpstreamFinished, up.Name)
}

// hasAccepted reports whether c accepted a release of an upstream, and neither a quarantine nor a move of the upstream
// below the release ended that (R7, R50).
func (c *channelPlan) hasAccepted(up *channelPlan, release string, digest releases.Digest) bool {
	a, ok := c.planner.accepted[acceptKey{up.Name, c.Name, digest}]
	return ok && !a.Ended && !up.wentBelow(c.planner.parseVersion(release), digest, a.At) &&
		c.planner.findQuarantine(up.Name, release, digest) == nil &&
		c.planner.findQuarantine(c.Name, release, digest) == nil
}

// wentBelow reports whether the channel went back below a release after an instant, and has not had the release since.
func (c *Channel) wentBelow(release releases.Version, digest releases.Digest, after time.Time) bool {
	for _, h := range slices.Backward(c.History) {
		if h.Digest == digest || h.Moved.Before(after) {
			return false
		}
		if h.Kind == Rollback && isBelow(h.Release, release) {
			return true
		}
	}
	return false
}

// endAcceptances ends what was accepted of releases that are quarantined now: after the quarantine acceptance begins
// anew (R50).
func (p *planner) endAcceptances() {
	if len(p.desired.Quarantine) == 0 {
		return
	}
	for key, a := range p.accepted {
		if !a.Ended && (p.findQuarantine(key.up, a.Release, key.digest) != nil ||
			p.findQuarantine(key.down, a.Release, key.digest) != nil) {
			a.At, a.Ended = p.now, true
			p.accepted[key] = a
			p.plan.Learned.Accepted = append(p.plan.Learned.Accepted, a)
		}
	}
}

// soakKey identifies a gate of a downstream, by its index.
type soakKey struct {
	down string
	gate int
}

// judgeSoakGate returns a soak gate's verdict. The gate is asked again only if it sees other samples than before.
func (t *tally) judgeSoakGate(key soakKey, gate *channels.Soak) channels.Verdict {
	samples, m := t.collectSamples(), t.channel.memory
	v, known := m.soaks[key]
	if !known {
		v = gate.Judge(t.channel.Name, samples)
		m.soaks[key] = v
	}
	return v
}

// collectSamples returns the cells as a soak gate sees them (R9).
func (t *tally) collectSamples() []channels.Sample {
	if t.soakSamples != nil {
		return t.soakSamples
	}
	p, m := t.channel.planner, t.channel.memory
	if m.samples == nil {
		m.samples, m.soaks = make([]channels.Sample, len(t.cells)), map[soakKey]channels.Verdict{}
	}
	for i := range m.unknown(sampled) {
		clear(m.soaks)
		before := p.asks
		m.samples[i] = t.sample(i)
		if !t.cells[i].live {
			m.remember(p, sampled, i, before)
		}
	}
	m.nameSilences(p, sampled)
	t.soakSamples = slices.Clip(m.samples)
	for _, name := range t.unreadable {
		t.soakSamples = append(t.soakSamples, channels.Sample{Cell: name, Counts: true, Silent: true})
	}
	return t.soakSamples
}

// sample returns a cell, given by its index, as a soak gate sees it.
func (t *tally) sample(i int) channels.Sample {
	up, cell := t.channel, &t.cells[i]
	s := cell.inChannel
	if s == nil { // it may still report
		return channels.Sample{Cell: up.Cells[i].Name, Silent: true}
	}
	last, soaked := s.Heard(up.planner.now)
	sample := channels.Sample{
		Cell: up.Cells[i].Name, Counts: cell.eligible, OnDigest: s.Digest == up.Effective.Digest,
		Healthy: s.State == cells.StateHealthy, Silent: !up.planner.inContact(s), Failed: cell.outcome != works,
		LastReport: last,
	}
	if sample.OnDigest && sample.Healthy && !sample.Silent {
		sample.Soaked = soaked
	}
	return sample
}

// findQuarantine returns the quarantine that keeps a release out of a channel (R21); nil: none.
func (p *planner) findQuarantine(channel, release string, digest releases.Digest) *channels.Quarantine {
	for i := range p.desired.Quarantine {
		if q := &p.desired.Quarantine[i]; q.Stops(channel, release, digest) {
			return q
		}
	}
	return nil
}

// failureBudget returns how many cells may fail the head.
func (t *tally) failureBudget() int {
	if t.channel.Valid == nil {
		return 0
	}
	r := &t.channel.Valid.Rollout
	return max(r.FailureBudget, int(r.FailurePercent*float64(t.eligible)/100+roundingError))
}

// roundingError is more than what percentages lose as binary fractions.
const roundingError = 1e-9

// observing reports whether cells may still have to report since observing began, and until when they have time to
// (R26).
func (c *channelPlan) observing() (until time.Time, yes bool) {
	p := c.planner
	if p.observed.Since.IsZero() || c.Effective == nil || !p.observed.Since.After(c.Effective.Moved) {
		return time.Time{}, false // observing began before the head moved
	}
	until = p.observed.Since.Add(p.desired.StaleAfter())
	p.replanAt(until)
	if !p.now.Before(until) {
		return time.Time{}, false
	}
	for _, cell := range c.Cells {
		s := p.observed.Cells[cell.Name]
		if s == nil {
			return until, true
		}
		if last, _ := s.Heard(p.now); last.Before(p.observed.Since) {
			return until, true
		}
	}
	return time.Time{}, false
}
