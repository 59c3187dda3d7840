package agent

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/releases"
)

// upkeepTest is a state that runs 1.0.0, and drives it as the loop does.
type upkeepTest struct {
	state
	t    *testing.T
	now  time.Time
	busy bool
}

func release(version string, sequence int64) *cells.Assignment {
	return &cells.Assignment{Channel: "staging", Epoch: 1, Sequence: sequence, Release: version,
		Digest: releases.DigestBytes([]byte(version))}
}

func newUpkeepTest(t *testing.T) *upkeepTest {
	u := &upkeepTest{t: t, now: time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)}
	u.LastGood, u.Features, u.Contents = release("1.0.0", 1), []string{}, contentsOf("1.0.0")
	u.Accepted = u.LastGood
	u.health, u.targetVerified = healthGood, true
	u.nextHeal, u.nextHealthCheck = u.now.Add(24*time.Hour), u.now.Add(24*time.Hour)
	u.policy = policy{HealthTimeout: time.Minute, HealthInterval: time.Hour, HealInterval: 24 * time.Hour}
	u.Upkeep.Policy = maintenance.Policy{Lead: time.Minute, Drain: 30 * time.Second, Maximum: 10 * time.Minute}
	return u
}

// offer has the control plane offer a release, which is prepared at once.
func (u *upkeepTest) offer(version string, sequence int64) {
	a := release(version, sequence)
	u.handleOffer(a, u.now)
	u.handleConfirmation(a.Key(), u.now)
	recordContents(&u.state, a, contentsOf(version))
	u.handlePrepared(nil, u.now)
	u.pass(0)
}

// pass lets time pass, and the loop look.
func (u *upkeepTest) pass(d time.Duration) step {
	u.now = u.now.Add(d)
	quiet := !u.busy && u.Upkeep.Record.Refuses(u.now)
	maintain(&u.state, maintenance.Busy{Quiet: quiet, Count: 1, Names: "start ws-1"}, false, u.now)
	return u.nextStep(u.now)
}

// restart ends the agent and starts it anew, from what the journal has.
func (u *upkeepTest) restart() {
	text, err := json.Marshal(u.journal)
	if err != nil {
		u.t.Fatal(err)
	}
	fresh := state{policy: u.policy, events: u.events}
	if err := json.Unmarshal(text, &fresh.journal); err != nil {
		u.t.Fatal(err)
	}
	fresh.Upkeep.restore(u.now)
	fresh.nextHeal, fresh.nextHealthCheck, fresh.targetVerified = u.nextHeal, u.nextHealthCheck, true
	u.state = fresh
}

func (u *upkeepTest) kinds() []string {
	var kinds []string
	for _, e := range u.events {
		if strings.HasPrefix(e.Kind, "maintenance") {
			kinds = append(kinds, strings.TrimPrefix(e.Kind, "maintenance-"))
		}
	}
	return kinds
}

func (u *upkeepTest) expect(kinds ...string) {
	u.t.Helper()
	if !slices.Equal(u.kinds(), kinds) {
		u.t.Errorf("happened %v, expected %v", u.kinds(), kinds)
	}
}

// A release that changes only an unmarked component is applied at once, and nothing is announced.
func TestAnUnmarkedChangeTakesNoMaintenance(t *testing.T) {
	u := newUpkeepTest(t)
	u.offer("1.1.0", 2)
	if do := u.pass(0); do.Task != taskApply || u.Upkeep.Record != nil {
		t.Errorf("%+v, %+v", do, u.Upkeep.Record)
	}
	u.expect()
}

