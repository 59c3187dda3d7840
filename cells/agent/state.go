package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

// state is the agent's whole mind: the journal, and what this process has seen. Its methods
// are pure: they take the instant, do no I/O, and note in events what is worth telling. The
// loop saves the journal and the events before it does what step then asks for.
type state struct {
	journal
	policy policy
	events []cells.Event // new ones, not yet numbered or kept

	generation int               // grows when a step in flight is no longer wanted
	desired    *cells.Assignment // the control plane's last word
	known      string            // key of the accepted assignment that the control plane knows of
	owner      ownerFile         // the owner's last word; while it does not count, the valid one before
	waits      string            // why the owner's decisions keep the desired from beginning; empty: they don't
	waitsFor   time.Time         // when they may not any more; zero: the owner must do something
	refused    string            // key of the assignment that was refused last: alarmed once
	message    string            // what went wrong with the last attempt or its step; empty: nothing
	retries    int               // of the step at hand
	retryAt    time.Time         // no step before; zero: at once
	deadline   time.Time         // for the health of what was applied

	health       health
	healthySince time.Time // zero: not healthy
	healthAt     time.Time // the next look
	quick        time.Duration
	compared     bool   // this process has held the target against what it should have: health means that
	held         bool   // the attempt was healthy once
	ailing       string // why health does not hold
	healAt       time.Time
	unhealed     string // why drift could not be put back
	missing      string // what healing needs and is not at hand
}

// health is what the last look at it said.
type health int

const (
	unknown health = iota
	holds
	fails
)

// policy is the part of Options that decides.
type policy struct {
	HealthTimeout  time.Duration
	HealthInterval time.Duration
	HealInterval   time.Duration
	HealthyFor     time.Duration
}

// task is what the agent does next.
type task string

const (
	rest    task = "rest"    // nothing before At
	prepare task = "prepare" // fetch, verify, render
	apply   task = "apply"
	look    task = "look" // at health
	heal    task = "heal"
)

// step is a task for one assignment.
type step struct {
	Task       task
	Assignment *cells.Assignment
	At         time.Time // rest: when to decide again; zero: on the next event
}

// firstLook and slowLook bound the pauses between looks at health while it is waited for.
const (
	firstLook = 10 * time.Millisecond
	slowLook  = time.Second
)

// step says what to do now.
func (s *state) step(now time.Time) step {
	do := s.due(now)
	if do.Task == rest && !s.waitsFor.IsZero() && (do.At.IsZero() || s.waitsFor.Before(do.At)) {
		do.At = s.waitsFor
	}
	return do
}

func (s *state) due(now time.Time) step {
	a := s.Attempt
	if a == nil {
		if s.LastGood == nil || s.Dirty {
			return step{Task: rest}
		}
		return s.watch(s.LastGood, now)
	}
	if now.Before(s.retryAt) {
		return s.meanwhile(now)
	}
	switch a.Phase {
	case phaseTaken:
		return step{Task: prepare, Assignment: &a.Assignment}
	case phaseBegun:
		return step{Task: apply, Assignment: &a.Assignment}
	case phaseApplied:
		return s.watch(&a.Assignment, now)
	case phaseStuck:
		if a.Applied {
			return s.watch(&a.Assignment, now)
		}
	}
	return step{Task: rest}
}

// meanwhile is what to do until the attempt's step is tried again: what runs is looked after.
func (s *state) meanwhile(now time.Time) step {
	if s.LastGood != nil && !s.Dirty {
		if w := s.watch(s.LastGood, now); w.Task != rest || w.At.Before(s.retryAt) {
			return w
		}
	}
	return step{Task: rest, At: s.retryAt}
}

// watch heals and looks at health, each when it is due. What is not known to work yet is looked at, not healed;
// but a new process first makes sure of what is there.
func (s *state) watch(a *cells.Assignment, now time.Time) step {
	healable := !s.compared || s.held || s.Attempt == nil || !s.Attempt.Applied
	switch {
	case healable && !now.Before(s.healAt):
		return step{Task: heal, Assignment: a}
	case !now.Before(s.healthAt):
		return step{Task: look, Assignment: a}
	case healable && s.healAt.Before(s.healthAt):
		return step{Task: rest, At: s.healAt}
	default:
		return step{Task: rest, At: s.healthAt}
	}
}

// offered takes the control plane's word. A newer assignment is accepted, journalled, and
// begins once the control plane has confirmed that it knows (R14). What the owner's decisions are against is not
// accepted: the offer lapses, and counts against nobody (R18).
func (s *state) offered(a *cells.Assignment, now time.Time) {
	s.desired = a
	s.waits, s.waitsFor = "", time.Time{}
	if a == nil || key(a) == key(s.Accepted) || s.failed(a) {
		return
	}
	if why := s.objection(a); why != "" {
		if s.refused != key(a) {
			s.refused = key(a)
			s.note("refused", a, why)
		}
		return
	}
	if !s.allowed(a, now) {
		return
	}
	s.Accepted, s.Offer = a, a
	if s.Attempt != nil && key(&s.Attempt.Assignment) == key(a) {
		s.Offer = nil // it is on its way: the offer between was withdrawn
	}
}

