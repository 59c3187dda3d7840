package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// state holds all that the agent's decisions depend on: the journal, and what this process has observed. Its methods
// are pure: they take the instant, do no I/O, and add to events what is worth reporting. The loop saves the journal and
// the events before it carries out the step that nextStep returns.
type state struct {
	journal
	policy policy
	events []cells.Event // new events, not yet numbered or stored

	generation     int // grows when the step in flight is no longer wanted
	desired        *cells.Assignment
	confirmedKey   string          // key of the accepted assignment that the control plane knows of
	owner          ownerDecisions  // the owner's last word; if invalid, with the last valid decisions
	waitReason     string          // why the owner's decisions keep desired from beginning; empty: they don't
	waitUntil      time.Time       // when they may no longer do so; zero: the owner must act
	missing        missingValues   // what the owner must still set
	head           releases.Digest // of the channel's head; empty: not received
	restoring      bool            // LastGood comes back before the offer begins: see putOffUnverified
	refusedKey     string          // key of the assignment that was refused last: one alarm each
	problem        string          // what went wrong with the last attempt or its step; empty: nothing
	retries        int             // of the current step
	retrySince     time.Time       // when the step could not be done first; only if retries > 0
	retryAt        time.Time       // the step waits until then; zero: it does not wait
	healthDeadline time.Time       // for what was applied to become healthy

	lookTimes
	health          health
	healthySince    time.Time // zero: not healthy
	healthPause     time.Duration
	targetVerified  bool             // with what it should have, by this process: only then health counts
	wasHealthy      bool             // the attempt was healthy once
	unhealthyReason string           // why health does not hold
	unhealthy       *cells.Unhealthy // the objects that do not work; nil: all do, or the target knows no objects
	healProblem     string
	healBlocked     string   // why healing can't be tried: what it needs is unavailable
	notes           []string // of the target, which keep nothing from working
}

// lookTimes says when to look at the target next.
type lookTimes struct {
	nextHealthCheck, nextHeal time.Time
	healWaits                 string // why nothing is healed for now; empty: it is
}

// holdHealing has healing wait; an empty reason has drift looked for at once (D7).
func (l *lookTimes) holdHealing(why string, now time.Time) {
	if why == "" && l.healWaits != "" {
		l.nextHeal = now
	}
	l.healWaits = why
}

// bringForward takes a change that the target noticed: it is looked at soon, not at the end of an interval.
func (l *lookTimes) bringForward(now time.Time) {
	soon := now.Add(changePause)
	if soon.Before(l.nextHeal) {
		l.nextHeal = soon
	}
	if soon.Before(l.nextHealthCheck) {
		l.nextHealthCheck = soon
	}
}

type health int

const (
	healthUnknown health = iota
	healthGood
	healthBad
)

type policy struct {
	HealthTimeout  time.Duration
	HealthInterval time.Duration
	HealInterval   time.Duration
	HealthyFor     time.Duration
}

type task string

const (
	taskRest        task = "rest"    // nothing to do before At
	taskPrepare     task = "prepare" // fetch, verify, render
	taskApply       task = "apply"
	taskCheckHealth task = "check health"
	taskHeal        task = "heal"
)

type step struct {
	Task       task
	Assignment *cells.Assignment
	Rollback   bool      // for taskApply: see attempt
	Proven     bool      // for taskHeal: health of the assignment held for long enough
	At         time.Time // for taskRest: when to decide again; zero: on the next event
}

// changePause is the time between a change that the target noticed and a look at it: changes come in numbers.
const changePause = 200 * time.Millisecond

// minHealthPause and maxHealthPause bound the pauses between health checks until health holds.
const (
	minHealthPause = 10 * time.Millisecond
	maxHealthPause = time.Second
)

func (s *state) nextStep(now time.Time) step {
	do := s.attemptStep(now)
	if do.Task == taskRest {
		do.At = earlier(earlier(do.At, s.waitUntil), nextMaintenance(s, now))
	}
	return do
}

