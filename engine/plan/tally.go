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
	c         *channelPlan
	cells     []cellTally               // of the channel's cells, in their order
	held      map[string]*channels.Hold // cells that a hold of their own stops
	misfits   []string                  // see Channel.misfits, of misfitsOf
	misfitsOf *Release

	eligible int      // how many cells count for the head's rollout
	healthy  int      // how many of the eligible are on the head and healthy now
	excused  int      // how many of the eligible failed or fell silent, so that nobody waits for them
	running  int      // how many cells are on the head and healthy now, those that joined later too
	failed   []string // cells that failed the head
	lost     []string // eligible cells that are in no channel: their files have faults

	soakSamples []channels.Sample           // made when first asked for
	soakedFor   map[string]channels.Verdict // by downstream
}

// cellTally is what one cell says about the head.
type cellTally struct {
	last   *CellState // its last word; nil: never heard of
	here   *CellState // the same; nil also if it is about another channel
	counts bool       // the cell counts for the head's rollout
	failed bool       // it failed the head
}

// fresh tells whether a cell was heard of lately. Time alone makes it silent.
func (p *planner) fresh(s *CellState) bool {
	if s == nil || s.LastReport.IsZero() {
		return false
	}
	silentAt := s.LastReport.Add(p.d.StaleAfter())
	p.silentAt(silentAt)
	return p.now.Before(silentAt)
}

// state is the last word of a cell, if it is about the channel that the cell is in now.
func (p *planner) state(cell *Cell) *CellState { return p.o.Cells[cell.Name].of(cell.Channel) }

