package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// tally is what a channel's cells say about its head. It is made once a plan, in one walk over the cells.
type tally struct {
	channel   *channelPlan
	cells     []cellTally               // of the channel's cells, in their order
	cellHolds map[string]*channels.Hold // cells that a hold of their own stops
	misfits   []string                  // see Channel.misfits, of misfitsOf
	misfitsOf *Release

	eligible        int      // how many cells count for the head's rollout
	healthy         int      // how many of the eligible are on the head and healthy now
	excused         int      // how many of the eligible failed or fell silent, so that nobody waits for them
	healthyWithLate int      // how many cells are on the head and healthy now, those that joined later too
	failed          []string // cells that failed the head
	unreadable      []string // eligible cells that are in no channel: their files have faults

	soakSamples  []channels.Sample           // made when first asked for
	soakVerdicts map[string]channels.Verdict // by downstream
}

// cellTally is what one cell says about the head.
type cellTally struct {
	last      *CellState // its last word; nil: never heard of
	inChannel *CellState // the same; nil also if it is about another channel
	eligible  bool       // the cell counts for the head's rollout
	failed    bool       // it failed the head
}

// inContact tells whether a cell was heard of lately. Time alone makes it silent.
func (p *planner) inContact(s *CellState) bool {
	if s == nil || s.LastReport.IsZero() {
		return false
	}
	silentAt := s.LastReport.Add(p.desired.StaleAfter())
	p.replanIfSilentAt(silentAt)
	return p.now.Before(silentAt)
}

// cellState is the last word of a cell, if it is about the channel that the cell is in now.
func (p *planner) cellState(cell *Cell) *CellState {
	return p.observed.Cells[cell.Name].ifIn(cell.Channel)
}

// learn adds what the cells show now to what is remembered: who the head's rollout is for, whether
// it is through, and which downstreams it soaked for.
func (c *channelPlan) learn() {
	p := c.planner
	e := c.Effective
	t := &tally{channel: c, cells: make([]cellTally, len(c.Cells)), soakVerdicts: map[string]channels.Verdict{}, cellHolds: cellHolds(c.Channel)}
	c.tally = t
	for i, cell := range c.Cells {
		last := p.observed.Cells[cell.Name]
		t.cells[i] = cellTally{last: last, inChannel: last.ifIn(c.Name)}
	}
	if e == nil {
		return
	}
	_, observing := c.observing()
	if c.cohort == nil {
		c.cohort = &Rollout{Channel: c.Name, Sequence: e.Sequence, Since: p.now, Eligible: t.findEligible()}
		if !observing {
			p.plan.Learned.Rollouts = append(p.plan.Learned.Rollouts, *c.cohort)
		}
	}
	t.countCells(c.cohort.Eligible)
	through := true
	if c.Valid != nil {
		c.rollout = newRollout(c)
		w := &c.rollout.progress
		if last := len(w.waves); last > 0 { // it must be open, and through itself where none of those that the head was for runs it well
			through = w.openWave == last && (t.healthy > 0 || w.isThrough(last))
		}
	}
	if observing {
		return // who has not reported yet counts too
	}
	through = through && t.healthy+t.excused >= t.eligible && len(t.failed) <= c.failureBudget() && (t.healthyWithLate > 0 || len(c.Cells) == 0)
	if through && !c.isFinished(e) {
		p.finished[finishKey{c.Name, e.Sequence, e.Digest}] = true
		p.plan.Learned.Finished = append(p.plan.Learned.Finished, Finish{Channel: c.Name, Sequence: e.Sequence, Digest: e.Digest, At: p.now})
	}
	for _, name := range c.Down {
		t.latchAcceptance(p.channels[name])
	}
}

// isFinished tells whether a head of a channel is known to have reached its cells (R19).
func (c *channelPlan) isFinished(h *EffectiveHead) bool {
	return h.Finished || c.planner.finished[finishKey{c.Name, h.Sequence, h.Digest}]
}