func (s *state) attemptStep(now time.Time) step {
	a := s.Attempt
	if a == nil {
		if s.LastGood == nil || s.Dirty {
			return step{Task: taskRest}
		}
		return s.watchStep(s.LastGood, now)
	}
	if now.Before(s.retryAt) {
		return s.stepUntil(s.retryAt, now)
	}
	switch a.Phase {
	case phasePreparing:
		return step{Task: taskPrepare, Assignment: &a.Assignment}
	case phasePrepared:
		return s.stepUntil(time.Time{}, now)
	case phaseApplying:
		if !mayApply(s, now) {
			return step{Task: taskRest}
		}
		return step{Task: taskApply, Assignment: &a.Assignment, Rollback: a.Rollback}
	case phaseApplied:
		return s.watchStep(&a.Assignment, now)
	case phaseStuck:
		if a.Applied {
			return s.watchStep(&a.Assignment, now)
		}
	}
	return step{Task: taskRest}
}

// stepUntil returns what to do until the attempt goes on, at an instant or (zero) by an event: the last good assignment
// is watched.
func (s *state) stepUntil(until, now time.Time) step {
	if s.LastGood != nil && !s.Dirty {
		if w := s.watchStep(s.LastGood, now); w.Task != taskRest || until.IsZero() || w.At.Before(until) {
			return w
		}
	}
	return step{Task: taskRest, At: until}
}

// watchStep returns a heal or a health check, whichever is due. An attempt that was not yet healthy is checked, not
// healed; but a new process first compares the target.
func (s *state) watchStep(a *cells.Assignment, now time.Time) step {
	healable := s.healWaits == "" && (!s.targetVerified || s.wasHealthy || s.Attempt == nil || !s.Attempt.Applied)
	switch {
	case healable && !now.Before(s.nextHeal):
		return step{Task: taskHeal, Assignment: a, Proven: s.Attempt == nil}
	case !now.Before(s.nextHealthCheck):
		return step{Task: taskCheckHealth, Assignment: a}
	case healable && s.nextHeal.Before(s.nextHealthCheck):
		return step{Task: taskRest, At: s.nextHeal}
	default:
		return step{Task: taskRest, At: s.nextHealthCheck}
	}
}

// handleOffer takes the control plane's word. A newer assignment is accepted and journalled; it begins once the control
// plane has confirmed that it knows (R14). An assignment that the owner's decisions forbid is not accepted: the offer
// lapses and counts against no release (R18).
func (s *state) handleOffer(a *cells.Assignment, now time.Time) {
	s.desired = a
	s.waitReason, s.waitUntil = "", time.Time{}
	if a == nil || assignmentKey(a) == assignmentKey(s.Accepted) || s.hasFailed(a) {
		return
	}
	if why := s.rejectionReason(a); why != "" {
		if s.refusedKey != assignmentKey(a) {
			s.refusedKey = assignmentKey(a)
			s.recordEvent("refused", a, why)
		}
		return
	}
	if !s.ownerAllows(a, now) {
		return
	}
	s.Accepted, s.Offer = a, a
	if s.Attempt != nil && assignmentKey(&s.Attempt.Assignment) == assignmentKey(a) {
		s.Offer = nil // it is in progress already: the offer in between was withdrawn
	}
}

// rejectionReason returns why an assignment is not accepted (R2), or "".
func (s *state) rejectionReason(a *cells.Assignment) string {
	if a.Digest == "" || a.Release == "" {
		return "it names no release or no digest"
	}
	old, known := s.Accepted, cells.Assignment{}
	if old != nil {
		known = *old
	} else if s.Order != nil {
		known.Epoch, known.Sequence = s.Order.Epoch, s.Order.Sequence
	}
	switch {
	case cells.LeadsTooFar(*a, known):
		return fmt.Sprintf("epoch %d, sequence %d is more than %d ahead of what the cell knows (epoch %d, sequence %d): "+
			"the vendor looks at the control plane; a new token starts the order anew", a.Epoch, a.Sequence,
			int64(cells.MaxLead), known.Epoch, known.Sequence)
	case old == nil || cells.Newer(*a, *old):
		return ""
	case cells.Newer(*old, *a):
		return fmt.Sprintf("it is older (epoch %d, sequence %d) than what was accepted before (epoch %d, sequence %d)",
			a.Epoch, a.Sequence, old.Epoch, old.Sequence)
	case cells.Conflicts(*a, *old):
		return fmt.Sprintf("alarm: epoch %d, sequence %d named digest %s before, and now names %s", a.Epoch, a.Sequence,
			old.Digest, a.Digest)
	}
	return "" // the same head with other values or another profile (R13)
}

