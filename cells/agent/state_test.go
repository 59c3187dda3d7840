package agent

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/releases"
)

// world drives the pure state as the loop does, with outcomes that rapid draws.
type world struct {
	state
	now          time.Time
	touched      bool            // a target was written that may not hold the last good assignment
	began        map[string]bool // forward-only assignments that began since anything was good
	failed       map[string]bool
	healthSeen   bool            // health was seen to hold, for what runs now, in this process
	mayRun       map[string]bool // releases that may be running; "": none
	wholeRelease string          // the release of all of the target; empty: not known
}

// featuresOf returns the features of a release.
func featuresOf(release string) []string {
	return map[string][]string{"1.0.0": {"a", "b"}, "1.1.0": {"b", "c"}, "2.0.0": {"c", "d"}}[release]
}

// contentsOf returns the components of a release: the server of 2.0.0 is another.
func contentsOf(release string) *contents {
	server := map[string]string{"1.0.0": "a", "1.1.0": "a", "2.0.0": "b"}[release]
	return &contents{Components: []releases.Component{{Name: "server", Image: server, Maintenance: true},
		{Name: "web", Image: release}}}
}

// checkMaintenance checks, before a release is written, that a change of a marked component of whatever may be running
// meets no operation.
func (w *world) checkMaintenance(t *rapid.T, coming string) {
	for release := range w.mayRun {
		if release != "" && (release == "2.0.0") != (coming == "2.0.0") && !w.Upkeep.Record.Holds(w.now) {
			t.Fatalf("%s is written over %s, and operations are not refused: %+v", coming, release, w.Upkeep.Record)
		}
	}
}

// checkContained checks that each contained feature is in every release that may be running (R38).
func (w *world) checkContained(t *rapid.T, when string) {
	for release := range w.mayRun {
		for _, f := range w.Contained {
			if !slices.Contains(featuresOf(release), f) {
				t.Fatalf("%s: %s counts as contained, and %q may be running", when, f, release)
			}
		}
	}
}

var errBad = errors.New("bad")

func assignment(t *rapid.T) cells.Assignment {
	release := rapid.SampledFrom([]string{"1.0.0", "1.1.0", "2.0.0"}).Draw(t, "release")
	a := cells.Assignment{
		Channel: "staging", Epoch: rapid.Int64Range(1, 2).Draw(t, "epoch"),
		Sequence: rapid.Int64Range(1, 6).Draw(t, "sequence"),
		Release:  release, Digest: releases.DigestBytes([]byte(release)), ForwardOnly: release == "2.0.0",
	}
	if rapid.Bool().Draw(t, "valued") {
		a.Values = map[string]any{"x": rapid.IntRange(1, 2).Draw(t, "x")}
	}
	a.Retry = rapid.SampledFrom(retries).Draw(t, "retry")
	return a
}

var retries = []string{"", "", "2026-11-23T10:00:00Z"}

// runEvent carries out one event: the control plane's, a crash, or the state's next step.
func (w *world) runEvent(t *rapid.T) {
	before, attempted, dirty := w.Accepted, w.Attempt, w.Dirty
	kind := rapid.SampledFrom([]string{"offer", "owner", "confirm", "confirm", "crash", "later", "retry", "do", "do",
		"do", "do"}).Draw(t, "event")
	switch kind {
	case "offer":
		a := assignment(t)
		w.handleOffer(&a, w.now)
	case "confirm":
		if w.Offer != nil {
			generation := w.generation
			w.handleConfirmation(w.Offer.Key(), w.now)
			w.healthSeen = w.healthSeen && (w.Attempt == nil || w.generation == generation)
		}
	case "crash":
		word := w.owner
		w.state = state{journal: w.journal, policy: w.policy}
		w.Upkeep.Record = w.Upkeep.Record.Restore(w.Upkeep.Policy, w.now)
		w.healthSeen = false
		w.handleOwnerDecisions(word, w.now)
	case "owner":
		w.handleOwnerDecisions(rapid.SampledFrom([]ownerDecisions{
			{}, {}, {decisions: &cells.Owner{Paused: "why"}}, {invalid: "line 3"},
			{decisions: &cells.Owner{Pin: "1.0.0"}},
		}).Draw(t, "word"), w.now)
	case "retry":
		if w.desired != nil && retryFailed(&w.state) && !w.hasFailed(w.desired) {
			delete(w.failed, w.desired.Key())
		}
	case "later":
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds")) * time.Second)
	case "do":
		w.runStep(t)
	}
	maintain(&w.state, maintenance.Busy{Quiet: rapid.Bool().Draw(t, "quiet")}, false, w.now)
	w.events = nil
	w.checkContained(t, kind)
	w.checkOwnerObeyed(t, kind, attempted, dirty)
	if before != nil && cells.Newer(*before, *w.Accepted) {
		t.Fatalf("%s: accepted went back from %v to %v (R2)", kind, before, w.Accepted)
	}
	if before != nil && cells.Conflicts(*before, *w.Accepted) {
		t.Fatalf("%s: one number, two digests: %v and %v (R2)", kind, before, w.Accepted)
	}
	if r := w.buildReport(); r.State == cells.StateHealthy && !w.healthSeen {
		t.Fatalf("%s: reported healthy before health was seen (fault 34): %+v", kind, r)
	}
}

