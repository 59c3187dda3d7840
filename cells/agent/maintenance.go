package agent

import (
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/diagnostics"
	"github.com/sluice-cd/sluice/releases/export"
)

// upkeep is the part of the journal about maintenances.
type upkeep struct {
	Record *maintenance.Record `json:"record,omitempty"` // for an update; nil: none
	Owner  *maintenance.Owner  `json:"owner,omitempty"`  // the owner's own; nil: none
	After  time.Time           `json:"after,omitzero"`   // the next for an update does not begin before: one overran
	Policy maintenance.Policy  `json:"policy,omitzero"`  // of the channel, as received last
	Texts  releases.Texts      `json:"texts,omitempty"`  // of the cell, as received last
	// MayRun holds the components of what was written since anything was good: they may be running beside those of
	// LastGood.
	MayRun []releases.Component `json:"mayRun,omitempty"`

	Overran time.Time          `json:"overran,omitzero"` // when one ended, while its update is still not through
	Totals  maintenance.Totals `json:"totals,omitzero"`
}

// maintenanceReport returns what is reported of maintenances; nil: there never was one.
func maintenanceReport(u *upkeep) *cells.MaintenanceReport {
	r := &cells.MaintenanceReport{Overran: u.Overran, Totals: u.Totals}
	if u.Record != nil {
		r.Phase, r.Release, r.Begins, r.Until = u.Record.Phase, u.Record.Release, u.Record.Begins, u.Record.Until
	} else if u.Totals.Begun == 0 {
		return nil
	}
	return r
}

// contents is what a release says of its components, exports, diagnostic commands and logs, read from its verified
// bytes.
type contents struct {
	Components []releases.Component `json:"components,omitempty"`
	Shows      releases.Maintenance `json:"shows,omitzero"`
	Export     *export.List         `json:"export,omitempty"` // what it wishes to have exported; nil: nothing

	Diagnostics diagnostics.List `json:"diagnostics,omitempty"` // commands for debugging
	Logs        diagnostics.Logs `json:"logs,omitempty"`        // that a debug session may read
}

// recordContents records the contents of an assignment's release.
func recordContents(s *state, of *cells.Assignment, c *contents) {
	if c == nil {
		return
	}
	if a := s.Attempt; a != nil && a.Contents == nil && a.Assignment.Digest == of.Digest {
		more := *a
		more.Contents = c
		s.Attempt = &more
	}
	isPartial := s.Contents == nil || s.Contents.Export == nil || s.Contents.Diagnostics == nil ||
		s.Contents.Logs == nil
	if s.LastGood != nil && isPartial && s.LastGood.Digest == of.Digest {
		s.Contents = c
	}
}

// changesMarked reports whether the attempt changes a marked component of what may be running. Where that is not known,
// as under the journal of an earlier version, any marked component counts.
func changesMarked(s *state) bool {
	a := s.Attempt
	if a == nil || a.Contents == nil {
		return false
	}
	running := s.Upkeep.MayRun
	switch {
	case s.Contents != nil:
		running = maintenance.Union(s.Contents.Components, running)
	case s.LastGood == nil && len(running) == 0: // a first install
		return false
	}
	return maintenance.Changes(running, a.Contents.Components)
}

// mayApply reports whether the attempt may be written now, as far as maintenances go.
func mayApply(s *state, now time.Time) bool { return s.Upkeep.Record.Holds(now) || !changesMarked(s) }

// startApplying lets a prepared attempt begin. The journal says so before the first write.
func startApplying(s *state) {
	a := *s.Attempt
	a.Phase = phaseApplying
	if a.Contents != nil {
		s.Upkeep.MayRun = maintenance.Union(s.Upkeep.MayRun, a.Contents.Components)
	}
	s.Attempt, s.Dirty = &a, true
	s.narrowContained(a.Features)
	if a.Assignment.ForwardOnly && (s.LastGood == nil || s.LastGood.Digest != a.Assignment.Digest) {
		s.NoReturn = true
	}
}

