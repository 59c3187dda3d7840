package plan_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// R14, R9: time in which no process was listening is no stall. After an outage of the control plane cells get their
// time again.
func TestOutageIsNoStall(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.ReportBegun("s1")
	w.ReportBegun("s2")
	w.Now = w.Now.Add(2 * time.Hour) // the control plane was down
	w.Obs.ListeningSince = w.Now
	w.WantActions("")
	w.Now = w.Now.Add(29 * time.Minute)
	w.WantActions("")
	w.Now = w.Now.Add(2 * time.Minute)
	w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
}

// R14: the stall limit counts from when the cell began this assignment, not an earlier one.
func TestStallCountsFromThisAssignment(t *testing.T) {
	w := One(t, "advance: newest\n")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.ReportBegun("s1")
	w.Now = w.Now.Add(29 * time.Minute)
	w.ReportBegun("s1")
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Settle()
	w.ReportBegun("s1")
	w.Now = w.Now.Add(2 * time.Minute)
	w.WantActions("")
	w.Now = w.Now.Add(28 * time.Minute)
	w.WantActions("rollback 1.0.0 staging; quarantine 1.2.0 staging")
}

// R9, R26: after the database was deleted, the percentage is of the cells that report again.
func TestPercentAfterAnEmptyDatabase(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("staging", ""), Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n"),
		CellFiles("staging", "s1", "s2", "s3"), CellFiles("dedicated", "acme"),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"),
	)).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(time.Minute, "staging", "dedicated")
	kept := w.Obs.Cells
	w.Obs = plan.Observed{
		Since: w.Now, Cells: map[string]*plan.CellState{}, Served: map[string]int64{},
		Refused: map[string]plan.Refusal{},
	}
	w.Run()
	for _, name := range []string{"s1", "s2", "s3", "acme"} {
		w.Obs.Cells[name] = w.Receive(nil, cells.Report{
			Cell: name, State: cells.StateHealthy, Running: kept[name].Running,
		})
		w.Run()
	}
	for range 90 {
		w.Now = w.Now.Add(time.Minute)
		w.Report("s1", cells.StateHealthy)
		w.Report("s2", cells.StateUnhealthy)
		w.Report("s3", cells.StateUnhealthy)
		w.Report("acme", cells.StateHealthy)
		w.WantActions("")
	}
	w.WantBlocked("dedicated", "soak", "1 of 3 cells")
}

// R16: a cell that does not meet the release's requirements does not count, so it blocks no channel.
func TestLaggardBlocksNobody(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("staging", ""), Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n"),
		CellFiles("staging", "s1", "s2"), CellFiles("dedicated", "acme"),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"),
	)).ReportInstalled()
	w.Settle()
	w.Obs.Cells["s1"].Infrastructure = 7
	w.Commit("bob", "cut", Release("1.1.0", "requires: {infrastructure: 7}\n"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1")
	w.WantBlocked("staging", "requires", "needs infrastructure 7, the cell has 0")
	w.Wait(62*time.Minute, "staging", "dedicated")
	w.WantActions("promote 1.1.0 dedicated")
}

// R6, R9, R47: a cell whose file can't be read any more keeps its channel and still counts, and is granted nothing.
func TestUnreadableCellStillCounts(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("staging", ""), Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n"),
		CellFiles("staging", "s1", "s2"), CellFiles("dedicated", "acme"),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"),
	)).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	for i := range 12 { // more mistakes than the history remembers
		w.Commit("eve", "typo", map[string]string{"cells/s2/cell.yaml": fmt.Sprintf("chanel: staging %d\n", i)})
	}
	if got := w.Desired().Cells["s2"].Channel; got != "staging" {
		t.Errorf("s2 is in channel %q", got)
	}
	w.Wait(30*time.Minute, "staging", "dedicated")
	w.WantBlocked("staging", "invalid", "cells/s2/cell.yaml")
	w.Report("s2", cells.StateUnhealthy)
	w.WantBlocked("dedicated", "soak", "0 of 2 cells")
	w.Wait(90*time.Minute, "staging", "dedicated")
	w.WantActions("promote 1.1.0 dedicated")
	w.Settle()
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("promote 1.2.0 staging")
	w.WantActions("grant 1.2.0 staging s1")
	w.Commit("eve", "correct it", CellFiles("staging", "s2"))
	w.WantActions("grant 1.2.0 staging s2")
}

// R14, R19: failures within the budget do not hold a rollout up. It is through when the other cells run the head, and a
// rollback may return to it.
func TestRolloutEndsWithinItsBudget(t *testing.T) {
	w := One(t, "rollout: {failureBudget: 1}\n")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.ReportFailed("s2", "its disk is full")
	w.Settle()
	w.WantHead("staging", "1.1.0")
	w.Now = w.Now.Add(time.Minute)
	w.Report("s1", cells.StateHealthy)
	w.ReportMemory("s2")
	w.WantActions("")
	w.WantBlocked("staging", "failed", "1.1.0 failed: its disk is full")
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("promote 1.2.0 staging")
	w.WantActions("grant 1.2.0 staging s1+s2")
	w.ReportFailed("s1", "broken")
	w.ReportFailed("s2", "broken")
	w.WantActions("rollback 1.1.0 staging; quarantine 1.2.0 staging")
}