// checkOwnerObeyed checks that nothing begins against the owner except the rollback and attempts that had touched the
// target (R18).
func (w *world) checkOwnerObeyed(t *rapid.T, kind string, before *attempt, dirty bool) {
	a := w.Attempt
	if a == nil || a.Rollback || a.Phase == phaseStuck {
		return
	}
	if w.owner.invalid == "" {
		if w.owner.decisions.Judge(a.Assignment, w.now).OK {
			return
		}
	}
	began := before == nil || before.Rollback || assignmentKey(&before.Assignment) != assignmentKey(&a.Assignment)
	wrote := !began && before.Phase == phasePreparing && a.Phase != phasePreparing && !dirty
	if began || wrote || a.Phase == phasePreparing && !dirty {
		t.Fatalf("%s: %s is begun against the owner: %+v", kind, a.Assignment.Release, w.owner)
	}
}

func (w *world) runStep(t *rapid.T) {
	var err error
	if rapid.IntRange(0, 2).Draw(t, "outcome") == 0 {
		err = errBad
	}
	s := w.nextStep(w.now)
	if s.Task != taskRest && s.Task != taskCheckHealth {
		w.recordFeatures(s.Assignment, featuresOf(s.Assignment.Release))
		recordContents(&w.state, s.Assignment, contentsOf(s.Assignment.Release))
	}
	switch s.Task {
	case taskRest:
		if !s.At.IsZero() {
			w.now = s.At
		}
	case taskPrepare:
		if w.failed[s.Assignment.Key()] {
			t.Fatalf("%v failed before and is tried again (R21)", s.Assignment)
		}
		if rapid.Bool().Draw(t, "unavailable") {
			w.scheduleRetry("not now", w.now, time.Second)
			return
		}
		if rapid.IntRange(0, 3).Draw(t, "unverified") == 0 && w.putOff(t) {
			return
		}
		w.handlePrepared(err, w.now)
		w.noteFailure(err, s.Assignment)
	case taskApply:
		back := w.Attempt.Rollback
		if !back && rapid.IntRange(0, 5).Draw(t, "unverified") == 0 && w.putOff(t) {
			return
		}
		if back && len(w.began) > 0 {
			t.Fatalf("goes back to %v across a forward-only release (R20)", s.Assignment)
		}
		w.touched, w.healthSeen, w.wholeRelease = true, false, ""
		w.checkMaintenance(t, s.Assignment.Release)
		w.mayRun[s.Assignment.Release] = true
		w.checkContained(t, "before the first write")
		if s.Assignment.ForwardOnly && !back && (w.LastGood == nil || !w.LastGood.SameRelease(*s.Assignment)) {
			w.began[s.Assignment.Key()] = true
		}
		w.handleApplied(err, w.now)
		if err == nil {
			w.wholeRelease = s.Assignment.Release
		}
		if back && err == nil {
			w.touched = false
		}
		if !back {
			w.noteFailure(err, s.Assignment)
		}
	case taskCheckHealth:
		if err == nil && w.wholeRelease != "" {
			w.mayRun = map[string]bool{w.wholeRelease: true}
		}
		w.handleHealth(err, w.now)
		w.healthSeen = err == nil
		if w.Attempt == nil && w.touched && err == nil {
			w.touched, w.began = false, map[string]bool{} // the attempt is good
		}
		if w.LastGood != nil && w.Attempt == nil {
			for _, retry := range retries { // a stuck attempt recovered, or another try worked
				a := *w.LastGood
				a.Retry = retry
				delete(w.failed, a.Key())
			}
		}
		for _, f := range w.Failures {
			w.failed[f.Assignment.Key()] = true
		}
	case taskHeal:
		if w.touched && (w.Attempt == nil || !w.Attempt.Applied) {
			t.Fatalf("heals %v while the target holds something else", s.Assignment)
		}
		w.handleHealed(rapid.IntRange(0, 2).Draw(t, "mended"), err, w.now)
	}
}

