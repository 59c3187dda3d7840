package announce

import (
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/flags/repository"
)

// keep settles a channel with an upstream after publication. What was decided stays in force, whatever is edited, held or lost,
// until an edit is approved; but cancelling takes it back at once. A record of a time to come counts too: clocks may step.
func (p *planner) keep(s *standing) {
	tree := p.decided(s)
	rules := s.a.tip
	if tree != nil {
		rules = tree.Announcements[s.a.id]
	}
	p.govern(s, rules, tree)
	s.at, s.state, s.sent = s.rec.At, Publishing, tree != nil
	s.reach.without = setOf(s.rec.Without)
	if rules != nil && rules.WhenNotReady.Mode == skip {
		s.reach.only = setOf(s.rec.Cells)
	}
	switch tip := s.a.tip; {
	case tip == nil:
		s.stale = "its file is gone"
		p.warn(recordPath(s), 0, s.a.id+" is published in "+s.c.Name+", and its file is gone: restore it, and cancel or archive it if that is meant")
	case tip.Cancelled != "":
		s.state, s.why, s.sent = Retracted, oneLine(tip.Cancelled), false
	case tip.Archived:
		s.state = Archived
	case s.rec.Hash == s.a.hash:
	case s.a.short != "":
		s.stale = "it was edited"
		if s.rec.Text == s.a.text {
			s.stale = "its flags' definitions were edited"
		}
	case tree != nil:
		p.again(s)
	}
}

// again has an approved edit count: at the old time, unless that was changed. A time to come is waited for with what is published.
func (p *planner) again(s *standing) {
	tip, rec := s.a.tip, s.rec
	before, _, _ := s.rules.When(s.c.Name, false)
	at, _, never := tip.When(s.c.Name, false)
	if never || !inChannel(tip.Cells, s.c) {
		p.record(s, repository.Record{Outcome: repository.Disarmed, Hash: s.a.hash, Commit: p.in.Commit, At: rec.At, Reason: "it is not for this channel any more"})
		return
	}
	next := repository.Record{Outcome: repository.Published, Hash: s.a.hash, Commit: p.in.Commit, At: rec.At, Without: rec.Without}
	moved := !at.IsZero() && !at.Equal(before)
	if moved && !p.reached(at) {
		s.why = "its approved edit counts from " + stamp(at)
		return
	}
	if moved {
		next.At = at
	}
	if moved || tip.Now && !s.rules.Now { // who was held then, gets it now
		next.Without = nil
	}
	if tip.WhenNotReady.Mode == skip {
		next.Cells = p.joined(s)
	}
	p.record(s, next)
}

// joined gives those that have it, and those that are ready for what it says now.
func (p *planner) joined(s *standing) []string {
	now := &standing{a: s.a, c: s.c}
	p.govern(now, s.a.tip, p.in.Tip)
	ready, _, _ := p.readiness(now)
	names := setOf(ready)
	for _, c := range s.c.cells {
		if s.reaches(c) && now.reach.selects(c) && s.codes[c.code] {
			names[c.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
