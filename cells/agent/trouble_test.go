package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/releases"
)

// R49: an attempt that the machine refuses waits and is tried again; what it waits for, and since when, is reported.
func TestR49TroubleOfTheMachineIsWaitedFor(t *testing.T) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	a := cells.Assignment{Release: "1.0.0", Digest: "sha256:a", Epoch: 1, Sequence: 1}
	l := &loop{agent: &Agent{client: &plane.Client{}}}
	l.state.Attempt = &attempt{Assignment: a, Phase: phaseApplying}
	trouble := stepResult{err: &cells.UnavailableError{Cause: errors.New("no space left on device")}}
	apply := step{Task: taskApply, Assignment: &a}
	for range 3 {
		l.foldResult(apply, trouble, now)
		now = now.Add(time.Hour)
	}
	r := l.state.buildReport()
	if len(r.Failures) > 0 || r.State != cells.StateApplying ||
		!strings.Contains(r.Message, "waiting since 2026-11-03T10:00") ||
		!strings.Contains(r.Message, "no space left") {
		t.Errorf("reported as %+v", r)
	}
	if n := len(l.state.events); n != 1 || l.state.events[0].Kind != "waiting" {
		t.Errorf("told %d times: %+v", n, l.state.events)
	}
	l.foldResult(apply, stepResult{}, now)
	if m := l.state.buildReport().Message; m != "" || l.state.Attempt.Phase != phaseApplied {
		t.Errorf("once it works: %q, %+v", m, l.state.Attempt)
	}
	l.foldResult(step{Task: taskCheckHealth, Assignment: &a}, trouble, now)
	if l.state.health == healthBad {
		t.Error("a check that could not be made counts as ill health")
	}
}

// The same content under another key goes on where it was, also if it was on the way back to it.
func TestSameContentIsNotRestarted(t *testing.T) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	old := cells.Assignment{Release: "1.0.0", Digest: "sha256:a", Sequence: 1}
	renamed, changed := old, old
	renamed.Epoch, changed.Epoch, changed.Values = 1, 1, map[string]any{"x": 1}
	for name, c := range map[string]struct {
		attempt attempt
		offer   cells.Assignment
		goesOn  bool
	}{
		"preparing":     {attempt{Phase: phasePreparing}, renamed, true},
		"in mid-hook":   {attempt{Phase: phaseApplying}, renamed, true},
		"watched":       {attempt{Phase: phaseApplied, Applied: true}, renamed, true},
		"rolling back":  {attempt{Phase: phaseApplying, Rollback: true}, renamed, true},
		"stuck":         {attempt{Phase: phaseStuck}, renamed, false},
		"other content": {attempt{Phase: phaseApplying}, changed, false},
	} {
		s := state{journal: journal{Accepted: &old, Attempt: &c.attempt, Dirty: true}}
		s.Attempt.Assignment = old
		s.handleOffer(&c.offer, now)
		s.handleConfirmation(c.offer.Key(), now)
		if goesOn := s.generation == 0; goesOn != c.goesOn || s.Attempt.Assignment.Epoch != 1 || s.Attempt.Rollback ||
			goesOn && s.Attempt.Phase != c.attempt.Phase || s.Offer != nil {
			t.Errorf("%s: generation %d, %+v", name, s.generation, s.Attempt)
		}
	}
}

// Half an install is something installed: the agent keeps running without its control plane (R30).
func TestHalfAnInstallIsOne(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	p.assign(p.addRelease(t, "1.0.0", 1, brokenRelease("1.0.0")))
	c := start(t, s)
	p.await(t, "failed", func(r cells.Report) bool { return r.State == cells.StateFailed })
	c.stop()
	j, err := readJournal(s.State)
	must(t, err)
	if j.LastGood != nil || j.Attempt != nil || !j.isInstalled() {
		t.Errorf("the journal has %+v", j)
	}
}

// R49: what the owner must still set holds the release, is told as the owner's, and fails nothing.
func TestR49MissingValuesHoldTheRelease(t *testing.T) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	good := cells.Assignment{Release: "1.0.0", Digest: "sha256:a", Sequence: 1}
	next := cells.Assignment{Release: "1.1.0", Digest: "sha256:b", Sequence: 2}
	l := &loop{agent: &Agent{client: &plane.Client{}}}
	l.state.Accepted, l.state.LastGood = &good, &good
	s := &l.state
	s.head = next.Digest
	s.handleOffer(&next, now)
	s.handleConfirmation(next.Key(), now)
	prepare := step{Task: taskPrepare, Assignment: &next}
	l.foldResult(prepare, stepResult{err: &releases.OwnerValuesError{Reason: "license is required"}}, now)
	r := s.buildReport()
	if s.Attempt != nil || len(r.Failures) > 0 || r.Owner == nil || !strings.Contains(r.Owner.Paused, "license") {
		t.Errorf("reported as %+v", r)
	}
	again := next
	again.Epoch = 1
	s.handleOffer(&again, now)
	if s.Accepted.Epoch != 0 || !strings.Contains(s.waitReason, "license is required") {
		t.Errorf("under another key: accepted %+v, waits for %q", s.Accepted, s.waitReason)
	}
	// It does so too where an earlier install failed, and left something behind.
	fresh := &loop{agent: l.agent}
	fresh.state.Dirty = true
	fresh.state.handleOffer(&next, now)
	fresh.state.handleConfirmation(next.Key(), now)
	fresh.foldResult(prepare, stepResult{err: &releases.OwnerValuesError{Reason: "license is required"}}, now)
	if s := &fresh.state; s.Attempt != nil || len(s.Failures) > 0 || !s.Dirty || s.reportedOwner() == nil {
		t.Errorf("after a failed install: %+v, failures %v", s.Attempt, s.Failures)
	}
	other := next
	other.Release, other.Digest, other.Sequence = "1.1.1", "sha256:c", 3
	s.head = other.Digest
	if s.reportedOwner() != nil {
		t.Error("the channel moved on, and the cell is told as paused")
	}
	s.handleOffer(&other, now)
	s.handleConfirmation(other.Key(), now)
	if s.Attempt == nil || s.Attempt.Assignment.Release != "1.1.1" {
		t.Errorf("another release: %+v", s.Attempt)
	}
}