// putOff puts off what can't be verified, if that is how the cell can be whole again.
func (w *world) putOff(t *rapid.T) bool {
	before := w.retries
	w.retries = verifyTries
	if !putOffUnverified(&w.state, "not signed") {
		w.retries = before
		return false
	}
	if a := w.Attempt; !a.Rollback || !a.Assignment.SameContent(*w.LastGood) || w.NoReturn {
		t.Fatalf("put off, and under way is %+v", a)
	}
	return true
}

func (w *world) noteFailure(err error, a *cells.Assignment) {
	if err != nil {
		w.failed[a.Key()] = true
	}
}

// The state's invariants hold in any order of events and crashes.
func TestStateKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{now: time.Unix(1_800_000_000, 0), began: map[string]bool{}, failed: map[string]bool{},
			mayRun: map[string]bool{"": true}}
		w.policy = policy{HealthTimeout: 20 * time.Second, HealthInterval: 5 * time.Second,
			HealInterval: 10 * time.Second}
		if rapid.Bool().Draw(t, "watch") {
			w.policy.HealthyFor = 4 * time.Second
		}
		for range rapid.IntRange(1, 80).Draw(t, "events") {
			w.runEvent(t)
		}
		// Left alone, with everything working, the state comes to rest: healthy, stuck or failed, or with nothing to
		// do.
		for range 400 {
			maintain(&w.state, maintenance.Busy{Quiet: true}, false, w.now)
			s := w.nextStep(w.now)
			if s.Task != taskRest && s.Task != taskCheckHealth {
				w.recordFeatures(s.Assignment, featuresOf(s.Assignment.Release))
				recordContents(&w.state, s.Assignment, contentsOf(s.Assignment.Release))
			}
			switch s.Task {
			case taskRest:
				if s.At.IsZero() || w.Attempt == nil {
					if w.Dirty && w.LastGood != nil && (w.Attempt == nil || w.Attempt.Phase != phaseStuck) {
						t.Fatalf("rests with the target half done: %+v", w.journal)
					}
					if w.LastGood != nil && w.Attempt == nil &&
						!slices.Equal(w.Contained, featuresOf(w.LastGood.Release)) {
						t.Fatalf("rests, and of what runs not everything counts: %+v", w.journal)
					}
					return
				}
				w.now = s.At
			case taskPrepare:
				w.handlePrepared(nil, w.now)
			case taskApply:
				w.handleApplied(nil, w.now)
			case taskCheckHealth:
				w.handleHealth(nil, w.now)
			case taskHeal:
				w.handleHealed(0, nil, w.now)
			}
		}
		t.Fatalf("no rest: %+v", w.journal)
	})
}

// Until health holds it is checked often at first, so that a switch is reported at once.
func TestFirstLooksAreQuick(t *testing.T) {
	s := state{policy: policy{HealthTimeout: time.Minute, HealthInterval: 10 * time.Second, HealInterval: time.Minute}}
	now := time.Unix(0, 0)
	a := cells.Assignment{Release: "1.0.0", Digest: releases.DigestBytes(nil)}
	s.Attempt = &attempt{Assignment: a, Phase: phaseApplying}
	s.handleApplied(nil, now)
	looks := 0
	for now.Before(time.Unix(1, 0)) {
		next := s.nextStep(now)
		if next.Task == taskCheckHealth {
			looks++
			s.handleHealth(errBad, now)
			continue
		}
		now = next.At
	}
	if looks < 5 {
		t.Errorf("%d looks in the first second", looks)
	}
	s.handleHealth(nil, now)
	if s.Attempt != nil || s.buildReport().State != cells.StateHealthy {
		t.Errorf("good, and told as %+v", s.buildReport())
	}
}

