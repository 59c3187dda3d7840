package engine

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// R18: only what moves back ignores windows, freezes and holds: on a head that a rollback made, new values wait for
// them, and so does a new cell.
func TestRollbackExemptsOnlyWhatGoesBack(t *testing.T) {
	w := one(t, "")
	w.takes("staging", "1.1.0")
	w.ask("staging", "1.0.0")
	w.wantActions("rollback 1.0.0 staging")
	w.wantActions("grant 1.0.0 staging s1+s2") // the hold that it left notwithstanding
	w.now = w.now.Add(time.Minute)
	w.report("s1", cells.StateHealthy)
	w.report("s2", cells.StateHealthy)
	w.commit("eve", "values", map[string]string{"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nvalues: {}\nprofile: default\n"})
	w.wantActions("")
	w.commit("eve", "profile", union(cellFiles("staging", "s3"), map[string]string{
		"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nprofile: small\n"}))
	w.obs.Cells["s3"] = w.receive(nil, cells.Report{Cell: "s3", State: cells.StatePending})
	w.wantActions("")
	w.wantBlocked("staging", "hold", "rolled back by hand")
}

// R19: cells that are on the release already take no slot.
func TestNoSlotForWhatRunsAlready(t *testing.T) {
	w := one(t, "rollout: {maxInFlight: 1}\n")
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	w.wantActions("grant 1.1.0 staging s1")
	w.fails("s1", "broken")
	w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	w.wantActions("grant 1.0.0 staging s1+s2")
}

// R14, R19: a cell that hangs in the middle of a release is not on its last good one: taking it back takes a slot, so that
// no later head finds it with one that nobody counted. It is a way back, which no hold stops (R18).
func TestSlotForWhatIsTakenBack(t *testing.T) {
	w := one(t, "rollout: {maxInFlight: 1, stall: 30m}\n")
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	w.wantActions("grant 1.1.0 staging s1")
	w.report("s1", cells.StateHealthy)
	w.wantActions("grant 1.1.0 staging s2")
	w.begins("s2")
	for range 30 {
		w.now = w.now.Add(time.Minute)
		w.report("s1", cells.StateHealthy)
		s2 := w.obs.Cells["s2"]
		w.obs.Cells["s2"] = w.receive(s2, cells.Report{Cell: "s2", State: cells.StateApplying, Running: s2.Running, Applying: s2.Applying})
	}
	w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	w.commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"})
	w.wantActions("grant 1.0.0 staging s1")
	w.wantActions("")
	w.wantGate("s2", "maxInFlight", "at most 1 cell")
	w.report("s1", cells.StateHealthy)
	w.wantActions("grant 1.0.0 staging s2")
	w.wantActions("")
	w.report("s2", cells.StateHealthy)
	w.wantActions("")
}

// Invariant 10: a release that only one of several upstreams has is on its way, and says what it waits for.
func TestOneUpstreamIsBehind(t *testing.T) {
	w := newWorld(t, union(
		policy("east", ""), policy("west", ""), policy("prod", "after: [east, west]\n"),
		cellFiles("east", "e1"), cellFiles("west", "w1"), cellFiles("prod", "p1"),
		release("1.0.0"), head("east", "1.0.0"), head("west", "1.0.0"), head("prod", "1.0.0"),
	)).installed()
	w.settle()
	w.commit("eve", "hold", map[string]string{"channels/west/holds/x.yaml": "reason: wait\n"})
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.wantBlocked("prod", "after", "west does not run it")
	w.unhold()
	w.through()
	p := w.plan()
	if len(p.Actions) == 0 {
		w.through()
	}
	w.wantHead("prod", "1.1.0")
}

// R14: an offer that nobody took lapses with the cell's silence: back again, the cell needs another, under what binds then.
func TestUntakenOfferLapses(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"})
	for range 6 {
		w.now = w.now.Add(time.Minute)
		w.report("s1", cells.StateHealthy)
		w.settle()
	}
	s2 := w.obs.Cells["s2"]
	if s2.last().Release != "1.0.0" {
		t.Fatalf("s2 is offered %s after its silence", s2.last().Release)
	}
	w.obs.Cells["s2"] = w.receive(s2, cells.Report{Cell: "s2", State: cells.StateHealthy, Running: s2.Running})
	w.wantActions("")
	w.wantBlocked("staging", "hold", "wait")
	w.unhold()
	w.wantActions("grant 1.1.0 staging s2")
}

// R14: taken, it is permission for good.
func TestTakenOfferStays(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	s2 := w.obs.Cells["s2"]
	w.obs.Cells["s2"] = w.receive(s2, cells.Report{Cell: "s2", State: cells.StateHealthy, Running: s2.Running, Acknowledged: s2.Granted})
	w.now = w.now.Add(time.Hour)
	w.settle()
	if got := w.obs.Cells["s2"].last().Release; got != "1.1.0" {
		t.Errorf("s2 is offered %s", got)
	}
}

// R21: a quarantine withdraws what was offered and not taken.
func TestQuarantineWithdrawsOffers(t *testing.T) {
	w := one(t, "onFailure: halt\n")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	s1 := w.obs.Cells["s1"]
	w.obs.Cells["s1"] = w.receive(s1, cells.Report{Cell: "s1", State: cells.StateApplying, Running: s1.Running, Applying: s1.Granted, Acknowledged: s1.Granted})
	w.commit("eve", "stop", map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: leaks\n"})
	w.settle()
	if got := w.obs.Cells["s1"].last().Release; got != "1.1.0" {
		t.Errorf("s1 began 1.1.0 and is offered %s", got)
	}
	if got := w.obs.Cells["s2"].last().Release; got != "1.0.0" {
		t.Errorf("s2 is offered %s", got)
	}
}