// objection says why an assignment is not accepted (R2).
func (s *state) objection(a *cells.Assignment) string {
	if a.Digest == "" || a.Release == "" {
		return "it names no release and digest"
	}
	old := s.Accepted
	switch {
	case old == nil || cells.Newer(*a, *old):
		return ""
	case cells.Newer(*old, *a):
		return fmt.Sprintf("it is older (epoch %d, sequence %d) than what was accepted before (epoch %d, sequence %d)",
			a.Epoch, a.Sequence, old.Epoch, old.Sequence)
	case cells.Conflict(*a, *old):
		return fmt.Sprintf("alarm: epoch %d, sequence %d is %s already, and now names %s", a.Epoch, a.Sequence, old.Digest, a.Digest)
	}
	return "" // the same head with other values or another profile (R13)
}

// confirmed: the control plane knows that the assignment with this key was accepted, so it may begin.
func (s *state) confirmed(k string, now time.Time) {
	s.known = k
	s.begin(now)
}

// begin begins what was accepted and confirmed, if the owner's decisions let it.
func (s *state) begin(now time.Time) {
	o := s.Offer
	if o == nil || key(o) != s.known || key(s.desired) != s.known || !s.allowed(o, now) {
		return
	}
	s.Offer = nil
	s.generation++
	if old := s.Attempt; old != nil && !old.Back {
		s.note("superseded", &old.Assignment, "by "+o.Release)
	}
	s.message, s.retries, s.retryAt = "", 0, time.Time{}
	s.note("started", o, "")
	if s.LastGood != nil && !s.Dirty && s.Attempt == nil && s.LastGood.SameContent(*o) {
		s.Attempt, s.LastGood = nil, o // nothing to change: another head for what runs
		s.note("applied", o, "nothing to change")
		return
	}
	s.Attempt = &attempt{Assignment: *o, Phase: phaseTaken}
	s.forgetHealth()
}

// stepDone: the step at hand is through, however often it was tried.
func (s *state) stepDone() {
	if s.retries > 0 {
		s.message, s.retries, s.retryAt = "", 0, time.Time{}
	}
}

// forgetHealth forgets health: something else is going to run.
func (s *state) forgetHealth() {
	s.health, s.healthySince, s.ailing, s.held, s.unhealed, s.missing = unknown, time.Time{}, "", false, "", ""
	s.healthAt, s.quick, s.deadline = time.Time{}, 0, time.Time{}
}

// prepared: all that the attempt needs is on disk, or can't be had for good (err).
func (s *state) prepared(err error, now time.Time) {
	a := *s.Attempt
	if err != nil {
		s.fail(err.Error(), now)
		return
	}
	s.stepDone()
	if s.withdraw(now) {
		return
	}
	a.Phase = phaseBegun
	s.Attempt, s.Dirty = &a, true
	s.narrow(a.Features)
	if a.Assignment.Forward && (s.LastGood == nil || s.LastGood.Digest != a.Assignment.Digest) {
		s.NoReturn = true
	}
}

// applied: the target has taken the attempt, or refused it (err).
func (s *state) applied(err error, now time.Time) {
	a := *s.Attempt
	switch {
	case err != nil && a.Back:
		s.retry("cannot go back to "+a.Assignment.Release+" yet: "+err.Error(), now, backoff.Exponential(firstPause, retryCap, s.retries))
		return
	case err != nil:
		s.fail(err.Error(), now)
		return
	}
	s.stepDone()
	s.forgetHealth()
	s.compared = true
	s.healAt = now.Add(s.policy.HealInterval)
	if a.Back {
		s.Attempt, s.Dirty = nil, false
		s.note("rolled-back", &a.Assignment, "")
		return
	}
	a.Phase, a.Applied = phaseApplied, true
	s.Attempt = &a
	s.note("applied", &a.Assignment, "")
}

// looked: health holds (err nil) or does not.
func (s *state) looked(err error, now time.Time) {
	before := s.health
	switch {
	case err != nil:
		s.health, s.healthySince, s.ailing = fails, time.Time{}, words.Clip(err.Error(), maxReason)
	case s.health != holds:
		s.health, s.healthySince, s.ailing = holds, now, ""
	}
	watched := s.Attempt != nil && s.Attempt.Applied
	switch {
	case before == s.health:
	case s.health == holds:
		s.note("healthy", s.running(), "")
	case s.held || !watched: // while health is waited for, its absence is no news
		s.note("unhealthy", s.running(), s.ailing)
	}
	s.scheduleLook(before, now)
	if watched {
		s.judge(now)
	}
	s.widen()
}

