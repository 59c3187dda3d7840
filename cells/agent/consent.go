package agent

import (
	"cmp"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// What the cell's owner decided binds everything that is begun, but not the cell's own return to what was last good (R18).
// Whatever else may keep a cell from beginning, such as maintenance, is judged in allowed too, beside the owner.

// minOwnerWait is how long to wait where the judgement names an instant that has come.
const minOwnerWait = time.Minute

// ownerAllows reports whether the owner's decisions let a begin now, and notes why not. A file that is not valid lets nothing
// begin: a mistyped pause must not mean none.
func (s *state) ownerAllows(a *cells.Assignment, now time.Time) bool {
	if s.owner.invalid != "" {
		s.recordWait(time.Time{}, "the owner's decisions can't be read: "+s.owner.invalid)
		return false
	}
	bound := s.owner.decisions.Judge(*a, now)
	if bound.OK {
		return true
	}
	until := bound.Until
	if !until.IsZero() && !until.After(now) {
		until = now.Add(minOwnerWait)
	}
	s.recordWait(until, bound.Reason)
	return false
}

// recordWait notes why nothing begins, and until when; zero: until the owner does something.
func (s *state) recordWait(until time.Time, why string) {
	s.waitReason, s.waitUntil = words.Clip(why, maxReason), until
}

// handleOwnerDecisions takes the owner's word. While it does not count, the last one that did stands for all else.
func (s *state) handleOwnerDecisions(w ownerDecisions, now time.Time) {
	if w.invalid != "" {
		w.decisions = s.owner.decisions
	}
	s.owner = w
	s.withdrawAttempt(now)
	s.reconsiderDesired(now)
}

// reconsiderDesired looks again at what waits for the owner.
func (s *state) reconsiderDesired(now time.Time) {
	s.handleOffer(s.desired, now)
	s.beginOffer(now)
}

// reconsiderWhenDue: if what the owner's decisions wait for has come, they are looked at again.
func (s *state) reconsiderWhenDue(now time.Time) {
	if !s.waitUntil.IsZero() && !now.Before(s.waitUntil) {
		s.reconsiderDesired(now)
	}
}

// withdrawAttempt takes back an attempt that the owner is against now and that has not touched the target.
func (s *state) withdrawAttempt(now time.Time) bool {
	a := s.Attempt
	if a == nil || a.Rollback || a.Phase != phasePreparing || s.Dirty || s.ownerAllows(&a.Assignment, now) {
		return false
	}
	s.recordEvent("withheld", &a.Assignment, s.waitReason)
	s.generation++
	s.Attempt, s.Offer = nil, &a.Assignment
	s.confirmedKey = assignmentKey(s.Offer)
	s.problem, s.retries, s.retryAt = "", 0, time.Time{}
	return true
}

// reportedOwner is what the owner decided, as the vendor is told. A file that is not valid reads as a pause.
func (s *state) reportedOwner() *cells.Owner {
	if s.owner.invalid == "" {
		return s.owner.decisions
	}
	o := cells.Owner{}
	if s.owner.decisions != nil {
		o = *s.owner.decisions
	}
	o.Paused = words.Clip(cmp.Or(o.Paused, s.owner.invalid), 500)
	return &o
}