// handleRegistration takes the order in which the cell was registered. Another token than before starts the order of
// assignments anew: what a control plane that was taken over made the cell accept does not outlast it (R27, R29).
func (s *state) handleRegistration(o plane.Order) {
	if s.Order != nil && s.Order.Token == o.Token {
		return
	}
	s.Order, s.Accepted, s.Offer, s.refusedKey = &o, nil, nil, ""
}

// handleConfirmation records that the control plane knows of the accepted assignment with this key, which may now
// begin.
func (s *state) handleConfirmation(k string, now time.Time) {
	s.confirmedKey = k
	s.beginOffer(now)
}

// beginOffer begins the offer if it is confirmed and the owner's decisions allow it.
func (s *state) beginOffer(now time.Time) {
	o := s.Offer
	if o == nil || assignmentKey(o) != s.confirmedKey || assignmentKey(s.desired) != s.confirmedKey ||
		!s.ownerAllows(o, now) || s.restoring && s.retries == 0 {
		return
	}
	s.Offer, s.restoring = nil, false
	if s.takeOver(o) {
		return
	}
	s.generation++
	if old := s.Attempt; old != nil && !old.Rollback {
		s.recordEvent("superseded", &old.Assignment, "by "+o.Release)
	}
	s.problem, s.retries, s.retryAt = "", 0, time.Time{}
	s.recordEvent("started", o, "")
	if s.LastGood != nil && !s.Dirty && s.Attempt == nil && s.LastGood.SameContent(*o) {
		s.Attempt, s.LastGood = nil, o // nothing to change: another head for what runs
		s.recordEvent("applied", o, "nothing to change")
		return
	}
	s.Attempt = &attempt{Assignment: *o, Phase: phasePreparing}
	s.resetHealth()
}

// takeOver goes on with the attempt under way under the name of o, if o has the same content, and reports whether it
// does. What the target is doing is not restarted: only the head or the epoch is another.
func (s *state) takeOver(o *cells.Assignment) bool {
	a := s.Attempt
	if a == nil || a.Phase == phaseStuck || !a.Assignment.SameContent(*o) || a.Assignment.ForwardOnly != o.ForwardOnly {
		return false
	}
	goesOn := *a
	goesOn.Assignment, goesOn.Rollback = *o, false
	s.Attempt = &goesOn
	s.recordEvent("started", o, "the same content was under way already, and goes on")
	return true
}

// clearRetries ends the retries of the current step, which succeeded.
func (s *state) clearRetries() {
	if s.retries > 0 {
		s.problem, s.retries, s.retryAt = "", 0, time.Time{}
	}
}

// resetHealth forgets health: something else is going to run.
func (s *state) resetHealth() {
	s.health, s.healthySince, s.unhealthyReason, s.wasHealthy = healthUnknown, time.Time{}, "", false
	s.unhealthy = nil
	s.healProblem, s.healBlocked = "", ""
	s.nextHealthCheck, s.healthPause, s.healthDeadline = time.Time{}, 0, time.Time{}
}

// handlePrepared records that all that the attempt needs is on disk, or fails the attempt with err.
func (s *state) handlePrepared(err error, now time.Time) {
	a := *s.Attempt
	if err != nil {
		s.failAttempt(err.Error(), cells.CauseOf(err), now)
		return
	}
	s.clearRetries()
	if s.withdrawAttempt(now) {
		return
	}
	a.Phase = phasePrepared
	s.Attempt = &a
	if mayApply(s, now) {
		startApplying(s)
	}
}

// handleApplied records that the target has taken the attempt, or fails the attempt with err.
func (s *state) handleApplied(err error, now time.Time) {
	a := *s.Attempt
	switch {
	case err != nil && a.Rollback:
		s.scheduleRetry("can't roll back to "+a.Assignment.Release+" yet: "+err.Error(), now,
			backoff.Exponential(minRetryPause, maxRetryPause, s.retries))
		return
	case err != nil:
		s.failAttempt(err.Error(), cells.CauseOf(err), now)
		return
	}
	s.clearRetries()
	s.resetHealth()
	s.targetVerified = true
	s.nextHeal = now.Add(s.policy.HealInterval)
	if a.Rollback {
		s.Attempt, s.Dirty = nil, false
		s.recordEvent("rolled-back", &a.Assignment, "")
		s.restoring = false
		s.beginOffer(now)
		return
	}
	a.Phase, a.Applied = phaseApplied, true
	s.Attempt = &a
	s.recordEvent("applied", &a.Assignment, "")
}