// R20: new values of a forward-only release that is already good can be rolled back.
func TestValuesOfForwardOnlyGoBack(t *testing.T) {
	old := cells.Assignment{Epoch: 1, Sequence: 1, Release: "2.0.0", Digest: releases.DigestBytes(nil),
		ForwardOnly: true}
	other := old
	other.Values = map[string]any{"x": 1}
	s := state{journal: journal{LastGood: &old, Attempt: &attempt{Assignment: other, Phase: phasePreparing}}}
	now := time.Unix(0, 0)
	s.handlePrepared(nil, now)
	s.handleApplied(errBad, now)
	if s.Attempt == nil || !s.Attempt.Rollback || !s.Failures[0].Values {
		t.Errorf("attempt %+v, failures %+v", s.Attempt, s.Failures)
	}
}

// A stuck release that becomes healthy, after a long migration say, is good after all.
func TestStuckRecovers(t *testing.T) {
	a := cells.Assignment{Epoch: 1, Sequence: 1, Release: "2.0.0", Digest: releases.DigestBytes(nil), ForwardOnly: true}
	s := state{journal: journal{Attempt: &attempt{Assignment: a, Phase: phasePreparing}},
		policy: policy{HealthTimeout: time.Second, HealthInterval: time.Second, HealInterval: time.Second}}
	now := time.Unix(0, 0)
	s.handlePrepared(nil, now)
	s.handleApplied(nil, now)
	s.handleHealth(errBad, now)
	s.handleHealth(errBad, now.Add(2*time.Second))
	if r := s.buildReport(); r.State != cells.StateStuck || len(r.Failures) != 1 {
		t.Fatalf("told as %+v", r)
	}
	s.handleHealth(nil, now.Add(10*time.Second))
	if r := s.buildReport(); r.State != cells.StateHealthy || len(r.Failures) != 0 || s.LastGood == nil {
		t.Errorf("told as %+v", r)
	}
}

// What earlier releases left is removed only once a release was good for long enough: the heals before that, and those
// of an attempt whose process was restarted, say that it is not proven.
func TestOnlyAGoodReleaseIsProven(t *testing.T) {
	now := time.Now()
	s := state{policy: policy{HealthTimeout: time.Minute, HealInterval: time.Hour, HealthyFor: time.Minute}}
	good := cells.Assignment{Release: "1.0.0", Digest: "sha256:1", Sequence: 1}
	s.Attempt = &attempt{Assignment: good, Phase: phaseApplied, Applied: true}
	if do := s.nextStep(now); do.Task != taskHeal || do.Proven {
		t.Errorf("a new process: %+v", do)
	}
	s.handleHealed(0, nil, now)
	s.handleHealth(nil, now)
	s.handleHealth(nil, now.Add(time.Minute))
	if do := s.nextStep(now.Add(time.Minute)); do.Task != taskHeal || !do.Proven {
		t.Errorf("once it was good: %+v", do)
	}
	s.handleHealed(0, nil, now)
	next := cells.Assignment{Release: "1.1.0", Digest: "sha256:2", Sequence: 2}
	s.Attempt = &attempt{Assignment: next, Phase: phaseApplying}
	if do := s.nextStep(now); do.Task != taskApply || do.Rollback {
		t.Errorf("an apply: %+v", do)
	}
	s.failAttempt("bad", cells.CauseRelease, now)
	if do := s.nextStep(now); do.Task != taskApply || !do.Rollback || do.Assignment.Release != "1.0.0" {
		t.Errorf("a rollback: %+v", do)
	}
}

// A change that the target noticed is looked at at once, but a target that changes all the time does not keep the agent
// busy.
func TestTargetChangeIsLookedAtSoon(t *testing.T) {
	start := time.Now()
	s := state{policy: policy{HealInterval: time.Hour, HealthInterval: time.Hour}, targetVerified: true}
	s.LastGood = &cells.Assignment{Release: "1.0.0", Digest: "sha256:1"}
	s.handleHealed(0, nil, start)
	s.handleHealth(nil, start)
	if do := s.nextStep(start.Add(time.Minute)); do.Task != taskRest {
		t.Fatalf("at rest: %+v", do)
	}
	heals := 0
	for ms := range 10_000 {
		now := start.Add(time.Minute + time.Duration(ms)*time.Millisecond)
		s.bringForward(now)
		switch s.nextStep(now).Task {
		case taskHeal:
			heals++
			s.handleHealed(0, nil, now)
		case taskCheckHealth:
			s.handleHealth(nil, now)
		}
	}
	if heals < 40 || heals > 50 {
		t.Errorf("%d heals in ten seconds of changes", heals)
	}
}
