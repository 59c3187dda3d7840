package announce

import (
	"cmp"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// entryPhase finds the phase in an entry channel, which follows the tip without approvals, records and whenNotReady.
// Holds apply while they exist, until the announcement is published in some other channel.
func (s *channelState) entryPhase() finding {
	tip := s.announcement.tip
	at, ready, never := tip.When(s.channel.Name, true)
	if never || at.IsZero() && !ready {
		return finding{phase: absent}
	}
	if s.announcement.publishedRecord() == nil { // after publication a hold has no effect here, either (R43)
		s.findHolds()
	}
	s.applyRules(tip, s.planner.input.Tip)
	s.at = at
	hasCome := s.planner.isDue(at)
	f := finding{phase: entryAhead, explanation: s.heldReason}
	if s.heldReason != "" {
		f.obstacle = held
	}
	switch {
	case tip.Cancelled != "" && hasCome:
		return finding{phase: retracted, explanation: oneLine(tip.Cancelled)}
	case tip.Cancelled != "":
		return finding{phase: cancelled, explanation: oneLine(tip.Cancelled)}
	case tip.Archived:
		f.phase = archived
	case hasCome:
		f.phase = entryDue
	}
	return f
}

// pendingPhase finds the phase before publication in a channel with an upstream.
func (s *channelState) pendingPhase() finding {
	tip := s.announcement.tip
	if tip == nil {
		return finding{phase: absent, reason: "its file is gone"}
	}
	at, ready, never := tip.When(s.channel.Name, false)
	s.findHolds()
	s.applyRules(tip, nil)
	s.at = at
	hasCome := at.IsZero() || s.planner.isDue(at)
	f := finding{basis: repository.Record{Hash: s.announcement.hash, Commit: s.planner.input.Commit, At: at}}
	switch {
	case s.heldReason != "":
		f.obstacle, f.explanation = held, "held: "+s.heldReason
	case s.announcement.missingApprovals != "":
		f.obstacle, f.explanation = unapproved, s.announcement.missingApprovals
	}
	f.reason = f.explanation
	switch {
	case never || !inChannel(tip.Cells, s.channel):
		return finding{phase: absent, reason: "it is not for this channel"}
	case tip.Cancelled != "":
		explanation := oneLine(tip.Cancelled)
		return finding{phase: cancelled, explanation: explanation, reason: "cancelled: " + explanation}
	case tip.Archived:
		return finding{phase: archived, reason: "archived"}
	case s.hasRecord(repository.Armed):
		return s.armedPhase(f, hasCome)
	case s.hasRecord(repository.Missed):
		return finding{phase: missed, explanation: s.record.Reason}
	case ready || tip.Now && hasCome:
		f.phase, f.basis.At = atOnce, s.nowInZone()
	case at.IsZero():
		f.phase, f.reason = timeless, "it has no time"
	case !hasCome:
		f.phase = ahead
	default:
		return s.unarmedPhase(f)
	}
	return f
}

// hasRecord reports whether there is a record with the outcome for the announcement's current text.
func (s *channelState) hasRecord(as repository.Outcome) bool {
	return s.record != nil && s.record.Outcome == as && s.record.Text == s.announcement.text
}

// armedPhase finds the phase of an announcement on record as armed, and applies the recorded rules. newTimeCame
// reports whether the time in the current file has come.
func (s *channelState) armedPhase(f finding, newTimeCame bool) finding {
	rec, hasCome := s.record, s.planner.isDue(s.record.At)
	edited := rec.Hash != s.announcement.hash || !rec.At.Equal(s.at)
	moved := s.announcement.missingApprovals == "" && edited && !newTimeCame
	s.applyRules(s.announcement.tip, s.decidedTree())
	s.at = rec.At
	// only definitions were edited: the approved ones stay (R42)
	if f.obstacle == unapproved && rec.Hash != s.announcement.hash {
		f.obstacle, f.explanation, s.stale = free, "", "its flags' definitions were edited"
	}
	if f.obstacle == free && s.tree == nil {
		f.obstacle = unreadable
	}
	if hasCome || !moved {
		f.basis = repository.Record{Hash: rec.Hash, Commit: rec.Commit, At: rec.At}
	}
	switch {
	case hasCome:
		f.phase, s.reach.without = due, setOf(rec.Without)
	case s.waitsPerCell():
		f.phase = armed
	default:
		f.phase = counting
	}
	return f
}

// unarmedPhase finds the phase of an announcement that was not armed when its time came. Only a new channel without any
// record joins what is published elsewhere, so that a cell that moves there keeps its features.
func (s *channelState) unarmedPhase(f finding) finding {
	elsewhere := s.announcement.publishedRecord()
	switch f.phase = joining; {
	case s.record != nil || elsewhere == nil || s.heldReason != "":
		f.phase, f.explanation = late, cmp.Or(f.explanation, "it was not armed when its time came")
	case f.obstacle == free:
	case elsewhere.Text == s.announcement.text:
		f.obstacle, f.explanation, f.basis.Hash, f.basis.Commit = free, "", elsewhere.Hash, elsewhere.Commit
	default:
		f.explanation = "it was edited after it was published elsewhere; " + f.explanation
	}
	return f
}

// publishedPhase finds the phase after publication in a channel with an upstream. The published rules stay in force,
// whatever is edited, held or lost, until an edit is approved; cancelling retracts at once. A record of a future time
// counts too, since clocks may step.
func (s *channelState) publishedPhase() finding {
	tip, tree := s.announcement.tip, s.decidedTree()
	rules := tip
	if tree != nil {
		rules = tree.Announcements[s.announcement.id]
	}
	s.applyRules(rules, tree)
	s.at, s.reach.without = s.record.At, setOf(s.record.Without)
	if rules != nil && rules.WhenNotReady.Mode == skip {
		s.reach.only = setOf(s.record.Cells)
	}
	switch {
	case tip == nil:
		s.stale = "its file is gone"
		s.planner.addWarning(manifest.Missing, s.recordPath(), 0,
			s.announcement.id+" is published in "+s.channel.Name+
				", and its file is gone: restore it, then cancel or archive it if that is intended")
	case tip.Cancelled != "":
		return finding{phase: retracted, explanation: oneLine(tip.Cancelled)}
	case tip.Archived:
		return finding{phase: archived}
	case s.record.Hash == s.announcement.hash:
	case s.announcement.missingApprovals != "" && s.record.Text == s.announcement.text:
		s.stale = "its flags' definitions were edited"
	case s.announcement.missingApprovals != "":
		s.stale = "it was edited"
	case tree != nil:
		return finding{phase: edited}
	}
	return finding{phase: published}
}
