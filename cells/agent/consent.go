package agent

import (
	"cmp"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// The owner's decisions bind everything that begins, except the cell's own rollback to the last good assignment (R18).
// Anything else that may keep a cell from beginning belongs in ownerAllows, beside the owner's decisions.

// minOwnerWait is the wait where the judgement names an instant that has passed.
const minOwnerWait = time.Minute

// ownerAllows reports whether the owner's decisions let a begin now, and records why not. An invalid file lets nothing
// begin: a mistyped pause must not count as none.
func (s *state) ownerAllows(a *cells.Assignment, now time.Time) bool {
	if s.owner.invalid != "" {
		s.recordWait(time.Time{}, "the owner's decisions are invalid, so nothing new begins: "+s.owner.invalid)
		return false
	}
	if s.missing.reason != "" && s.missing.release == a.Digest {
		s.recordWait(time.Time{}, s.missing.reason)
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

// missingValues says what the owner must still set for a release. A new process looks again: it may have new values.
type missingValues struct {
	release releases.Digest
	reason  string // empty: nothing is missing
}

// handleMissingValues holds the release of the attempt until the owner has set what it needs (R49).
func (s *state) handleMissingValues(why string, now time.Time) {
	a := s.Attempt.Assignment
	s.missing = missingValues{a.Digest, words.Clip(fmt.Sprintf("the owner must set what %s needs and start the agent "+
		"again: %s", a.Release, why), maxReason)}
	if !s.withdrawAttempt(now) { // the target was touched before, and what was good comes back
		s.failAttempt(s.missing.reason+"; then: sluice cell retry", cells.CauseCell, now)
	}
}

// recordWait records why nothing begins, and until when; zero: until the owner acts.
func (s *state) recordWait(until time.Time, why string) {
	s.waitReason, s.waitUntil = words.Clip(why, maxReason), until
}

// handleOwnerDecisions takes the owner's word. While it is invalid, the last valid decisions remain in force.
func (s *state) handleOwnerDecisions(w ownerDecisions, now time.Time) {
	if w.invalid != "" {
		w.decisions = s.owner.decisions
	}
	s.owner = w
	s.withdrawAttempt(now)
	s.reconsiderDesired(now)
}

func (s *state) reconsiderDesired(now time.Time) {
	s.handleOffer(s.desired, now)
	s.beginOffer(now)
}

// reconsiderWhenDue judges again once the instant that the owner's decisions wait for has come.
func (s *state) reconsiderWhenDue(now time.Time) {
	if !s.waitUntil.IsZero() && !now.Before(s.waitUntil) {
		s.reconsiderDesired(now)
	}
}

// withdrawAttempt withdraws an attempt that the owner now forbids and that has not touched the target. If something
// else did, and there is something to go back to, the attempt has to fail.
func (s *state) withdrawAttempt(now time.Time) bool {
	a := s.Attempt
	if a == nil || a.Rollback || !a.isUntouched() || s.Dirty && s.LastGood != nil || s.ownerAllows(&a.Assignment, now) {
		return false
	}
	s.recordEvent("withheld", &a.Assignment, s.waitReason)
	s.generation++
	s.Attempt, s.Offer = nil, &a.Assignment
	s.confirmedKey = assignmentKey(s.Offer)
	s.problem, s.retries, s.retryAt = "", 0, time.Time{}
	return true
}

// reportedOwner returns the owner's decisions as the vendor sees them. An invalid file is reported as a pause, and so
// is a value that is missing, until the channel moves on to another release.
func (s *state) reportedOwner() *cells.Owner {
	why := s.owner.invalid
	if why == "" && (s.head == "" || s.head == s.missing.release) {
		why = s.missing.reason
	}
	if why == "" {
		return s.owner.decisions
	}
	o := cells.Owner{}
	if s.owner.decisions != nil {
		o = *s.owner.decisions
	}
	o.Paused = words.Clip(cmp.Or(o.Paused, why), 500)
	return &o
}
