package announce

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Modes of repository.Readiness that the engine decides (R41).
const (
	skip  = "skip"
	block = "block"
)

// waitsPerCell reports whether each cell gets the announcement once the cell is ready, without counting cells.
func (s *scope) waitsPerCell() bool {
	return s.rules.WhenNotReady.Mode != skip && s.rules.WhenNotReady.Mode != block
}

// publishIfReady publishes by whenNotReady (R41). Modes skip and block publish as of now, since no cell can have
// flipped before.
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

// decidedTree returns the tree of the record's commit; nil if that can't be read, so that the features are off.
func (s *channelState) decidedTree() *repository.Tree {
	if t := s.planner.treeAt(s.record.Commit); t != nil && t.Announcements[s.announcement.id] != nil {
		return t
	}
	if s.announcement.tip != nil && s.record.Hash == s.announcement.hash {
		return s.planner.input.Tip
	}
	s.planner.addFault(manifest.Unreadable, s.recordPath(),
		"commit "+s.record.Commit+" can't be read, or has no such announcement: the features of "+
			s.announcement.id+" are off in "+s.channel.Name)
	return nil
}

// nowInZone returns the instant of the plan in the announcement's zone.
func (s *scope) nowInZone() time.Time { return s.channel.planner.now.In(s.rules.Location()) }

// publishEdit records an approved edit of a published announcement: at the old time unless the edit moves it. Until a
// later new time the published text stays.
func (s *channelState) publishEdit(finding) {
	tip, rec := s.announcement.tip, s.record
	before, _, _ := s.rules.When(s.channel.Name, false)
	at, _, never := tip.When(s.channel.Name, false)
	if never || !inChannel(tip.Cells, s.channel) {
		s.writeRecord(repository.Record{
			Outcome: repository.Disarmed, Hash: s.announcement.hash, Commit: s.planner.input.Commit, At: rec.At,
			Reason: "it is no longer for this channel",
		})
		return
	}
	next := repository.Record{
		Outcome: repository.Published, Hash: s.announcement.hash, Commit: s.planner.input.Commit, At: rec.At,
		Without: rec.Without,
	}
	moved := !at.IsZero() && !at.Equal(before)
	if moved && !s.planner.isDue(at) {
		return
	}
	if moved {
		next.At = at
	}
	if moved || tip.Now && !s.rules.Now { // cells held then get the features now
		next.Without = nil
	}
	if tip.WhenNotReady.Mode == skip {
		next.Cells = s.cellsAfterEdit()
	}
	s.writeRecord(next)
}

// cellsAfterEdit returns the cells that have the features and those that are ready under the edited rules.
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
