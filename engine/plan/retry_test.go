package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
)

const budgetOfOne = "rollout: {failureBudget: 1, waves: [{percent: 100}]}\n"

// askRetry commits that a cell is to try again.
func askRetry(w *World, name, at string) {
	file := "cells/" + name + "/cell.yaml"
	text, _, _ := strings.Cut(w.Files[file], "retry:")
	w.Commit("ada", "retry "+name+" "+at, map[string]string{file: text + "retry: " + at + "\n"})
}

// afterFailure returns a world in which s1 failed 1.1.0, within the budget.
func afterFailure(t *testing.T) *World {
	w := One(t, budgetOfOne)
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.ReportFailed("s1", "the database is down")
	w.Report("s2", cells.StateHealthy)
	w.Settle()
	w.WantGate("s1", "failed", "sluice cell retry s1")
	return w
}

// R56: the vendor's commit makes a cell try again under the same head; each request counts once.
func TestR56VendorAsksForAnotherTry(t *testing.T) {
	w := afterFailure(t)
	before := w.Obs.Cells["s1"].Granted
	askRetry(w, "s1", "2026-11-23T10:00:00Z")
	w.WantActions("grant 1.1.0 staging s1")
	now := w.Obs.Cells["s1"].Granted
	if now.Key() == before.Key() || now.Sequence != before.Sequence || now.Retry != "2026-11-23T10:00:00Z" {
		t.Fatalf("granted %+v after %+v", now, before)
	}
	w.WantActions("")
	if v := w.WantGate("s1", "", ""); v.Gate != "" {
		t.Errorf("it tries again, and is blocked: %v", v)
	}
	w.ReportFailed("s1", "the database is still down")
	w.WantActions("")
	w.WantGate("s1", "failed", "still down")
	// the same request once more, an empty one, and another
	askRetry(w, "s1", "2026-11-23T10:00:00Z")
	w.WantActions("")
	w.Commit("ada", "take it back", CellFiles("staging", "s1"))
	w.WantActions("")
	askRetry(w, "s1", "2026-11-23T11:00:00Z")
	w.WantActions("grant 1.1.0 staging s1")
	w.Report("s1", cells.StateHealthy) // the agent forgets the failure
	w.WantActions("")
	if p := w.Progress("staging"); !p.Finished {
		t.Errorf("not finished: %+v", p)
	}
}

// R56: a request grants nothing where nothing failed, binds to what binds every grant, and outlives no head.
func TestR56RequestForAnotherTryIsBound(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *World)
		gate    string
		then    string
	}{
		"a healthy cell": {prepare: func(w *World) { w.Report("s1", cells.StateHealthy) }},
		"a hold": {prepare: func(w *World) {
			w.ReportFailed("s1", "broken")
			w.Commit("ada", "hold", map[string]string{"channels/staging/holds/h.yaml": "reason: lunch\n"})
		}, gate: "hold"},
		"a pause": {prepare: func(w *World) {
			w.ReportFailed("s1", "broken")
			const file = "cells/s1/cell.yaml"
			w.Commit("ada", "pause", map[string]string{file: w.Files[file] + "paused: audit\n"})
		}, gate: "paused"},
		"the owner's pause": {prepare: func(w *World) {
			w.ReportFailed("s1", "broken")
			s := w.Obs.Cells["s1"]
			w.Obs.Cells["s1"] = w.Receive(s, cells.Report{Cell: "s1", State: s.State, Running: s.Running,
				Failures: Plain(s.Failures), Owner: &cells.Owner{Paused: "quarter end"}})
		}, gate: "owner"},
		"a newer head": {prepare: func(w *World) {
			w.ReportFailed("s1", "broken")
			w.Report("s2", cells.StateHealthy)
			w.Settle()
			w.CutAndInstall("staging", "1.2.0")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, budgetOfOne)
			w.Commit("bob", "cut", Release("1.1.0"))
			w.Settle()
			c.prepare(w)
			w.Settle()
			askRetry(w, "s1", "2026-11-23T10:00:00Z")
			w.WantActions("")
			if c.gate != "" {
				w.WantBlocked("staging", c.gate, "")
			}
		})
	}
}

// R56, R26: a store that was restored learns from the cell's report that a request was carried out.
func TestR56RestoredStoreDoesNotAskAgain(t *testing.T) {
	w := afterFailure(t)
	askRetry(w, "s1", "2026-11-23T10:00:00Z")
	w.WantActions("grant 1.1.0 staging s1")
	w.ReportFailed("s1", "still down")
	w.Settle()
	was := w.Obs.Cells["s1"]
	w.Obs.Cells["s1"] = w.Receive(nil, cells.Report{Cell: "s1", Boot: "b", State: cells.StateHealthy,
		Running: was.Running, Failures: Plain(was.Failures)})
	w.Settle()
	if g := w.Obs.Cells["s1"].Granted; g.Key() != was.Granted.Key() {
		t.Errorf("granted %+v, and %+v failed already", g, was.Granted)
	}
	w.WantGate("s1", "failed", "still down")
}

