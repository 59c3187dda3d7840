package engine

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// R14, R9: what nobody listened to is no stall: after an outage of the control plane cells get their time again.
func TestOutageIsNoStall(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.begins("s1")
	w.now = w.now.Add(2 * time.Hour) // the control plane was down
	w.obs.Up = w.now
	w.wantActions("")
	w.now = w.now.Add(29 * time.Minute)
	w.wantActions("")
	w.now = w.now.Add(2 * time.Minute)
	w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
}

// R14: the limit counts from when the cell began this assignment, not one before.
func TestStallCountsFromThisAssignment(t *testing.T) {
	w := one(t, "advance: newest\n")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.begins("s1")
	w.now = w.now.Add(29 * time.Minute)
	w.begins("s1")
	w.commit("bob", "cut", release("1.2.0"))
	w.settle()
	w.begins("s1")
	w.now = w.now.Add(2 * time.Minute)
	w.wantActions("")
	w.now = w.now.Add(28 * time.Minute)
	w.wantActions("rollback 1.0.0 staging; quarantine 1.2.0 staging")
}

// R9, R26: a database that was deleted does not forget who counts: the percentage is of those who report again.
func TestPercentAfterAnEmptyDatabase(t *testing.T) {
	w := newWorld(t, union(
		policy("staging", ""), policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n"),
		cellFiles("staging", "s1", "s2", "s3"), cellFiles("dedicated", "acme"),
		release("1.0.0"), head("staging", "1.0.0"), head("dedicated", "1.0.0"),
	)).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.wait(time.Minute, "staging", "dedicated")
	kept := w.obs.Cells
	w.obs = Observed{Since: w.now, Cells: map[string]*CellState{}, Served: map[string]int64{}, Refused: map[string]Refusal{}}
	w.run()
	for _, name := range []string{"s1", "s2", "s3", "acme"} {
		w.obs.Cells[name] = w.receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: kept[name].Running})
		w.run()
	}
	for range 90 {
		w.now = w.now.Add(time.Minute)
		w.report("s1", cells.StateHealthy)
		w.report("s2", cells.StateUnhealthy)
		w.report("s3", cells.StateUnhealthy)
		w.report("acme", cells.StateHealthy)
		w.wantActions("")
	}
	w.wantBlocked("dedicated", "soak", "1 of 3 cells")
}

// R16: a cell that lacks what the release requires is not counted: one laggard does not block a channel.
func TestLaggardBlocksNobody(t *testing.T) {
	w := newWorld(t, union(
		policy("staging", ""), policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n"),
		cellFiles("staging", "s1", "s2"), cellFiles("dedicated", "acme"),
		release("1.0.0"), head("staging", "1.0.0"), head("dedicated", "1.0.0"),
	)).installed()
	w.settle()
	w.obs.Cells["s1"].Infrastructure = 7
	w.commit("bob", "cut", release("1.1.0", "requires: {infrastructure: 7}\n"))
	w.wantActions("promote 1.1.0 staging")
	w.wantActions("grant 1.1.0 staging s1")
	w.wantBlocked("staging", "requires", "needs infrastructure 7, the cell has 0")
	w.wait(62*time.Minute, "staging", "dedicated")
	w.wantActions("promote 1.1.0 dedicated")
}

// R6, R9: a cell whose file can't be read any more was not removed: it counts as before.
func TestUnreadableCellStillCounts(t *testing.T) {
	w := newWorld(t, union(
		policy("staging", ""), policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n"),
		cellFiles("staging", "s1", "s2"), cellFiles("dedicated", "acme"),
		release("1.0.0"), head("staging", "1.0.0"), head("dedicated", "1.0.0"),
	)).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.commit("eve", "typo", map[string]string{"cells/s2/cell.yaml": "chanel: staging\n"})
	w.wait(90*time.Minute, "staging", "dedicated")
	w.wantActions("")
	w.wantBlocked("dedicated", "soak", "1 of 2 cells")
	w.wantBlocked("staging", "invalid", "cells/s2/cell.yaml")
	w.commit("eve", "remove it", map[string]string{"cells/s2/cell.yaml": ""})
	w.wantActions("promote 1.1.0 dedicated")
}

// R14, R19: failures within the budget end a rollout: it is through when the others run it, and can be gone back to.
func TestRolloutEndsWithinItsBudget(t *testing.T) {
	w := one(t, "rollout: {failureBudget: 1}\n")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.fails("s2", "its disk is full")
	w.settle()
	w.wantHead("staging", "1.1.0")
	w.now = w.now.Add(time.Minute)
	w.report("s1", cells.StateHealthy)
	w.keeps("s2")
	w.wantActions("")
	w.wantBlocked("staging", "failed", "1.1.0 failed: its disk is full")
	w.commit("bob", "cut", release("1.2.0"))
	w.wantActions("promote 1.2.0 staging")
	w.wantActions("grant 1.2.0 staging s1+s2")
	w.fails("s1", "broken")
	w.fails("s2", "broken")
	w.wantActions("rollback 1.1.0 staging; quarantine 1.2.0 staging")
}