// learn adds what the cells show now to what is remembered: who the head's rollout is for, whether
// it is through, and which downstreams it soaked for.
func (c *channelPlan) learn() {
	p := c.p
	e := c.Effective
	t := &tally{c: c, cells: make([]cellTally, len(c.Cells)), soakedFor: map[string]channels.Verdict{}, held: cellHolds(c.Channel)}
	c.tally = t
	for i, cell := range c.Cells {
		last := p.o.Cells[cell.Name]
		t.cells[i] = cellTally{last: last, here: last.of(c.Name)}
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
	t.count(c.cohort.Eligible)
	through := true
	if c.Valid != nil {
		c.rollout = newRollout(c)
		w := &c.rollout.progress
		if last := len(w.waves); last > 0 { // it must be open, and through itself where none of those that the head was for runs it well
			through = w.wave == last && (t.healthy > 0 || w.through(last))
		}
	}
	if observing {
		return // who has not reported yet counts too
	}
	through = through && t.healthy+t.excused >= t.eligible && len(t.failed) <= c.budget() && (t.running > 0 || len(c.Cells) == 0)
	if through && !c.done(e) {
		p.finished[finishKey{c.Name, e.Sequence, e.Digest}] = true
		p.plan.Learned.Finished = append(p.plan.Learned.Finished, Finish{Channel: c.Name, Sequence: e.Sequence, Digest: e.Digest, At: p.now})
	}
	for _, name := range c.Down {
		t.accept(p.channels[name])
	}
}

// done tells whether a head of a channel is known to have reached its cells (R19).
func (c *channelPlan) done(h *EffectiveHead) bool {
	return h.Finished || c.p.finished[finishKey{c.Name, h.Sequence, h.Digest}]
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

// excluded reports whether the vendor or its owner decided that a cell, by its index, gets nothing of the head for now: neither a
// rollout nor a soak waits for it (R9, R14).
func (t *tally) excluded(i int) bool {
	c := t.c
	cell, s := c.Cells[i], t.cells[i].last
	if cell.Paused != "" || cell.Pin != "" && cell.Pin != c.Effective.Release || len(t.held) > 0 && t.held[cell.Name] != nil {
		return true
	}
	return s != nil && s.Owner != nil && (s.Owner.Paused != "" || s.Owner.Pin != "" && s.Owner.Pin != c.Effective.Release)
}

// findEligible names the cells that a head is for, seen at its first plan: in contact when it moved, neither paused nor pinned
// elsewhere, and with what it requires (R14, R16); or already on it.
func (t *tally) findEligible() []string {
	c := t.c
	p := c.p
	eligible := make([]string, 0, len(c.Cells))
	moved := c.Effective.Moved
	if moved.After(p.now) {
		moved = p.now
	}
	since := moved.Add(-p.d.StaleAfter())
	r := p.d.Releases[c.Effective.Release]
	demanding := r != nil && r.Loaded && r.Requires != releases.Requires{}
	for i := range t.cells {
		s := t.cells[i].here
		if s == nil || s.LastReport.IsZero() {
			continue
		}
		if s.Digest == c.Effective.Digest || !s.LastReport.Before(since) && !t.excluded(i) && (!demanding || p.lacks(r, s).Gate == "") {
			eligible = append(eligible, c.Cells[i].Name)
		}
	}
	return eligible
}

// count goes through the cells once. eligible is sorted, as the cells are.
func (t *tally) count(eligible []string) {
	c := t.c
	p := c.p
	for i := range t.cells {
		cell, name := &t.cells[i], c.Cells[i].Name
		for len(eligible) > 0 && eligible[0] < name {
			t.gone(eligible[0])
			eligible = eligible[1:]
		}
		cell.failed = cell.last != nil && t.failedOn(cell.last) // its last word may be about another channel
		if cell.failed {
			t.failed = append(t.failed, name)
		}
		counts := len(eligible) > 0 && eligible[0] == name
		if counts {
			eligible = eligible[1:]
		}
		s := cell.here
		if s == nil {
			continue
		}
		healthy := s.Digest == c.Effective.Digest && s.State == cells.StateHealthy && p.fresh(s)
		if healthy {
			t.running++
		}
		if !counts || s.Digest != c.Effective.Digest && !cell.failed && t.excluded(i) {
			continue // it joined later, or was paused since (R9)
		}
		cell.counts = true
		t.eligible++
		switch {
		case healthy:
			t.healthy++
		case cell.failed, !p.fresh(s) && s.Applying == nil:
			t.excused++ // within the budget, or out of contact: neither holds the others up (R14)
		}
	}
	for _, name := range eligible {
		t.gone(name)
	}
}

// gone counts a cell that is not in the channel any more, if a fault in its file is why: that removes nobody.
func (t *tally) gone(name string) {
	if t.c.p.fileBroken(name) {
		t.eligible++
		t.lost = append(t.lost, name)
	}
}

// failedOn tells whether a cell failed the channel's head: it says so, or it began and never came back (R14).
// A failure under a lower sequence, or of values only, doesn't count (R13, R21, R35).
func (t *tally) failedOn(s *CellState) bool {
	c := t.c
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
	if here && s.Digest == e.Digest && s.broken() {
		return true
	}
	return t.stalled(s)
}

// stalled tells whether a cell began the head and has had no result for too long.
func (t *tally) stalled(s *CellState) bool {
	c := t.c
	a, e := s.Applying, c.Effective
	if a == nil || a.Channel != c.Name || a.Sequence != e.Sequence || a.Digest != e.Digest || s.Digest == e.Digest || s.StartedAt.IsZero() || c.Valid == nil {
		return false
	}
	return c.p.stalledSince(s.StartedAt, c.Valid.Rollout.Stall)
}

// accept finds out whether down accepts the head now, and latches it (R7).
func (t *tally) accept(down *channelPlan) {
	up, p := t.c, t.c.p
	e := up.Effective
	if down == nil || down.Policy == nil || p.quarantined(up.Name, e.Release, e.Digest) != nil || p.quarantined(down.Name, e.Release, e.Digest) != nil {
		return
	}
	v := t.soaked(down)
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

// soaked judges the head by down's soak gate; without one, the rollout must be through.
func (t *tally) soaked(down *channelPlan) channels.Verdict {
	v, known := t.soakedFor[down.Name]
	if !known {
		v = t.judgeSoak(down)
		t.soakedFor[down.Name] = v
	}
	return v
}

func (t *tally) judgeSoak(down *channelPlan) channels.Verdict {
	up := t.c
	var held channels.Verdict
	var gate *channels.Soak
	for i := range down.Policy.Gates {
		if s := down.Policy.Gates[i].Soak; s != nil {
			gate = s
			if held = s.Judge(up.Name, t.samples()); !held.Holds {
				return held
			}
		}
	}
	if len(t.failed) > up.budget() {
		return channels.Blocked("", reason.UpstreamFailed, up.Effective.Release, names(t.failed))
	}
	if gate != nil {
		return held
	}
	if !up.done(up.Effective) {
		return channels.Blocked("", reason.UpstreamUnfinished, up.Name, t.healthy, t.eligible)
	}
	return channels.Held("", reason.UpstreamFinished, up.Name)
}

// latched tells whether digest was accepted before, and neither quarantined nor seen to fail since (R7).
func (c *channelPlan) latched(up *channelPlan, release string, digest releases.Digest) bool {
	a, ok := c.p.accepted[acceptKey{up.Name, c.Name, digest}]
	if !ok || c.p.quarantined(up.Name, release, digest) != nil || c.p.quarantined(c.Name, release, digest) != nil {
		return false
	}
	for i := range up.tally.cells {
		s := up.tally.cells[i].here
		if s == nil {
			continue
		}
		for i := range s.Failures {
			f := &s.Failures[i]
			if !f.Values && f.Assignment.Digest == digest && f.Seen.After(a.At) {
				return false
			}
		}
		if s.Digest == digest && s.broken() {
			return false
		}
	}
	return true
}

// samples shows the cells to a soak gate (R9).
func (t *tally) samples() []channels.Sample {
	if t.soakSamples != nil {
		return t.soakSamples
	}
	up := t.c
	t.soakSamples = make([]channels.Sample, 0, len(up.Cells))
	for i := range t.cells {
		s := t.cells[i].here
		if s == nil { // it may report yet
			t.soakSamples = append(t.soakSamples, channels.Sample{Cell: up.Cells[i].Name, Silent: true})
			continue
		}
		sample := channels.Sample{
			Cell: up.Cells[i].Name, Counts: t.cells[i].counts, OnDigest: s.Digest == up.Effective.Digest, Silent: !up.p.fresh(s),
			Healthy: s.State == cells.StateHealthy, Failed: t.failedOn(s), LastReport: s.LastReport,
		}
		if sample.OnDigest && sample.Healthy && !sample.Silent {
			sample.Soaked = s.Soaked
		}
		t.soakSamples = append(t.soakSamples, sample)
	}
	for _, name := range t.lost {
		t.soakSamples = append(t.soakSamples, channels.Sample{Cell: name, Counts: true, Silent: true})
	}
	return t.soakSamples
}

// quarantined gives the entry that keeps digest out of a channel (R21); nil: none.
func (p *planner) quarantined(channel, release string, digest releases.Digest) *channels.Quarantine {
	for i := range p.d.Quarantine {
		if q := &p.d.Quarantine[i]; q.Stops(channel, release, digest) {
			return q
		}
	}
	return nil
}

func (c *channelPlan) budget() int {
	if c.Valid == nil {
		return 0
	}
	return c.Valid.Rollout.FailureBudget
}

// observing tells until when the cells have not all been heard of since observing began (R26).
func (c *channelPlan) observing() (until time.Time, yes bool) {
	p := c.p
	if p.o.Since.IsZero() || c.Effective == nil || !p.o.Since.After(c.Effective.Moved) {
		return time.Time{}, false // it was observed from before the head moved
	}
	until = p.o.Since.Add(p.d.StaleAfter())
	p.at(until)
	if !p.now.Before(until) {
		return time.Time{}, false
	}
	for _, cell := range c.Cells {
		if s := p.o.Cells[cell.Name]; s == nil || s.LastReport.Before(p.o.Since) {
			return until, true
		}
	}
	return time.Time{}, false
}

// names joins some of many.
func names(all []string) string {
	const most = 3
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