// Announced, draining, applied, left: with the update reported as not begun until it begins (R14).
func TestAMarkedChangeTakesAMaintenance(t *testing.T) {
	u := newUpkeepTest(t)
	u.busy = true
	u.offer("2.0.0", 2)
	if do := u.pass(30 * time.Second); do.Task == taskApply || u.Upkeep.Record.Refuses(u.now) || u.Dirty {
		t.Fatalf("before its time: %+v, %+v", do, u.Upkeep.Record)
	}
	u.handleHealth(nil, u.now)
	if r := u.buildReport(); r.Applying != nil || r.State != cells.StateHealthy || r.Acknowledged.Release != "2.0.0" ||
		!strings.Contains(r.Message, "maintenance") {
		t.Errorf("the stall clock would run: %+v", r)
	}
	if do := u.pass(30 * time.Second); do.Task == taskApply || !u.Upkeep.Record.Refuses(u.now) ||
		!u.Upkeep.Record.Until.Equal(u.now.Add(10*time.Minute)) {
		t.Fatalf("operations under way are waited for: %+v, %+v", do, u.Upkeep.Record)
	}
	u.busy = false
	if do := u.pass(time.Second); do.Task != taskApply || !u.Dirty || u.buildReport().Applying == nil {
		t.Fatalf("the drain is through: %+v", do)
	}
	u.handleApplied(nil, u.now)
	if u.pass(time.Second); !u.Upkeep.Record.Refuses(u.now) {
		t.Fatal("operations are accepted before health holds")
	}
	u.handleHealth(nil, u.now)
	if u.pass(0); u.Upkeep.Record != nil {
		t.Fatalf("%+v", u.Upkeep.Record)
	}
	u.expect("announced", "entered", "left")
}

// The way back takes one as well, at once: also where the one on the way there was left already.
func TestTheWayBackTakesAMaintenance(t *testing.T) {
	u := newUpkeepTest(t)
	u.policy.HealthyFor = time.Minute
	u.offer("2.0.0", 2)
	u.pass(time.Minute)
	u.pass(0)
	u.handleApplied(nil, u.now)
	u.handleHealth(nil, u.now) // once
	if u.pass(time.Second); u.Upkeep.Record != nil {
		t.Fatal("it was healthy: operations are accepted")
	}
	u.handleHealth(errBad, u.now)
	u.busy = true
	u.handleHealth(errBad, u.now.Add(2*time.Minute))
	if !u.Attempt.Rollback {
		t.Fatalf("%+v", u.Attempt)
	}
	if do := u.pass(2 * time.Minute); do.Task == taskApply || !u.Upkeep.Record.Refuses(u.now) {
		t.Fatalf("the way back meets an operation: %+v, %+v, %v", do, u.Upkeep.Record, u.kinds())
	}
	if do := u.pass(30 * time.Second); do.Task != taskApply { // it is not put off: what runs is broken
		t.Fatalf("%+v", do)
	}
	u.handleApplied(nil, u.now)
	if u.pass(0); !u.Upkeep.Record.Refuses(u.now) {
		t.Fatal("left before health")
	}
	u.handleHealth(nil, u.now)
	u.pass(0)
	u.expect("announced", "entered", "left", "announced", "entered", "forced", "left")
}

// Operations that take too long put the update off, or are gone without: the policy says which.
func TestADrainThatTakesTooLong(t *testing.T) {
	u := newUpkeepTest(t)
	u.busy = true
	u.offer("2.0.0", 2)
	u.pass(time.Minute)
	if do := u.pass(30 * time.Second); do.Task == taskApply || u.Upkeep.Record.Refuses(u.now) || u.Dirty {
		t.Fatalf("put off: %+v", u.Upkeep.Record)
	}
	u.handleHealth(nil, u.now)
	if do := u.pass(14 * time.Minute); do.Task == taskApply || !do.At.Equal(u.now.Add(time.Minute)) {
		t.Errorf("%+v", do)
	}
	u.Upkeep.Policy.Overdue = maintenance.Force
	u.pass(time.Minute)
	if do := u.pass(30 * time.Second); do.Task != taskApply {
		t.Fatalf("forced: %+v", do)
	}
	u.expect("announced", "entered", "put-off", "entered", "forced")
	if last := u.events[len(u.events)-1]; !strings.Contains(last.Detail, "start ws-1") {
		t.Errorf("it names what is under way: %s", last.Detail)
	}
}

