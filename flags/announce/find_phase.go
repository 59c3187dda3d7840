package announce

import (
	"cmp"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// follow finds the phase in an entry channel: it has what the tip says, without approvals and records, and without regard to
// whenNotReady. Holds bind it for as long as they are there.
func (s *channelState) follow() finding {
	tip := s.a.tip
	at, ready, never := tip.When(s.c.Name, true)
	if never || at.IsZero() && !ready {
		return finding{phase: absent}
	}
	s.hold()
	s.govern(tip, s.p.in.Tip)
	s.at = at
	come := s.p.reached(at)
	f := finding{phase: entryAhead, why: s.held}
	if s.held != "" {
		f.obstacle = held
	}
	switch {
	case tip.Cancelled != "" && come:
		return finding{phase: retracted, why: oneLine(tip.Cancelled)}
	case tip.Cancelled != "":
		return finding{phase: cancelled, why: oneLine(tip.Cancelled)}
	case tip.Archived:
		f.phase = archived
	case come:
		f.phase = entryDue
	}
	return f
}

// prepare finds the phase in a channel with an upstream before publication.
func (s *channelState) prepare() finding {
	tip := s.a.tip
	if tip == nil {
		return finding{phase: absent, reason: "its file is gone"}
	}
	at, ready, never := tip.When(s.c.Name, false)
	s.hold()
	s.govern(tip, nil)
	s.at = at
	come := at.IsZero() || s.p.reached(at)
	f := finding{basis: repository.Record{Hash: s.a.hash, Commit: s.p.in.Commit, At: at}}
	switch {
	case s.held != "":
		f.obstacle, f.why = held, "held: "+s.held
	case s.a.short != "":
		f.obstacle, f.why = unapproved, s.a.short
	}
	f.reason = f.why
	switch {
	case never || !inChannel(tip.Cells, s.c):
		return finding{phase: absent, reason: "it is not for this channel"}
	case tip.Cancelled != "":
		why := oneLine(tip.Cancelled)
		return finding{phase: cancelled, why: why, reason: "cancelled: " + why}
	case tip.Archived:
		return finding{phase: archived, reason: "archived"}
	case s.recorded(repository.Armed):
		return s.armed(f, come)
	case s.recorded(repository.Missed):
		return finding{phase: missed, why: s.rec.Reason}
	case ready || tip.Now && come:
		f.phase, f.basis.At = atOnce, s.instant()
	case at.IsZero():
		f.phase, f.reason = timeless, "it has no time"
	case !come:
		f.phase = ahead
	default:
		return s.unarmed(f)
	}
	return f
}

// recorded reports whether there is a record of what the announcement says now.
func (s *channelState) recorded(as repository.Outcome) bool {
	return s.rec != nil && s.rec.Outcome == as && s.rec.Text == s.a.text
}

// armed finds the phase of what is on record as armed, and says what it said then. come: the time that it says now has.
func (s *channelState) armed(f finding, come bool) finding {
	rec, past := s.rec, s.p.reached(s.rec.At)
	moved := s.a.short == "" && (rec.Hash != s.a.hash || !rec.At.Equal(s.at)) && !come
	s.govern(s.a.tip, s.decided())
	s.at = rec.At
	if f.obstacle == unapproved && rec.Hash != s.a.hash { // definitions alone were edited: those that were approved stay (R42)
		f.obstacle, f.why, s.stale = free, "", "its flags' definitions were edited"
	}
	if f.obstacle == free && s.tree == nil {
		f.obstacle = unreadable
	}
	if past || !moved {
		f.basis = repository.Record{Hash: rec.Hash, Commit: rec.Commit, At: rec.At}
	}
	switch {
	case past:
		f.phase, s.reach.without = due, setOf(rec.Without)
	case s.waits():
		f.phase = armed
	default:
		f.phase = counting
	}
	return f
}

// unarmed finds the phase of what was not armed when its time came. Only a channel that is new, of which there is no record at
// all, has what is published elsewhere: a cell that moves there keeps its features.
func (s *channelState) unarmed(f finding) finding {
	elsewhere := s.a.published()
	switch f.phase = joining; {
	case s.rec != nil || elsewhere == nil || s.held != "":
		f.phase, f.why = late, cmp.Or(f.why, "it was not armed when its time came")
	case f.obstacle == free:
	case elsewhere.Text == s.a.text:
		f.obstacle, f.why, f.basis.Hash, f.basis.Commit = free, "", elsewhere.Hash, elsewhere.Commit
	default:
		f.why = "it was edited since it was published elsewhere; " + f.why
	}
	return f
}

// keep finds the phase in a channel with an upstream after publication. What was decided stays in force, whatever is edited,
// held or lost, until an edit is approved; but cancelling takes it back at once. A record of a time to come counts too: clocks
// may step.
func (s *channelState) keep() finding {
	tip, tree := s.a.tip, s.decided()
	rules := tip
	if tree != nil {
		rules = tree.Announcements[s.a.id]
	}
	s.govern(rules, tree)
	s.at, s.reach.without = s.rec.At, setOf(s.rec.Without)
	if rules != nil && rules.WhenNotReady.Mode == skip {
		s.reach.only = setOf(s.rec.Cells)
	}
	switch {
	case tip == nil:
		s.stale = "its file is gone"
		s.p.warn(manifest.Missing, s.path(), 0, s.a.id+" is published in "+s.c.Name+", and its file is gone: restore it, and cancel or archive it if that is meant")
	case tip.Cancelled != "":
		return finding{phase: retracted, why: oneLine(tip.Cancelled)}
	case tip.Archived:
		return finding{phase: archived}
	case s.rec.Hash == s.a.hash:
	case s.a.short != "" && s.rec.Text == s.a.text:
		s.stale = "its flags' definitions were edited"
	case s.a.short != "":
		s.stale = "it was edited"
	case tree != nil:
		return finding{phase: edited}
	}
	return finding{phase: published}
}