// maintain takes the maintenances on: the owner's, and that of an update that changes a marked component. writing
// reports whether the target is being written.
func maintain(s *state, ops maintenance.Busy, writing bool, now time.Time) {
	followOwnerMaintenance(s, now)
	u := &s.Upkeep
	for range 4 { // one call makes one step, and there are fewer in a row
		if r := u.Record; r != nil && r.Phase == maintenance.Announced && !now.Before(r.Begins) {
			s.withdrawAttempt(now) // the owner's windows and approval decide when it begins
		}
		next, events := maintenance.Advance(u.Record, updateFacts(s, writing), u.Policy, ops, now)
		if next == u.Record && len(events) == 0 {
			break
		}
		for _, e := range events {
			s.recordEvent(e.Kind, updateOf(s), e.Detail)
			u.Totals = u.Totals.After(u.Record, e, ops, now)
			if e.Kind == maintenance.EventOverran {
				u.After, u.Overran = now.Add(u.Policy.WithDefaults().Again), u.Record.Until
			}
		}
		u.Record = next
		if next != nil && next.Phase == maintenance.Draining {
			break // ops is of before the first refusal
		}
	}
	if u.Record == nil && !now.Before(u.After) {
		u.After = time.Time{}
	}
	if a := s.Attempt; a != nil && a.Phase == phasePrepared && mayApply(s, now) {
		startApplying(s)
	}
	if s.Attempt == nil && !s.Dirty && s.health == healthGood {
		u.MayRun, u.Overran = nil, time.Time{} // LastGood is all that runs
	}
}

// updateOf returns the assignment that an update brings, or brought.
func updateOf(s *state) *cells.Assignment {
	if s.Attempt != nil {
		return &s.Attempt.Assignment
	}
	return s.LastGood
}

func updateFacts(s *state, writing bool) maintenance.Facts {
	f := maintenance.Facts{NotBefore: s.Upkeep.After, Changes: changesMarked(s)}
	a, r := s.Attempt, s.Upkeep.Record
	if a == nil {
		if r != nil {
			f.Release, f.Back, f.Shows = r.Release, r.Back, r.Shows
		}
		if r != nil && r.Back && s.health != healthGood && s.LastGood != nil {
			f.Stage = maintenance.Watching
		}
		return f
	}
	f.Release, f.Back, f.Resumes = a.Assignment.Release, a.Rollback, a.Phase == phaseApplying
	if a.Contents != nil {
		f.Shows = a.Contents.Shows
	}
	switch {
	case writing:
		f.Stage = maintenance.Writing
	case a.Phase == phasePreparing:
		f.Stage = maintenance.Preparing
	case a.Phase == phasePrepared || a.Phase == phaseApplying:
		f.Stage = maintenance.Ready
	case a.Phase == phaseApplied && !s.wasHealthy:
		f.Stage = maintenance.Watching
	}
	return f
}

// followOwnerMaintenance takes the owner's word on a maintenance. While owner.yaml is invalid the last one stays, until
// its end.
func followOwnerMaintenance(s *state, now time.Time) {
	u := &s.Upkeep
	var wanted *maintenance.Owner
	if d := s.owner.decisions; d != nil {
		wanted = d.Maintenance
	}
	switch have := u.Owner; {
	case have != nil && !now.Before(have.Until):
		u.Owner = nil
		s.recordEvent(maintenance.EventLeft, s.runningAssignment(), "the end that the owner gave has come")
	case s.owner.invalid != "":
	case wanted == nil && have != nil:
		u.Owner = nil
		s.recordEvent(maintenance.EventLeft, s.runningAssignment(), "the owner ended it")
	case wanted != nil && (have == nil || !have.Since.Equal(wanted.Since)):
		if u.Owner = wanted.Restore(now); u.Owner != nil {
			s.recordEvent(maintenance.EventEntered, s.runningAssignment(), "by the owner, until "+
				words.FormatTime(u.Owner.Until)+": "+u.Owner.Reason)
		}
	}
}

// nextMaintenance returns when time alone may change a maintenance; zero: it doesn't.
func nextMaintenance(s *state, now time.Time) time.Time {
	next := s.Upkeep.Record.Next(s.Upkeep.Policy, now)
	if o := s.Upkeep.Owner; o != nil {
		next = earlier(next, o.Until)
	}
	return next
}

// earlier returns the earlier of two instants, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// maintenanceSummary says what keeps the update, for people; empty: nothing.
func maintenanceSummary(s *state) string {
	r := s.Upkeep.Record
	switch {
	case r == nil:
		return ""
	case r.Phase == maintenance.Announced && r.PutOff > 0:
		return "maintenance for " + r.Release + ": put off " + words.Count(r.PutOff, "time") + ", until " +
			words.FormatTime(r.Begins) + ", for operations that took too long"
	case r.Phase == maintenance.Announced:
		return "maintenance for " + r.Release + ": begins at " + words.FormatTime(r.Begins)
	case r.Phase == maintenance.Draining:
		return "maintenance for " + r.Release + ": operations are refused, and those under way have until " +
			words.FormatTime(r.Drain)
	case r.Why != "":
		return "maintenance until " + words.FormatTime(r.Until) + ": " + r.Why
	}
	return "maintenance for " + r.Release + ": operations are refused until " + words.FormatTime(r.Until) +
		" at the latest"
}
