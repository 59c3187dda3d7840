package plan

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// tally is what a channel's cells say about its head. It is made once a plan, in one walk over the cells.
type tally struct {
	said      []*CellState              // the last word of each cell of the channel, in order; nil: never heard of
	states    []*CellState              // the same; nil also: only of another channel
	counts    []bool                    // whether that cell counts for the head's rollout
	bad       []bool                    // whether it failed the head
	held      map[string]*channels.Hold // cells that a hold of their own stops
	misfits   []string                  // see Channel.misfits, of misfitsOf
	misfitsOf *Release
	eligible  int                         // how many do
	healthy   int                         // of those, on the head and healthy now
	given     int                         // of those, failed, and so not waited for
	running   int                         // of all, those that joined later too, on the head and healthy now
	failed    []string                    // all that failed the head
	lost      []string                    // that count, and are in no channel: their files have faults
	samples   []channels.Sample           // made when first asked for
	soaked    map[string]channels.Verdict // by downstream
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

// of is s, if it is about a channel: what a cell that moved said of another counts for nothing here (R2).
func (s *CellState) of(channel string) *CellState {
	if s != nil && s.Channel != "" && s.Channel != channel {
		return nil
	}
	return s
}

// learn adds what the cells show now to what is remembered: who the head's rollout is for, whether
// it is through, and which downstreams it soaked for.
func (p *planner) learn(c *Channel) {
	e := c.Effective
	t := &tally{said: make([]*CellState, len(c.Cells)), states: make([]*CellState, len(c.Cells)), soaked: map[string]channels.Verdict{}, held: cellHolds(c)}
	p.tallies[c.Name] = t
	for i, cell := range c.Cells {
		t.said[i] = p.o.Cells[cell.Name]
		t.states[i] = t.said[i].of(c.Name)
	}
	if e == nil {
		return
	}
	_, observing := p.observing(c)
	rollout := p.rollouts[c.Name]
	if rollout == nil {
		rollout = &Rollout{Channel: c.Name, Sequence: e.Sequence, Since: p.now, Eligible: p.eligible(c, t)}
		if !observing {
			p.plan.Learned.Rollouts = append(p.plan.Learned.Rollouts, *rollout)
		}
	}
	p.count(c, t, rollout.Eligible)
	through := true
	if c.Valid != nil {
		r := p.roll(c)
		p.rolls[c.Name] = r
		if last := len(r.waves); last > 0 { // it must be open, and through itself where none of those that the head was for runs it well
			through = r.wave == last && (t.healthy > 0 || r.through(last))
		}
	}
	if observing {
		return // who has not reported yet counts too
	}
	through = through && t.healthy+t.given >= t.eligible && len(t.failed) <= p.budget(c) && (t.running > 0 || len(c.Cells) == 0)
	if through && !p.done(c.Name, e) {
		p.finished[finishKey{c.Name, e.Sequence, e.Digest}] = true
		p.plan.Learned.Finished = append(p.plan.Learned.Finished, Finish{Channel: c.Name, Sequence: e.Sequence, Digest: e.Digest, At: p.now})
	}
	for _, name := range c.Down {
		p.accept(c, p.d.Channels[name])
	}
}

// done tells whether a head of a channel is known to have reached its cells (R19).
func (p *planner) done(channel string, h *EffectiveHead) bool {
	return h.Finished || p.finished[finishKey{channel, h.Sequence, h.Digest}]
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

// apart tells whether somebody decided that a cell gets nothing of the head for now: the vendor or the cell's owner. It
// is not waited for, neither by a rollout nor by a soak (R9, R14).
func (t *tally) apart(c *Channel, i int) bool {
	cell, s := c.Cells[i], t.said[i]
	if cell.Paused != "" || cell.Pin != "" && cell.Pin != c.Effective.Release || len(t.held) > 0 && t.held[cell.Name] != nil {
		return true
	}
	return s != nil && s.Owner != nil && (s.Owner.Paused != "" || s.Owner.Pin != "" && s.Owner.Pin != c.Effective.Release)
}

// eligible names the cells that a head is for, seen at its first plan: in contact when it moved, neither paused nor pinned
// elsewhere, and with what it requires (R14, R16); or already on it.
func (p *planner) eligible(c *Channel, t *tally) []string {
	eligible := make([]string, 0, len(c.Cells))
	moved := c.Effective.Moved
	if moved.After(p.now) {
		moved = p.now
	}
	since := moved.Add(-p.d.StaleAfter())
	r := p.d.Releases[c.Effective.Release]
	demanding := r != nil && r.Loaded && r.Requires != releases.Requires{}
	for i, s := range t.states {
		if s == nil || s.LastReport.IsZero() {
			continue
		}
		if s.Digest == c.Effective.Digest || !s.LastReport.Before(since) && !t.apart(c, i) && (!demanding || p.lacks(r, s) == "") {
			eligible = append(eligible, c.Cells[i].Name)
		}
	}
	return eligible
}

// count goes through the cells of c once. eligible is sorted, as the cells are.
func (p *planner) count(c *Channel, t *tally, eligible []string) {
	t.counts, t.bad = make([]bool, len(c.Cells)), make([]bool, len(c.Cells))
	for i, s := range t.states {
		name := c.Cells[i].Name
		for len(eligible) > 0 && eligible[0] < name {
			p.gone(t, eligible[0])
			eligible = eligible[1:]
		}
		said := t.said[i] // of another channel, maybe
		failed := said != nil && p.failedOn(c, said)
		if failed {
			t.bad[i] = true
			t.failed = append(t.failed, name)
		}
		counts := len(eligible) > 0 && eligible[0] == name
		if counts {
			eligible = eligible[1:]
		}
		if s == nil {
			continue
		}
		healthy := s.Digest == c.Effective.Digest && s.State == cells.StateHealthy && p.fresh(s)
		if healthy {
			t.running++
		}
		if !counts || s.Digest != c.Effective.Digest && !failed && t.apart(c, i) {
			continue // it joined later, or was paused since (R9)
		}
		t.counts[i] = true
		t.eligible++
		switch {
		case healthy:
			t.healthy++
		case failed, !p.fresh(s) && s.Applying == nil:
			t.given++ // within the budget, or out of contact: neither holds the others up (R14)
		}
	}
	for _, name := range eligible {
		p.gone(t, name)
	}
}

// gone counts a cell that is not in the channel any more, if a fault in its file is why: that removes nobody.
func (p *planner) gone(t *tally, name string) {
	if p.lost(name) {
		t.eligible++
		t.lost = append(t.lost, name)
	}
}

// failedOn tells whether a cell failed the channel's head: it says so, or it began and never came back (R14).
// A failure under a lower sequence, or of values only, doesn't count (R13, R21, R35).
func (p *planner) failedOn(c *Channel, s *CellState) bool {
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
	return p.stalled(c, s)
}

// stalled tells whether a cell began the head and has had no result for too long.
func (p *planner) stalled(c *Channel, s *CellState) bool {
	a, e := s.Applying, c.Effective
	if a == nil || a.Channel != c.Name || a.Sequence != e.Sequence || a.Digest != e.Digest || s.Digest == e.Digest || s.StartedAt.IsZero() || c.Valid == nil {
		return false
	}
	return p.stalledSince(s.StartedAt, c.Valid.Rollout.Stall)
}

// accept finds out whether down accepts up's head now, and latches it (R7).
func (p *planner) accept(up, down *Channel) {
	e := up.Effective
	if down == nil || down.Policy == nil || p.quarantined(up.Name, e.Release, e.Digest) != nil || p.quarantined(down.Name, e.Release, e.Digest) != nil {
		return
	}
	v := p.soaked(up, down)
	key := acceptKey{up.Name, down.Name, e.Digest}
	if _, observing := p.observing(up); !v.Holds || observing || p.latched(up, down, e.Release, e.Digest) {
		return
	}
	before, known := p.accepted[key]
	a := Acceptance{Upstream: up.Name, Downstream: down.Name, Release: e.Release, Digest: e.Digest, At: p.now, Evidence: v.Reason}
	p.accepted[key] = a
	if !p.latched(up, down, e.Release, e.Digest) { // it fails somewhere just now
		delete(p.accepted, key)
		if known {
			p.accepted[key] = before
		}
		return
	}
	p.plan.Learned.Accepted = append(p.plan.Learned.Accepted, a)
}

// soaked judges up's head by down's soak gate; without one, the rollout must be through.
func (p *planner) soaked(up, down *Channel) channels.Verdict {
	t := p.tallies[up.Name]
	v, known := t.soaked[down.Name]
	if !known {
		v = p.judgeSoak(up, down)
		t.soaked[down.Name] = v
	}
	return v
}

func (p *planner) judgeSoak(up, down *Channel) channels.Verdict {
	var held channels.Verdict
	var gate *channels.Soak
	for i := range down.Policy.Gates {
		if s := down.Policy.Gates[i].Soak; s != nil {
			gate = s
			if held = s.Judge(up.Name, p.samples(up)); !held.Holds {
				return held
			}
		}
	}
	if failed := p.tallies[up.Name].failed; len(failed) > p.budget(up) {
		return channels.Verdict{Reason: fmt.Sprintf("%s failed in %s", up.Effective.Release, names(failed))}
	}
	if gate != nil {
		return held
	}
	if t := p.tallies[up.Name]; !p.done(up.Name, up.Effective) {
		return channels.Verdict{Reason: fmt.Sprintf("%s: %d of %d cells run it", up.Name, t.healthy, t.eligible)}
	}
	return channels.Verdict{Holds: true, Reason: up.Name + " finished it"}
}

// latched tells whether digest was accepted before, and neither quarantined nor seen to fail since (R7).
func (p *planner) latched(up, down *Channel, release string, digest releases.Digest) bool {
	a, ok := p.accepted[acceptKey{up.Name, down.Name, digest}]
	if !ok || p.quarantined(up.Name, release, digest) != nil || p.quarantined(down.Name, release, digest) != nil {
		return false
	}
	for _, s := range p.tallies[up.Name].states {
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

// samples shows up's cells to a soak gate (R9).
func (p *planner) samples(up *Channel) []channels.Sample {
	t := p.tallies[up.Name]
	if t.samples != nil {
		return t.samples
	}
	t.samples = make([]channels.Sample, 0, len(up.Cells))
	for i, s := range t.states {
		if s == nil { // it may report yet
			t.samples = append(t.samples, channels.Sample{Cell: up.Cells[i].Name, Silent: true})
			continue
		}
		sample := channels.Sample{
			Cell: up.Cells[i].Name, Counts: t.counts[i], OnDigest: s.Digest == up.Effective.Digest, Silent: !p.fresh(s),
			Healthy: s.State == cells.StateHealthy, Failed: p.failedOn(up, s), LastReport: s.LastReport,
		}
		if sample.OnDigest && sample.Healthy && !sample.Silent {
			sample.Soaked = s.Soaked
		}
		t.samples = append(t.samples, sample)
	}
	for _, name := range t.lost {
		t.samples = append(t.samples, channels.Sample{Cell: name, Counts: true, Silent: true})
	}
	return t.samples
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

func (p *planner) budget(c *Channel) int {
	if c.Valid == nil {
		return 0
	}
	return c.Valid.Rollout.FailureBudget
}

// observing tells until when the cells have not all been heard of since observing began (R26).
func (p *planner) observing(c *Channel) (until time.Time, yes bool) {
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
		return join(all)
	}
	return fmt.Sprintf("%s and %d more", join(all[:most]), len(all)-most)
}