// scheduleLook says when to look again: at once and then ever more slowly while health is waited for.
func (s *state) scheduleLook(before health, now time.Time) {
	slow := min(slowLook, s.policy.HealthInterval)
	if s.health == holds {
		s.quick = 0
		s.healthAt = now.Add(s.policy.HealthInterval)
		if s.Attempt != nil && s.policy.HealthyFor > 0 { // it still has to prove itself
			s.healthAt = now.Add(min(slow, s.policy.HealthyFor))
		}
		return
	}
	if before == holds {
		s.quick = 0
	}
	s.quick = min(max(firstLook, 2*s.quick), slow)
	s.healthAt = now.Add(s.quick)
}

// judge decides an attempt that is being watched: good, still open, or failed.
func (s *state) judge(now time.Time) {
	a := *s.Attempt
	if s.deadline.IsZero() {
		s.deadline = now.Add(s.policy.HealthTimeout)
	}
	switch {
	case s.health == holds:
		s.held = true
		if now.Sub(s.healthySince) >= s.policy.HealthyFor {
			s.succeed()
		}
	case a.Phase == phaseApplied && !now.Before(s.deadline):
		s.fail(fmt.Sprintf("not healthy for %s within %s: %s", s.policy.HealthyFor, s.policy.HealthTimeout, s.ailing), now)
	}
}

// succeed makes the attempt the one to go back to.
func (s *state) succeed() {
	a := s.Attempt.Assignment
	if s.Attempt.Phase == phaseStuck { // it worked in the end
		s.Failures = slices.DeleteFunc(slices.Clone(s.Failures), func(f cells.Failure) bool { return key(&f.Assignment) == key(&a) })
	}
	s.Features = s.Attempt.Features
	s.Attempt, s.LastGood, s.Dirty, s.NoReturn, s.message = nil, &a, false, false, ""
}

// fail remembers that the attempt does not work, and turns back if there is a way (invariant 7).
func (s *state) fail(reason string, now time.Time) {
	a := *s.Attempt
	reason = words.Clip(reason, maxReason)
	valuesOnly := s.LastGood != nil && s.LastGood.SameRelease(a.Assignment) && !s.LastGood.SameContent(a.Assignment)
	s.Failures = append(slices.Clone(s.Failures), cells.Failure{Assignment: a.Assignment, Values: valuesOnly, Reason: reason, At: now})
	s.Failures = s.Failures[max(0, len(s.Failures)-cells.MaxFailures):]
	s.note("failed", &a.Assignment, reason)
	s.retries, s.retryAt = 0, time.Time{}
	s.message = a.Assignment.Release + " failed: " + reason
	switch {
	case a.Phase == phaseTaken && !s.Dirty:
		s.Attempt = nil // the target was never touched
	case s.NoReturn:
		a.Phase = phaseStuck
		s.Attempt = &a
		s.note("stuck", &a.Assignment, "a forward-only release had begun: there is no way back")
	case s.LastGood == nil:
		s.Attempt = nil
	default:
		s.Attempt = &attempt{Assignment: *s.LastGood, Phase: phaseBegun, Back: true, Features: s.Features}
		s.narrow(s.Features)
		s.forgetHealth()
	}
}

// healed: drift was put back, or could not be.
func (s *state) healed(n int, err error, now time.Time) {
	s.compared = true
	s.healAt = now.Add(s.policy.HealInterval)
	if err != nil {
		if s.unhealed == "" {
			s.note("unhealed", s.running(), err.Error())
		}
		s.unhealed = words.Clip(err.Error(), maxReason)
		return
	}
	s.unhealed, s.missing = "", ""
	if n > 0 {
		s.note("healed", s.running(), fmt.Sprintf("%d put back", n))
		s.healthAt = now // see whether it works again
	}
}

// unhealable: what is needed to heal is not at hand. What runs may well be as it should.
func (s *state) unhealable(why string, now time.Time) {
	s.compared = true // as well as it can be
	s.healAt = now.Add(s.policy.HealInterval)
	s.missing = words.Clip(why, maxReason)
}

// retry keeps the step and says why it could not be done yet.
func (s *state) retry(why string, now time.Time, pause time.Duration) {
	s.message = words.Clip(why, maxReason)
	s.retries++
	s.retryAt = now.Add(pause)
}

// running is what the target holds as far as that is known to be complete.
func (s *state) running() *cells.Assignment {
	if s.Attempt != nil && s.Attempt.Applied {
		return &s.Attempt.Assignment
	}
	return s.LastGood
}

func (s *state) note(kind string, a *cells.Assignment, detail string) {
	e := cells.Event{Kind: kind, Detail: words.Clip(detail, maxReason)}
	if a != nil {
		e.Release, e.Digest = a.Release, string(a.Digest)
	}
	s.events = append(s.events, e)
}

// reject tells once that what was fetched for an attempt is not what its digest says.
func (s *state) reject(why error) {
	if s.Attempt != nil && s.refused != s.Attempt.Assignment.Key() {
		s.refused = s.Attempt.Assignment.Key()
		s.note("refused", &s.Attempt.Assignment, why.Error())
	}
}