// threeSteps returns a world in which s1 stays on 1.0.0 while the others go over 2.0.0 and 3.0.0, which installs over
// 2.0.0 or later, to 4.0.0, which installs over 3.0.0 or later.
func threeSteps(t *testing.T, releases ...map[string]string) *World {
	w := One(t, budgetOfOne)
	silent := "s1"
	for _, files := range append(releases, Release("4.0.0", "requires: {from: 3.0.0}\n")) {
		w.WaitWithout(10*time.Minute, silent)
		w.Commit("bob", "cut", files)
		w.Settle()
		w.WaitWithout(time.Minute, silent)
		w.Settle()
	}
	w.WantHead("staging", "4.0.0")
	return w
}

// back makes a cell that was silent report what it runs.
func back(w *World, name string) {
	s := w.Obs.Cells[name]
	w.Obs.Cells[name] = w.Receive(s, cells.Report{Cell: name, Boot: "b", State: cells.StateHealthy, Running: s.Running})
}

// R56, R16: a cell that was off is led over the releases that requires.from asks for, one by one.
func TestR56StepByStep(t *testing.T) {
	w := threeSteps(t, Release("2.0.0"), Release("2.5.0"), Release("3.0.0", "requires: {from: 2.0.0}\n"))
	back(w, "s1")
	w.WantBlocked("staging", "requires",
		"4.0.0 installs over 3.0.0 or later, the cell runs 1.0.0: it gets 2.5.0, then 3.0.0 first")
	w.WantActions("grant 2.5.0 staging s1") // the fewest steps, and of these the newest
	w.WantActions("")                       // nothing more before it is there
	w.ReportBegun("s1")
	w.WantActions("")
	w.Report("s1", cells.StateHealthy)
	w.WantActions("grant 3.0.0 staging s1")
	w.Report("s1", cells.StateHealthy)
	w.WantActions("grant 4.0.0 staging s1")
	w.Report("s1", cells.StateHealthy)
	w.WantActions("")
	if len(w.Plan().Blocked) > 0 {
		t.Errorf("blocked: %v", w.Plan().Blocked)
	}
}

// R56: no way leads over what is quarantined, never finished here, asks for too much itself or is older than what the
// cell was told; the verdict says so.
func TestR56NoWay(t *testing.T) {
	const no = "no former head of its channel leads there: only a release that installs over 1.0.0 would"
	for name, prepare := range map[string]func(t *testing.T) *World{
		"nothing between": func(t *testing.T) *World {
			w := One(t, budgetOfOne)
			w.Commit("bob", "cut", Release("4.0.0", "requires: {from: 3.0.0}\n"))
			w.WantActions("promote 4.0.0 staging")
			return w
		},
		"a quarantine": func(t *testing.T) *World {
			w := threeSteps(t, Release("2.0.0"), Release("3.0.0", "requires: {from: 2.0.0}\n"))
			w.Commit("ada", "quarantine", map[string]string{"quarantine/2.0.0.yaml": "release: 2.0.0\ndigest: " +
				string(w.Digest("2.0.0")) + "\nreason: it eats data\n"})
			return w
		},
		"an older head": func(t *testing.T) *World {
			w := threeSteps(t, Release("2.0.0"), Release("3.0.0"))
			s := w.Obs.Cells["s1"]
			newer := *s.Running // 1.0.0 once more, after a rollback
			newer.Sequence = w.Desired().Channels["staging"].Effective.Sequence - 1
			s.Granted, s.Running = &newer, &newer
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := prepare(t)
			back(w, "s1")
			w.WantActions("")
			w.WantGate("s1", "requires", no)
		})
	}
}

// R56: a step that failed is tried again like any other release.
func TestR56StepThatFails(t *testing.T) {
	w := threeSteps(t, Release("2.0.0"), Release("3.0.0"))
	back(w, "s1")
	w.WantActions("grant 3.0.0 staging s1")
	w.ReportFailed("s1", "the disk is slow")
	w.WantActions("")
	w.WantBlocked("staging", "failed", "3.0.0 failed: the disk is slow")
	w.WantHead("staging", "4.0.0")
	askRetry(w, "s1", "2026-11-23T12:00:00Z")
	w.WantActions("grant 3.0.0 staging s1")
	w.Report("s1", cells.StateHealthy)
	w.WantActions("grant 4.0.0 staging s1")
}

// R56: a requirement that nothing could meet is a fault.
func TestR56RequirementThatNothingMeets(t *testing.T) {
	for name, c := range map[string]struct {
		before []map[string]string
		from   string
		want   bool
	}{
		"the first release":   {nil, "1.0.0", false},
		"nothing that is new": {[]map[string]string{Release("1.0.0")}, "1.5.0", true},
		"exactly that":        {[]map[string]string{Release("1.0.0")}, "1.0.0", false},
		"one between":         {[]map[string]string{Release("1.0.0"), Release("1.7.0")}, "1.5.0", false},
		"only greater ones":   {[]map[string]string{Release("1.0.0"), Release("3.0.0")}, "1.5.0", true},
	} {
		files := Union(append(c.before, Release("2.0.0", "requires: {from: "+c.from+"}\n"))...)
		faults := NewWorld(t, files).Desired().AllFaults()
		got := false
		for _, f := range faults {
			got = got || f.File == "releases/2.0.0/release.yaml" &&
				strings.Contains(f.Message, "no cell could get there")
		}
		if got != c.want {
			t.Errorf("%s: %v", name, faults)
		}
	}
}