// cellHolds gives the holds on single cells, by cell.
func cellHolds(c *Channel) map[string]*channels.Hold {
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

// isExcluded reports whether the vendor or its owner decided that a cell, by its index, gets nothing of the head for now: neither a
// rollout nor a soak waits for it (R9, R14).
func (t *tally) isExcluded(i int) bool {
	c := t.channel
	cell, s := c.Cells[i], t.cells[i].last
	if cell.Paused != "" || cell.Pin != "" && cell.Pin != c.Effective.Release || len(t.cellHolds) > 0 && t.cellHolds[cell.Name] != nil {
		return true
	}
	return s != nil && s.Owner != nil && (s.Owner.Paused != "" || s.Owner.Pin != "" && s.Owner.Pin != c.Effective.Release)
}

// findEligible names the cells that a head is for, seen at its first plan: in contact when it moved, neither paused nor pinned
// elsewhere, and with what it requires (R14, R16); or already on it.
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
	demanding := r != nil && r.Loaded && r.Requires != releases.Requires{}
	for i := range t.cells {
		s := t.cells[i].inChannel
		if s == nil || s.LastReport.IsZero() {
			continue
		}
		if s.Digest == c.Effective.Digest || !s.LastReport.Before(since) && !t.isExcluded(i) && (!demanding || p.judgeRequirements(r, s).Gate == "") {
			eligible = append(eligible, c.Cells[i].Name)
		}
	}
	return eligible
}

// countCells goes through the cells once. eligible is sorted, as the cells are.
func (t *tally) countCells(eligible []string) {
	c := t.channel
	p := c.planner
	for i := range t.cells {
		cell, name := &t.cells[i], c.Cells[i].Name
		for len(eligible) > 0 && eligible[0] < name {
			t.countMissing(eligible[0])
			eligible = eligible[1:]
		}
		cell.failed = cell.last != nil && t.hasFailedHead(cell.last) // its last word may be about another channel
		if cell.failed {
			t.failed = append(t.failed, name)
		}
		counts := len(eligible) > 0 && eligible[0] == name
		if counts {
			eligible = eligible[1:]
		}
		s := cell.inChannel
		if s == nil {
			continue
		}
		healthy := s.Digest == c.Effective.Digest && s.State == cells.StateHealthy && p.inContact(s)
		if healthy {
			t.healthyWithLate++
		}
		if !counts || s.Digest != c.Effective.Digest && !cell.failed && t.isExcluded(i) {
			continue // it joined later, or was paused since (R9)
		}
		cell.eligible = true
		t.eligible++
		switch {
		case healthy:
			t.healthy++
		case cell.failed, !p.inContact(s) && s.Applying == nil:
			t.excused++ // within the budget, or out of contact: neither holds the others up (R14)
		}
	}
	for _, name := range eligible {
		t.countMissing(name)
	}
}

// countMissing counts a cell that is not in the channel any more, if a fault in its file is why: that removes nobody.
func (t *tally) countMissing(name string) {
	if t.channel.planner.fileBroken(name) {
		t.eligible++
		t.unreadable = append(t.unreadable, name)
	}
}

// hasFailedHead tells whether a cell failed the channel's head: it says so, or it began and never came back (R14).
// A failure under a lower sequence, or of values only, doesn't count (R13, R21, R35).
func (t *tally) hasFailedHead(s *CellState) bool {
	c := t.channel
	if len(s.Failures) == 0 && s.Applying == nil && s.State == cells.StateHealthy {
		return false // as nearly all
	}
	e := c.Effective
	here := s.Channel == "" || s.Channel == c.Name // else it came from another channel, and may have begun here
	for i := range s.Failures {
		f := &s.Failures[i]
		a := &f.Assignment
		if !f.Values && a.Digest == e.Digest && (a.Sequence == 0 || a.Sequence == e.Sequence) && (a.Channel == c.Name || a.Channel == "" && here) {
			return true
		}
	}
	if here && s.Digest == e.Digest && s.failedForGood() {
		return true
	}
	return t.stalledOnHead(s)
}

// stalledOnHead tells whether a cell began the head and has had no result for too long.
func (t *tally) stalledOnHead(s *CellState) bool {
	c := t.channel
	a, e := s.Applying, c.Effective
	if a == nil || a.Channel != c.Name || a.Sequence != e.Sequence || a.Digest != e.Digest || s.Digest == e.Digest || s.StartedAt.IsZero() || c.Valid == nil {
		return false
	}
	return c.planner.stalledSince(s.StartedAt, c.Valid.Rollout.Stall)
}

// latchAcceptance finds out whether down accepts the head now, and latches it (R7).
func (t *tally) latchAcceptance(down *channelPlan) {
	up, p := t.channel, t.channel.planner
	e := up.Effective
	if down == nil || down.Policy == nil || p.findQuarantine(up.Name, e.Release, e.Digest) != nil || p.findQuarantine(down.Name, e.Release, e.Digest) != nil {
		return
	}
	v := t.judgeSoakOnce(down)
	key := acceptKey{up.Name, down.Name, e.Digest}
	if _, observing := up.observing(); !v.Holds || observing || down.latched(up, e.Release, e.Digest) {
		return
	}
	before, known := p.accepted[key]
	a := Acceptance{Upstream: up.Name, Downstream: down.Name, Release: e.Release, Digest: e.Digest, At: p.now, Evidence: v.Reason}
	p.accepted[key] = a
	if !down.latched(up, e.Release, e.Digest) { // it fails somewhere just now
		delete(p.accepted, key)
		if known {
			p.accepted[key] = before
		}
		return
	}
	p.plan.Learned.Accepted = append(p.plan.Learned.Accepted, a)
}