// A newer assignment while draining keeps the drain and its end; one that changes nothing marked ends it.
func TestANewerAssignmentWhileDraining(t *testing.T) {
	u := newUpkeepTest(t)
	u.busy = true
	u.offer("2.0.0", 2)
	u.pass(time.Minute)
	until := u.Upkeep.Record.Until
	newer := release("2.0.1", 3)
	u.handleOffer(newer, u.now)
	u.handleConfirmation(newer.Key(), u.now)
	if u.pass(time.Second); !u.Upkeep.Record.Refuses(u.now) {
		t.Fatal("the lease was given up")
	}
	recordContents(&u.state, newer, contentsOf("2.0.0"))
	u.handlePrepared(nil, u.now)
	if u.pass(0); !u.Upkeep.Record.Until.Equal(until) || u.Upkeep.Record.Release != "2.0.1" {
		t.Errorf("%+v", u.Upkeep.Record)
	}
	u.offer("1.1.0", 4)
	if do := u.pass(0); do.Task != taskApply || u.Upkeep.Record != nil {
		t.Errorf("%+v, %+v", do, u.Upkeep.Record)
	}
	u.expect("announced", "entered", "left")
}

// The owner's decisions say when it may begin, not only when it is announced.
func TestTheOwnerDecidesWhenItBegins(t *testing.T) {
	u := newUpkeepTest(t)
	u.offer("2.0.0", 2)
	u.owner.decisions = &cells.Owner{Approval: true}
	if u.pass(time.Minute); u.Upkeep.Record != nil || u.Attempt != nil || u.Offer == nil {
		t.Errorf("%+v, %+v", u.Upkeep.Record, u.Attempt)
	}
	u.expect("announced", "withdrawn")
}

// Killed in each phase and started again, the agent goes on; while it is dead the end comes by itself.
func TestKilledInEachPhase(t *testing.T) {
	u := newUpkeepTest(t)
	u.busy = true
	u.offer("2.0.0", 2)
	begins := u.Upkeep.Record.Begins
	u.restart()
	if u.pass(0); !u.Upkeep.Record.Begins.Equal(begins) {
		t.Errorf("announced anew: %+v", u.Upkeep.Record)
	}
	u.pass(time.Minute)
	u.restart()
	if do := u.pass(0); do.Task == taskApply || !u.Upkeep.Record.Refuses(u.now) {
		t.Fatalf("%+v", do)
	}
	u.busy = false
	u.pass(0)
	u.restart()
	if do := u.pass(0); do.Task != taskApply {
		t.Fatalf("%+v", do)
	}
	u.restart() // in the middle of the write, and dead until the end has come: operations began meanwhile
	u.busy = true
	if do := u.pass(11 * time.Minute); do.Task == taskApply {
		t.Fatal("the write goes on beside operations")
	}
	if u.Upkeep.Record.Refuses(u.now) {
		t.Fatal("it overran, and the next begins at once")
	}
	u.pass(15 * time.Minute)
	u.busy = false
	if do := u.pass(0); do.Task != taskApply {
		t.Fatalf("%+v", do)
	}
	u.handleApplied(nil, u.now)
	u.restart()
	u.handleHealth(nil, u.now)
	u.pass(0)
	u.expect("announced", "entered", "overran", "announced", "entered", "left")
}

// One overran while the clock was a year ahead: once it is right, the next waits for no longer than after any other.
func TestOverranWithTheClockAhead(t *testing.T) {
	u := newUpkeepTest(t)
	u.Upkeep.After = u.now.AddDate(1, 0, 0)
	u.restart()
	u.offer("2.0.0", 2)
	if r := u.Upkeep.Record; r == nil || r.Begins.After(u.now.Add(15*time.Minute)) {
		t.Errorf("%+v", r)
	}
}