// handleHealth records a health check, with err nil if health holds.
func (s *state) handleHealth(err error, now time.Time) {
	before := s.health
	s.unhealthy = nil
	if u, ok := errors.AsType[*cells.Unhealthy](err); ok && len(u.Objects) > 0 {
		s.unhealthy = u
	}
	switch {
	case err != nil:
		s.health, s.healthySince, s.unhealthyReason = healthBad, time.Time{}, words.Clip(err.Error(), maxReason)
	case s.health != healthGood:
		s.health, s.healthySince, s.unhealthyReason = healthGood, now, ""
	}
	watched := s.Attempt != nil && s.Attempt.Applied
	switch {
	case before == s.health:
	case s.health == healthGood:
		s.recordEvent("healthy", s.runningAssignment(), "")
	case s.wasHealthy || !watched: // until it was healthy once, ill health is no news
		s.recordEvent("unhealthy", s.runningAssignment(), s.unhealthyReason)
	}
	s.scheduleHealthCheck(before, now)
	if watched {
		s.judgeAttempt(now)
	}
	s.widenContained()
}

// scheduleHealthCheck sets when to check again. Until health holds, checks come quickly at first and then ever more
// slowly.
func (s *state) scheduleHealthCheck(before health, now time.Time) {
	slow := min(maxHealthPause, s.policy.HealthInterval)
	if s.health == healthGood {
		s.healthPause = 0
		s.nextHealthCheck = now.Add(s.policy.HealthInterval)
		if s.Attempt != nil && s.policy.HealthyFor > 0 { // HealthyFor is not over
			s.nextHealthCheck = now.Add(min(slow, s.policy.HealthyFor))
		}
		return
	}
	if before == healthGood {
		s.healthPause = 0
	}
	s.healthPause = min(max(minHealthPause, 2*s.healthPause), slow)
	s.nextHealthCheck = now.Add(s.healthPause)
}

// judgeAttempt decides about an attempt whose health is watched: good, still open, or failed.
func (s *state) judgeAttempt(now time.Time) {
	a := *s.Attempt
	if s.healthDeadline.IsZero() {
		s.healthDeadline = now.Add(s.policy.HealthTimeout)
	}
	switch {
	case s.health == healthGood:
		s.wasHealthy = true
		if now.Sub(s.healthySince) >= s.policy.HealthyFor {
			s.completeAttempt()
		}
	case a.Phase == phaseApplied && !now.Before(s.healthDeadline):
		s.failAttempt(fmt.Sprintf("not healthy for %s within %s: %s", s.policy.HealthyFor, s.policy.HealthTimeout,
			s.unhealthyReason), cells.CauseRelease, now)
	}
}

func (s *state) completeAttempt() {
	a := s.Attempt.Assignment
	// If it failed before under this head, it recovered, or was tried again with success.
	s.Failures = slices.DeleteFunc(slices.Clone(s.Failures), func(f cells.Failure) bool {
		return f.Assignment.Channel == a.Channel && f.Assignment.Sequence == a.Sequence && f.Assignment.SameContent(a)
	})
	s.nextHeal = time.Time{} // it removes what earlier releases left
	s.Features, s.Contents = s.Attempt.Features, s.Attempt.Contents
	s.Attempt, s.LastGood, s.Dirty, s.NoReturn, s.problem = nil, &a, false, false, ""
}