// judgeSoakOnce judges the head by down's soak gate; without one, the rollout must be through.
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
			if held = s.Judge(up.Name, t.collectSamples()); !held.Holds {
				return held
			}
		}
	}
	if len(t.failed) > up.failureBudget() {
		return channels.Blocked("", reason.UpstreamFailed, up.Effective.Release, joinNames(t.failed))
	}
	if gate != nil {
		return held
	}
	if !up.isFinished(up.Effective) {
		return channels.Blocked("", reason.UpstreamUnfinished, up.Name, t.healthy, t.eligible)
	}
	return channels.Held("", reason.UpstreamFinished, up.Name)
}

// latched tells whether digest was accepted before, and neither quarantined nor seen to fail since (R7).
func (c *channelPlan) latched(up *channelPlan, release string, digest releases.Digest) bool {
	a, ok := c.planner.accepted[acceptKey{up.Name, c.Name, digest}]
	if !ok || c.planner.findQuarantine(up.Name, release, digest) != nil || c.planner.findQuarantine(c.Name, release, digest) != nil {
		return false
	}
	for i := range up.tally.cells {
		s := up.tally.cells[i].inChannel
		if s == nil {
			continue
		}
		for i := range s.Failures {
			f := &s.Failures[i]
			if !f.Values && f.Assignment.Digest == digest && f.Seen.After(a.At) {
				return false
			}
		}
		if s.Digest == digest && s.failedForGood() {
			return false
		}
	}
	return true
}

// collectSamples shows the cells to a soak gate (R9).
func (t *tally) collectSamples() []channels.Sample {
	if t.soakSamples != nil {
		return t.soakSamples
	}
	up := t.channel
	t.soakSamples = make([]channels.Sample, 0, len(up.Cells))
	for i := range t.cells {
		s := t.cells[i].inChannel
		if s == nil { // it may report yet
			t.soakSamples = append(t.soakSamples, channels.Sample{Cell: up.Cells[i].Name, Silent: true})
			continue
		}
		sample := channels.Sample{
			Cell: up.Cells[i].Name, Counts: t.cells[i].eligible, OnDigest: s.Digest == up.Effective.Digest, Silent: !up.planner.inContact(s),
			Healthy: s.State == cells.StateHealthy, Failed: t.hasFailedHead(s), LastReport: s.LastReport,
		}
		if sample.OnDigest && sample.Healthy && !sample.Silent {
			sample.Soaked = s.Soaked
		}
		t.soakSamples = append(t.soakSamples, sample)
	}
	for _, name := range t.unreadable {
		t.soakSamples = append(t.soakSamples, channels.Sample{Cell: name, Counts: true, Silent: true})
	}
	return t.soakSamples
}

// findQuarantine gives the entry that keeps digest out of a channel (R21); nil: none.
func (p *planner) findQuarantine(channel, release string, digest releases.Digest) *channels.Quarantine {
	for i := range p.desired.Quarantine {
		if q := &p.desired.Quarantine[i]; q.Stops(channel, release, digest) {
			return q
		}
	}
	return nil
}

func (c *channelPlan) failureBudget() int {
	if c.Valid == nil {
		return 0
	}
	return c.Valid.Rollout.FailureBudget
}

// observing tells until when the cells have not all been heard of since observing began (R26).
func (c *channelPlan) observing() (until time.Time, yes bool) {
	p := c.planner
	if p.observed.Since.IsZero() || c.Effective == nil || !p.observed.Since.After(c.Effective.Moved) {
		return time.Time{}, false // it was observed from before the head moved
	}
	until = p.observed.Since.Add(p.desired.StaleAfter())
	p.replanAt(until)
	if !p.now.Before(until) {
		return time.Time{}, false
	}
	for _, cell := range c.Cells {
		if s := p.observed.Cells[cell.Name]; s == nil || s.LastReport.Before(p.observed.Since) {
			return until, true
		}
	}
	return time.Time{}, false
}

// joinNames joins some of many.
func joinNames(all []string) string {
	const most = 3
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