// A living agent prolongs it, says why, and only so far.
func TestProlongedWithAReason(t *testing.T) {
	u := newUpkeepTest(t)
	u.offer("2.0.0", 2)
	u.pass(time.Minute)
	u.pass(0)
	began := u.now
	for u.Upkeep.Record != nil && u.now.Before(began.Add(2*time.Hour)) {
		u.now = u.now.Add(10 * time.Second)
		maintain(&u.state, maintenance.Busy{}, true, u.now)
		if r := u.Upkeep.Record; r != nil && r.Until.Sub(u.now) > 10*time.Minute {
			t.Fatalf("a dead agent would refuse for %s", r.Until.Sub(u.now))
		}
	}
	if lasted := u.now.Sub(began); lasted != 30*time.Minute {
		t.Errorf("it lasted %s", lasted)
	}
	kinds := u.kinds()
	if kinds[len(kinds)-1] != "overran" || !slices.Contains(kinds, "prolonged") {
		t.Error(kinds)
	}
}

// The owner's own maintenance has an end, goes on beside an update's, and stays while owner.yaml is invalid.
func TestTheOwnersMaintenance(t *testing.T) {
	u := newUpkeepTest(t)
	u.owner.decisions = &cells.Owner{Maintenance: &maintenance.Owner{Since: u.now, Until: u.now.Add(time.Hour)}}
	u.pass(0)
	u.owner = ownerDecisions{invalid: "line 3"}
	u.restart()
	u.owner = ownerDecisions{invalid: "line 3"}
	if u.pass(time.Minute); u.Upkeep.Owner == nil {
		t.Fatal("what is invalid ends nothing")
	}
	if u.pass(time.Hour); u.Upkeep.Owner != nil {
		t.Fatal("its end has come")
	}
	u.owner = ownerDecisions{decisions: &cells.Owner{Maintenance: &maintenance.Owner{Since: u.now.Add(-2 * time.Hour),
		Until: u.now.Add(-time.Hour)}}}
	if u.pass(0); u.Upkeep.Owner != nil {
		t.Fatal("an end in the past")
	}
	u.expect("entered", "left")
}

// Reports have the phase and its times, what overran for as long as the update is not through, and totals that a
// restart keeps; a cell that never had a maintenance says nothing.
func TestWhatIsReportedOfMaintenances(t *testing.T) {
	u := newUpkeepTest(t)
	if r := u.buildReport().Maintenance; r != nil {
		t.Errorf("%+v", r)
	}
	u.offer("2.0.0", 2)
	if r := u.buildReport().Maintenance; r == nil || r.Phase != maintenance.Announced || r.Release != "2.0.0" ||
		!r.Begins.Equal(u.now.Add(time.Minute)) || !r.Until.IsZero() {
		t.Errorf("%+v", r)
	}
	u.pass(time.Minute)
	u.pass(time.Second)
	if r := u.buildReport().Maintenance; r.Phase != maintenance.Drained || r.Until.IsZero() || r.Totals.Begun != 1 {
		t.Errorf("%+v", r)
	}
	u.restart()
	u.pass(11 * time.Minute) // nobody prolonged it
	if r := u.buildReport().Maintenance; r.Phase != maintenance.Announced || r.Overran.IsZero() ||
		r.Totals.Overran != 1 || r.Totals.Seconds != 600 {
		t.Errorf("%+v", r)
	}
	u.pass(15 * time.Minute)
	u.pass(0)
	u.handleApplied(nil, u.now)
	u.handleHealth(nil, u.now)
	u.restart()
	u.handleHealth(nil, u.now)
	u.pass(0)
	if r := u.buildReport().Maintenance; r == nil || !r.Overran.IsZero() || r.Totals.Begun != 2 || r.Phase != "" {
		t.Errorf("%+v", r)
	}
}