// failAttempt remembers that the attempt does not work, and begins the rollback if there is one (invariant 7).
func (s *state) failAttempt(reason string, cause cells.Cause, now time.Time) {
	a := *s.Attempt
	reason = words.Clip(reason, maxReason)
	valuesOnly := s.LastGood != nil && s.LastGood.SameRelease(a.Assignment) && !s.LastGood.SameContent(a.Assignment)
	s.Failures = append(slices.Clone(s.Failures),
		cells.Failure{Assignment: a.Assignment, Values: valuesOnly, Cause: cause, Reason: reason, At: now})
	s.Failures = s.Failures[max(0, len(s.Failures)-cells.MaxFailures):]
	s.recordEvent("failed", &a.Assignment, reason)
	s.retries, s.retryAt = 0, time.Time{}
	s.problem = a.Assignment.Release + " failed: " + reason
	switch {
	case a.isUntouched() && !s.Dirty:
		s.Attempt = nil // the target was never touched
	case s.NoReturn:
		a.Phase = phaseStuck
		s.Attempt = &a
		s.recordEvent("stuck", &a.Assignment,
			"a forward-only release had begun, so rollback is not possible: promote a newer release that repairs it")
	case s.LastGood == nil:
		s.Attempt = nil
	default:
		rollBack(s)
	}
}

// rollBack begins the rollback to what was good last.
func rollBack(s *state) {
	s.Attempt = &attempt{Assignment: *s.LastGood, Phase: phaseApplying, Rollback: true, Features: s.Features,
		Contents: s.Contents}
	s.narrowContained(s.Features)
	s.resetHealth()
}

// handleHealed records a heal of n objects, or why it failed.
func (s *state) handleHealed(n int, err error, now time.Time) {
	s.targetVerified = true
	s.nextHeal = now.Add(s.policy.HealInterval)
	blocked := ""
	if recurring := new(cells.RecurringDriftError); errors.As(err, &recurring) {
		blocked, err = words.Clip(recurring.Reason, maxReason), nil
		if s.healBlocked != blocked {
			s.recordEvent("unhealed", s.runningAssignment(), blocked)
		}
	}
	if err != nil {
		if s.healProblem == "" {
			s.recordEvent("unhealed", s.runningAssignment(), err.Error())
		}
		s.healProblem = words.Clip(err.Error(), maxReason)
		return
	}
	s.healProblem, s.healBlocked = "", blocked
	if n > 0 {
		s.recordEvent("healed", s.runningAssignment(), words.Count(n, "object")+" restored")
		s.nextHealthCheck = now // the heal may have changed it
	}
}

// handleHealUnavailable records that a heal could not be tried. What runs may well be intact.
func (s *state) handleHealUnavailable(why string, now time.Time) {
	s.targetVerified = true // as far as possible
	s.nextHeal = now.Add(s.policy.HealInterval)
	s.healBlocked = words.Clip(why, maxReason)
}

// handleHealthUnavailable records that health could not be checked, which says nothing of what runs.
func (s *state) handleHealthUnavailable(why string, now time.Time) {
	s.nextHealthCheck = now.Add(min(maxHealthPause, s.policy.HealthInterval))
	s.healBlocked = words.Clip(why, maxReason)
}

// scheduleRetry keeps the step for another try and says why.
func (s *state) scheduleRetry(why string, now time.Time, pause time.Duration) {
	if s.retries == 0 {
		s.retrySince = now
		if s.Attempt != nil {
			s.recordEvent("waiting", &s.Attempt.Assignment, why)
		}
	}
	s.problem = words.Clip("waiting since "+words.FormatTime(s.retrySince)+": "+why, maxReason)
	s.retries++
	s.retryAt = now.Add(pause)
}

// runningAssignment returns what the target completely holds, as far as known.
func (s *state) runningAssignment() *cells.Assignment {
	if s.Attempt != nil && s.Attempt.Applied {
		return &s.Attempt.Assignment
	}
	return s.LastGood
}

func (s *state) recordEvent(kind string, a *cells.Assignment, detail string) {
	e := cells.Event{Kind: kind, Detail: words.Clip(detail, maxReason)}
	if a != nil {
		e.Release, e.Digest = a.Release, string(a.Digest)
	}
	s.events = append(s.events, e)
}

// recordRejection notes, once for each attempt, that the fetched bytes do not match their digest.
func (s *state) recordRejection(why error) {
	if s.Attempt != nil && s.refusedKey != s.Attempt.Assignment.Key() {
		s.refusedKey = s.Attempt.Assignment.Key()
		s.recordEvent("refused", &s.Attempt.Assignment, why.Error())
	}
}