// R14: where every cell failed within the budget, nothing is through.
func TestNothingIsThroughWhereAllFailed(t *testing.T) {
	w := one(t, "rollout: {failureBudget: 2}\n")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.fails("s1", "broken")
	w.fails("s2", "broken")
	w.commit("bob", "cut", release("1.2.0"))
	w.wantActions("")
	w.wantBlocked("staging", "settled", "keeps 1.1.0")
}

// R21: the same digest under a higher sequence is tried again: what was remembered of it before doesn't count.
func TestFailureOfAnEarlierSequence(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.fails("s1", "a full disk")
	w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	w.settle()
	w.now = w.now.Add(time.Minute)
	w.keeps("s1")
	w.keeps("s2")
	w.commit("eve", "it was the disk", map[string]string{"quarantine/1.1.0.yaml": ""})
	w.wantActions("promote 1.1.0 staging")
	w.wantActions("grant 1.1.0 staging s1+s2")
	w.keeps("s1")
	w.wantActions("")
}

// R13: whether only values had changed is not the cell's to say alone: it must have run the release with others.
func TestValuesAreNoExcuse(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	s := w.obs.Cells["s1"]
	f := cells.Failure{Assignment: *s.last(), Values: true, Reason: "broken", At: w.now}
	w.obs.Cells["s1"] = w.receive(s, cells.Report{Cell: "s1", State: cells.StateHealthy, Running: s.Running, Failures: []cells.Failure{f}})
	w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
}

// R13: bad values never count against the release, even where the cell can't go back to the old ones.
func TestBadValuesAreNotTheRelease(t *testing.T) {
	w := one(t, "", map[string]string{})
	w.commit("bob", "values", map[string]string{"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nprofile: default\nlabels: {a: b}\n"})
	w.takes("staging", "1.1.0", "parameters: {colour: {type: string}}\n")
	w.commit("bob", "values", map[string]string{"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nvalues: {colour: red}\n"})
	w.wantActions("grant 1.1.0 staging s1")
	s := w.obs.Cells["s1"]
	f := cells.Failure{Assignment: *s.last(), Values: true, Reason: "no red here", At: w.now}
	for range 2 { // the second time the failure is known, and stays what it was
		s = w.receive(s, cells.Report{Cell: "s1", State: cells.StateFailed, Running: s.Running, Failures: []cells.Failure{f}})
		w.obs.Cells["s1"] = s
		w.wantActions("")
	}
	w.wantBlocked("staging", "failed", "no red here")
}

// R2, R14: a cell that came from another channel fails this one's head like any other.
func TestMovedCellFails(t *testing.T) {
	w := twoChannels(t, policy("dedicated", "gates: [{when: \"true\"}]\n")).installed()
	w.settle()
	w.wait(time.Minute, "staging", "dedicated")
	w.settle()
	w.commit("bob", "cut and move", union(release("1.1.0"), cellFiles("dedicated", "s2")))
	w.settle()
	if g := w.obs.Cells["s2"].Granted; g == nil || g.Channel != "dedicated" || g.Release != "1.1.0" {
		t.Fatalf("granted %+v", g)
	}
	w.fails("s2", "broken")
	p := w.run()
	if !slices.ContainsFunc(p.Actions, func(a Action) bool { return a.Kind == Rollback && a.Channel == "dedicated" }) {
		t.Errorf("actions %s", kinds(p))
	}
}

// R2: one cell can't use up the sequences of a channel.
func TestAbsurdSequenceIsIgnored(t *testing.T) {
	w := one(t, "")
	for _, n := range []int64{math.MaxInt64, 1 << 53} {
		w.obs.Cells["s1"].Sequence, w.obs.Served["staging"] = n, n
		w.commit("bob", "cut", release("1.1.0"))
		if p := w.plan(); p.Actions[0].Sequence != 8 {
			t.Errorf("sequence %d", p.Actions[0].Sequence)
		}
	}
	w.obs.Served["staging"] = 400_000 // the branch lost a good many
	if p := w.plan(); p.Actions[0].Sequence != 400_001 {
		t.Errorf("sequence %d", p.Actions[0].Sequence)
	}
}

// Invariant 2: what was learned is learned once: a plan on the same inputs that has learned it learns nothing.
func TestLearnedOnce(t *testing.T) {
	w := newWorld(t, union(
		policy("staging", "rollout: {failureBudget: 1}\n"), policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h, percent: 50}\n  - when: \"false\"\n"),
		cellFiles("staging", "s1", "s2"), cellFiles("dedicated", "acme"),
		release("1.0.0"), head("staging", "1.0.0"), head("dedicated", "1.0.0"),
	)).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	for range 70 {
		w.now = w.now.Add(time.Minute)
		w.report("s1", cells.StateHealthy)
		w.report("s2", cells.StateFailed)
		w.report("acme", cells.StateHealthy)
		w.run()
	}
	if p := w.plan(); len(p.Learned.Accepted)+len(p.Learned.Finished)+len(p.Learned.Rollouts) > 0 {
		t.Errorf("learned again %+v", p.Learned)
	}
}

// R5: what a branch that was dropped had finished under a sequence says nothing of another release under the same.
func TestFinishIsOfADigest(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.obs.Learned.Finished = append(w.obs.Learned.Finished, Finish{Channel: "staging", Sequence: 8, Digest: "sha256:other"})
	w.settle()
	if w.progress("staging").Finished {
		t.Error("1.1.0 counts as finished")
	}
}