// The machine's clock is set while a maintenance is on, in any of its phases, and the agent is started anew: it refuses
// for no longer than the bound from there, and the update goes through. Without a start the clock matters nothing:
// every instant in memory has a monotonic reading.
func TestClockStepsWhileAMaintenanceIsOn(t *testing.T) {
	for phase, until := range map[maintenance.Phase]func(*upkeepTest){
		maintenance.Announced: func(*upkeepTest) {},
		maintenance.Draining:  func(u *upkeepTest) { u.pass(time.Minute) },
		maintenance.Drained: func(u *upkeepTest) {
			u.pass(time.Minute)
			u.busy = false
			u.pass(0)
		},
	} {
		for _, step := range []time.Duration{-48 * time.Hour, -time.Hour, time.Hour, 48 * time.Hour} {
			u := newUpkeepTest(t)
			u.busy = true
			u.offer("2.0.0", 2)
			until(u)
			if u.Upkeep.Record.Phase != phase {
				t.Fatalf("%s: %+v", phase, u.Upkeep.Record)
			}
			u.now = u.now.Add(step)
			u.restart()
			u.nextHeal, u.nextHealthCheck = u.now.Add(24*time.Hour), u.now.Add(24*time.Hour)
			u.busy = false
			var refused time.Duration
			for end := u.now.Add(time.Hour); u.Attempt != nil && u.now.Before(end); {
				if r := u.Upkeep.Record; r.Refuses(u.now) {
					if refused += time.Second; r.Until.Sub(u.now) > 10*time.Minute {
						t.Fatalf("%s, %s: refuses until %s, at %s", phase, step, r.Until, u.now)
					}
				}
				if do := u.pass(time.Second); do.Task == taskApply {
					u.handleApplied(nil, u.now)
					u.handleHealth(nil, u.now)
					u.pass(0)
				}
			}
			if u.Attempt != nil || u.Upkeep.Record != nil || refused > 10*time.Minute {
				t.Errorf("%s, %s: refused for %s: %+v, %v", phase, step, refused, u.Upkeep.Record, u.kinds())
			}
		}
	}
	now := time.Now()
	r, _ := maintenance.Advance(&maintenance.Record{Phase: maintenance.Announced, Begins: now}, maintenance.Facts{
		Stage: maintenance.Ready, Changes: true}, maintenance.Policy{}, maintenance.Busy{}, now)
	for _, at := range []time.Time{r.Drain, r.Until, r.Limit, r.Restore(maintenance.Policy{}, now).Until} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s follows the wall clock", at)
		}
	}
}

// The owner's maintenance and an update's at once: the update waits for its own drain and is applied, the owner's ends
// neither earlier nor later for it, and one that the owner ends leaves the update's.
func TestTheOwnersMaintenanceBesideAnUpdates(t *testing.T) {
	u := newUpkeepTest(t)
	told := func() maintenance.State {
		return maintenance.Combine(u.Upkeep.Record, u.Upkeep.Owner, nil, u.now)
	}
	until := u.now.Add(20 * time.Minute)
	u.owner.decisions = &cells.Owner{Maintenance: &maintenance.Owner{Since: u.now, Until: until, Reason: "disks"}}
	u.busy = true
	u.offer("2.0.0", 2)
	if s := told(); s.Phase != maintenance.Draining || !s.Until.Equal(until) || s.Reason != "disks" {
		t.Errorf("the owner's alone, while the update's is announced: %+v", s)
	}
	if do := u.pass(time.Minute); do.Task == taskApply || told().Phase != maintenance.Draining {
		t.Fatalf("%+v, %+v", do, told())
	}
	u.busy = false
	if do := u.pass(0); do.Task != taskApply || told().Phase != maintenance.Drained || !told().Until.Equal(until) {
		t.Fatalf("%+v, %+v", do, told())
	}
	u.owner.decisions = nil
	if u.pass(0); told().Phase != maintenance.Drained || !told().Until.Equal(u.Upkeep.Record.Until) {
		t.Errorf("the owner ended theirs, and the update is under way: %+v", told())
	}
	u.owner.decisions = &cells.Owner{Maintenance: &maintenance.Owner{Since: u.now, Until: until}}
	u.pass(0)
	u.handleApplied(nil, u.now)
	u.handleHealth(nil, u.now)
	if u.pass(0); u.Upkeep.Record != nil || told().Phase != maintenance.Draining || !told().Until.Equal(until) {
		t.Errorf("the update is through: %+v, %+v", u.Upkeep.Record, told())
	}
	if u.pass(20 * time.Minute); told().Phase != maintenance.Off {
		t.Errorf("%+v", told())
	}
	u.expect("entered", "announced", "entered", "left", "entered", "left", "left")
}
