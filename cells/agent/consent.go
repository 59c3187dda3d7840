package agent

import (
	"cmp"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// What the cell's owner decided binds everything that is begun, but not the cell's own return to what was last good (R18).
// Whatever else may keep a cell from beginning, such as maintenance, is judged in allowed too, beside the owner.

// patience is how long to wait where the judgement names an instant that has come.
const patience = time.Minute

// allowed reports whether the owner's decisions let a begin now, and notes why not. A file that is not valid lets nothing
// begin: a mistyped pause must not mean none.
func (s *state) allowed(a *cells.Assignment, now time.Time) bool {
	if s.owner.invalid != "" {
		s.waitFor(time.Time{}, "the owner's decisions can't be read: "+s.owner.invalid)
		return false
	}
	bound := s.owner.decisions.Judge(*a, now)
	if bound.OK {
		return true
	}
	until := bound.Until
	if !until.IsZero() && !until.After(now) {
		until = now.Add(patience)
	}
	s.waitFor(until, bound.Reason)
	return false
}

// waitFor notes why nothing begins, and until when; zero: until the owner does something.
func (s *state) waitFor(until time.Time, why string) {
	s.waits, s.waitsFor = words.Clip(why, maxReason), until
}

// ownerDecided takes the owner's word. While it does not count, the last one that did stands for all else.
func (s *state) ownerDecided(w ownerFile, now time.Time) {
	if w.invalid != "" {
		w.decisions = s.owner.decisions
	}
	s.owner = w
	s.withdraw(now)
	s.reconsider(now)
}

// reconsider looks again at what waits for the owner.
func (s *state) reconsider(now time.Time) {
	s.offered(s.desired, now)
	s.begin(now)
}

// waited: if what the owner's decisions wait for has come, they are looked at again.
func (s *state) waited(now time.Time) {
	if !s.waitsFor.IsZero() && !now.Before(s.waitsFor) {
		s.reconsider(now)
	}
}

// withdraw takes back an attempt that the owner is against now and that has not touched the target.
func (s *state) withdraw(now time.Time) bool {
	a := s.Attempt
	if a == nil || a.Back || a.Phase != phaseTaken || s.Dirty || s.allowed(&a.Assignment, now) {
		return false
	}
	s.note("withheld", &a.Assignment, s.waits)
	s.generation++
	s.Attempt, s.Offer = nil, &a.Assignment
	s.known = key(s.Offer)
	s.message, s.retries, s.retryAt = "", 0, time.Time{}
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
