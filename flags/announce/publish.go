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

// waitsPerCell reports whether each cell gets an announcement when it is ready, so that nothing is to be counted.
func (s *scope) waitsPerCell() bool {
	return s.rules.WhenNotReady.Mode != skip && s.rules.WhenNotReady.Mode != block
}

// publishIfReady publishes as whenNotReady says (R41): what is skipped or blocked, as of now, for no cell can have flipped before.
func (s *channelState) publishIfReady(f finding) {
	if s.waitsPerCell() {
		s.publish(f.basis)
		return
	}
	skips := s.rules.WhenNotReady.Mode == skip
	ready, _, lacking := s.readyCells()
	ok, share := enoughReady(len(ready), lacking, s.rules.WhenNotReady.Percent)
	s.state, s.sent, f.basis.At = Scheduled, false, s.nowInZone()
	switch {
	case ok && skips:
		f.basis.Cells = ready
		s.publish(f.basis)
	case ok:
		s.publish(f.basis)
	case skips:
		f.explanation = "too few cells: " + share
		s.state, s.reason = Missed, f.explanation
		s.recordMiss(f)
	default:
		s.reason = "waits for cells: " + share
	}
}

// decidedTree gives the tree that has what a record was made of; nil: it can't be read, and so it is off.
func (s *channelState) decidedTree() *repository.Tree {
	if t := s.planner.treeAt(s.record.Commit); t != nil && t.Announcements[s.announcement.id] != nil {
		return t
	}
	if s.announcement.tip != nil && s.record.Hash == s.announcement.hash {
		return s.planner.input.Tip
	}
	s.planner.addFault(manifest.Unreadable, s.recordPath(), "commit "+s.record.Commit+" can't be read, or has no such announcement: the features of "+s.announcement.id+" are off in "+s.channel.Name)
	return nil
}

// nowInZone is now in a zone that the announcement's people read.
func (s *scope) nowInZone() time.Time { return s.channel.planner.now.In(s.rules.Location()) }

// publishEdit has an approved edit count: at the old time, unless that was changed. A time to come is waited for with what is published.
func (s *channelState) publishEdit(finding) {
	tip, rec := s.announcement.tip, s.record
	before, _, _ := s.rules.When(s.channel.Name, false)
	at, _, never := tip.When(s.channel.Name, false)
	if never || !inChannel(tip.Cells, s.channel) {
		s.writeRecord(repository.Record{Outcome: repository.Disarmed, Hash: s.announcement.hash, Commit: s.planner.input.Commit, At: rec.At, Reason: "it is not for this channel any more"})
		return
	}
	next := repository.Record{Outcome: repository.Published, Hash: s.announcement.hash, Commit: s.planner.input.Commit, At: rec.At, Without: rec.Without}
	moved := !at.IsZero() && !at.Equal(before)
	if moved && !s.planner.reached(at) {
		return
	}
	if moved {
		next.At = at
	}
	if moved || tip.Now && !s.rules.Now { // who was held then, gets it now
		next.Without = nil
	}
	if tip.WhenNotReady.Mode == skip {
		next.Cells = s.cellsAfterEdit()
	}
	s.writeRecord(next)
}

// cellsAfterEdit gives those that have it, and those that are ready for what it says now.
func (s *channelState) cellsAfterEdit() []string {
	now := scope{channel: s.channel}
	now.applyRules(s.announcement.tip, s.planner.input.Tip)
	ready, _, _ := now.readyCells()
	names := setOf(ready)
	for _, c := range s.channel.cells {
		if s.reaches(c) && now.reach.selects(c) && s.contained[c.featureSet] {
			names[c.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
