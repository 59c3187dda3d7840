package announce

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Modes of repository.Readiness that the engine decides by (R41).
const (
	skip  = "skip"
	block = "block"
)

// waits reports whether each cell gets an announcement when it is ready, so that nothing is to be counted.
func (s *scope) waits() bool {
	return s.rules.WhenNotReady.Mode != skip && s.rules.WhenNotReady.Mode != block
}

// decide publishes as whenNotReady says (R41): what is skipped or blocked, as of now, for no cell can have flipped before.
func (s *channelState) decide(f finding) {
	if s.waits() {
		s.publish(f.basis)
		return
	}
	skips := s.rules.WhenNotReady.Mode == skip
	ready, _, lacking := s.readiness()
	ok, share := enough(len(ready), lacking, s.rules.WhenNotReady.Percent)
	s.state, s.sent, f.basis.At = Scheduled, false, s.instant()
	switch {
	case ok && skips:
		f.basis.Cells = ready
		s.publish(f.basis)
	case ok:
		s.publish(f.basis)
	case skips:
		f.why = "too few cells: " + share
		s.state, s.why = Missed, f.why
		s.miss(f)
	default:
		s.why = "waits for cells: " + share
	}
}

// decided gives the tree that has what a record was made of; nil: it can't be read, and so it is off.
func (s *channelState) decided() *repository.Tree {
	if t := s.p.tree(s.rec.Commit); t != nil && t.Announcements[s.a.id] != nil {
		return t
	}
	if s.a.tip != nil && s.rec.Hash == s.a.hash {
		return s.p.in.Tip
	}
	s.p.fault(manifest.Unreadable, s.path(), "commit "+s.rec.Commit+" can't be read, or has no such announcement: the features of "+s.a.id+" are off in "+s.c.Name)
	return nil
}

// instant is now in a zone that the announcement's people read.
func (s *scope) instant() time.Time { return s.c.p.now.In(s.rules.Location()) }

// again has an approved edit count: at the old time, unless that was changed. A time to come is waited for with what is published.
func (s *channelState) again(finding) {
	tip, rec := s.a.tip, s.rec
	before, _, _ := s.rules.When(s.c.Name, false)
	at, _, never := tip.When(s.c.Name, false)
	if never || !inChannel(tip.Cells, s.c) {
		s.record(repository.Record{Outcome: repository.Disarmed, Hash: s.a.hash, Commit: s.p.in.Commit, At: rec.At, Reason: "it is not for this channel any more"})
		return
	}
	next := repository.Record{Outcome: repository.Published, Hash: s.a.hash, Commit: s.p.in.Commit, At: rec.At, Without: rec.Without}
	moved := !at.IsZero() && !at.Equal(before)
	if moved && !s.p.reached(at) {
		return
	}
	if moved {
		next.At = at
	}
	if moved || tip.Now && !s.rules.Now { // who was held then, gets it now
		next.Without = nil
	}
	if tip.WhenNotReady.Mode == skip {
		next.Cells = s.joined()
	}
	s.record(next)
}

// joined gives those that have it, and those that are ready for what it says now.
func (s *channelState) joined() []string {
	now := scope{c: s.c}
	now.govern(s.a.tip, s.p.in.Tip)
	ready, _, _ := now.readiness()
	names := setOf(ready)
	for _, c := range s.c.cells {
		if s.reaches(c) && now.reach.selects(c) && s.codes[c.code] {
			names[c.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