// R14: if every cell failed, a rollout is not through, even within the budget.
func TestNothingIsThroughWhereAllFailed(t *testing.T) {
	w := One(t, "rollout: {failureBudget: 2}\n")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.ReportFailed("s1", "broken")
	w.ReportFailed("s2", "broken")
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("")
	w.WantBlocked("staging", "settled", "keeps 1.1.0")
}

// R21: the same digest is tried again under a higher sequence. Failures under the earlier sequence don't count.
func TestFailureOfAnEarlierSequence(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.ReportFailed("s1", "a full disk")
	w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	w.Settle()
	w.Now = w.Now.Add(time.Minute)
	w.ReportMemory("s1")
	w.ReportMemory("s2")
	w.Commit("eve", "it was the disk", map[string]string{"quarantine/1.1.0.yaml": ""})
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1+s2")
	w.ReportMemory("s1")
	w.WantActions("")
}

// R13: a cell's claim that only values had changed counts only if the cell ran the release with other values.
func TestValuesAreNoExcuse(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	s := w.Obs.Cells["s1"]
	f := cells.Failure{Assignment: *s.Last(), Values: true, Cause: cells.CauseRelease, Reason: "broken", At: w.Now}
	w.Obs.Cells["s1"] = w.Receive(s, cells.Report{
		Cell: "s1", State: cells.StateHealthy, Running: s.Running, Failures: []cells.Failure{f},
	})
	w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
}

// R13: bad values never count against the release, even if the cell can't return to the old values.
func TestBadValuesAreNotTheRelease(t *testing.T) {
	w := One(t, "", map[string]string{})
	w.Commit("bob", "values", map[string]string{
		"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nprofile: default\nlabels: {a: b}\n",
	})
	w.CutAndInstall("staging", "1.1.0", "parameters: {colour: {type: string}}\n")
	w.Commit("bob", "values", map[string]string{
		"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nvalues: {colour: red}\n",
	})
	w.WantActions("grant 1.1.0 staging s1")
	s := w.Obs.Cells["s1"]
	f := cells.Failure{Assignment: *s.Last(), Values: true, Reason: "no red here", At: w.Now}
	for range 2 { // the second time the failure is known already
		s = w.Receive(s, cells.Report{
			Cell: "s1", State: cells.StateFailed, Running: s.Running, Failures: []cells.Failure{f},
		})
		w.Obs.Cells["s1"] = s
		w.WantActions("")
	}
	w.WantBlocked("staging", "failed", "no red here")
}

// R2, R14: a cell that came from another channel can fail this channel's head.
func TestMovedCellFails(t *testing.T) {
	w := TwoChannels(t, Policy("dedicated", "gates: [{when: \"true\"}]\n")).ReportInstalled()
	w.Settle()
	w.Wait(time.Minute, "staging", "dedicated")
	w.Settle()
	w.Commit("bob", "cut and move", Union(Release("1.1.0"), CellFiles("dedicated", "s2")))
	w.Settle()
	if g := w.Obs.Cells["s2"].Granted; g == nil || g.Channel != "dedicated" || g.Release != "1.1.0" {
		t.Fatalf("granted %+v", g)
	}
	w.ReportFailed("s2", "broken")
	p := w.Run()
	if !slices.ContainsFunc(p.Actions,
		func(a plan.Action) bool { return a.Kind == plan.Rollback && a.Channel == "dedicated" }) {
		t.Errorf("actions %s", Kinds(p))
	}
}

// R2: one cell can't use up a channel's sequences.
func TestAbsurdSequenceIsIgnored(t *testing.T) {
	w := One(t, "")
	for _, n := range []int64{math.MaxInt64, 1 << 53} {
		w.Obs.Cells["s1"].Sequence, w.Obs.Served["staging"] = n, n
		w.Commit("bob", "cut", Release("1.1.0"))
		if p := w.Plan(); p.Actions[0].Sequence != 8 {
			t.Errorf("sequence %d", p.Actions[0].Sequence)
		}
	}
	w.Obs.Served["staging"] = 400_000 // the branch lost many
	if p := w.Plan(); p.Actions[0].Sequence != 400_001 {
		t.Errorf("sequence %d", p.Actions[0].Sequence)
	}
}

// Invariant 2: a plan does not learn again what was learned before.
func TestLearnedOnce(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("staging", "rollout: {failureBudget: 1}\n"),
		Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h, percent: 50}\n  - when: \"false\"\n"),
		CellFiles("staging", "s1", "s2"), CellFiles("dedicated", "acme"),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"),
	)).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	for range 70 {
		w.Now = w.Now.Add(time.Minute)
		w.Report("s1", cells.StateHealthy)
		w.Report("s2", cells.StateFailed)
		w.Report("acme", cells.StateHealthy)
		w.Run()
	}
	if p := w.Plan(); len(p.Learned.Accepted)+len(p.Learned.Finished)+len(p.Learned.Cohorts) > 0 {
		t.Errorf("learned again %+v", p.Learned)
	}
}

// R5: that a dropped branch finished a sequence says nothing about another release under the same sequence.
func TestFinishIsOfADigest(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Obs.Learned.Finished = append(w.Obs.Learned.Finished, plan.Finish{
		Channel: "staging", Sequence: 8, Digest: "sha256:other",
	})
	w.Settle()
	if w.Progress("staging").Finished {
		t.Error("1.1.0 counts as finished")
	}
}
