package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// reportFailure makes a cell report that a head failed, whatever it was granted; it says that it runs what it ran.
func reportFailure(w *World, name string, of *plan.EffectiveHead, cause cells.Cause) {
	s := w.Obs.Cells[name]
	f := cells.Failure{Cause: cause, Reason: "it broke", At: w.Now, Assignment: cells.Assignment{
		Channel: "staging", Sequence: of.Sequence, Release: of.Release, Digest: of.Digest}}
	r := cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: cells.StateHealthy, Failures: []cells.Failure{f}}
	if s != nil {
		r.Running, r.Owner = s.Running, s.Owner
		f.Assignment.Epoch = s.Epoch
	}
	if r.Running == nil {
		r.State = cells.StateFailed
	}
	w.Obs.Cells[name] = w.Receive(s, r)
}

func reportState(w *World, name string, state cells.State) {
	s := w.Obs.Cells[name]
	w.Obs.Cells[name] = w.Receive(s, cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: state, Running: s.Running})
}

// R49: a cell's word about a head that it was never granted counts for nothing, whatever the cell claims to run.
func TestWordOfACellThatWasGrantedNothing(t *testing.T) {
	w := One(t, "", CellFiles("staging", "evil"))
	w.SetOwnerDecision("evil", &cells.Owner{Paused: "quarter end"})
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1+s2")
	head := w.Desired().Channels["staging"].Effective
	reportFailure(w, "evil", head, cells.CauseRelease)
	w.WantActions("")
	a := cells.Assignment{Channel: "staging", Sequence: head.Sequence, Release: head.Release, Digest: head.Digest}
	for _, r := range []cells.Report{
		{State: cells.StateFailed, Running: &a}, {State: cells.StateStuck, Running: &a},
		{State: cells.StateUnhealthy, Running: &a}, {State: cells.StateApplying, Applying: &a},
	} {
		r.Cell = "evil"
		w.Obs.Cells["evil"] = w.Receive(w.Obs.Cells["evil"], r)
		w.Settle()
	}
	w.WaitWithout(3*time.Hour, "evil")
	w.Settle()
	w.WantHead("staging", "1.1.0")
}

// R49: what is said too late, or by whom the rollout was never for, undoes no finished rollout.
func TestFinishedRolloutStays(t *testing.T) {
	for name, say := range map[string]func(w *World){
		"a first install that fails": func(w *World) {
			w.ReportPending("new")
			w.WantActions("grant 1.1.0 staging new")
			w.ReportFailed("new", "no database here")
		},
		"a first install that is switched off": func(w *World) {
			w.ReportPending("new")
			w.WantActions("grant 1.1.0 staging new")
			w.ReportBegun("new")
		},
		"a machine that is installed anew": func(w *World) {
			s := w.Obs.Cells["s1"]
			w.Obs.Cells["s1"] = w.Receive(s, cells.Report{Cell: "s1", State: cells.StatePending})
			w.Settle()
			w.ReportFailed("s1", "no database here")
		},
		"a latecomer": func(w *World) {
			w.Report("late", cells.StateHealthy)
			w.WantActions("grant 1.1.0 staging late")
			w.ReportFailed("late", "broken")
		},
		"one that falls silent in the middle": func(w *World) {
			w.Report("late", cells.StateHealthy)
			w.WantActions("grant 1.1.0 staging late")
			w.ReportBegun("late")
		},
		"a failure long after": func(w *World) {
			w.WaitWithout(2*time.Hour, "new", "late")
			reportFailure(w, "s1", w.Desired().Channels["staging"].Effective, cells.CauseRelease)
			reportState(w, "s1", cells.StateUnhealthy)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, "", CellFiles("staging", "late", "new"))
			delete(w.Obs.Cells, "new")
			w.WaitWithout(time.Hour, "late", "new")
			w.CutAndInstallWithout(t, "1.1.0", "late", "new")
			if p := w.Progress("staging"); !p.Finished {
				t.Fatalf("not finished: %+v", p)
			}
			say(w)
			w.WaitWithout(time.Hour, "late", "new", "s1")
			w.WantActions("")
			w.WantHead("staging", "1.1.0")
			if len(w.Desired().Quarantine) > 0 {
				t.Errorf("quarantined: %+v", w.Desired().Quarantine)
			}
		})
	}
}

// R49: the failures of cells that joined during a rollout don't add up.
func TestNewcomersDoNotAddUp(t *testing.T) {
	w := One(t, "", CellFiles("staging", "n1", "n2", "n3"))
	for _, name := range []string{"n1", "n2", "n3"} {
		delete(w.Obs.Cells, name)
	}
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	for _, name := range []string{"n1", "n2", "n3"} {
		w.ReportPending(name)
		w.WantActions("grant 1.0.0 staging " + name) // the finished one first
		w.ReportFailed(name, "broken")
		w.WantActions("grant 1.1.0 staging " + name)
		w.ReportFailed(name, "broken")
		w.WantActions("")
	}
	w.WantHead("staging", "1.1.0")
}

// R49: a failure whose cause nobody knows counts once two cells say so, or all of a smaller wave. The cell's own
// trouble never does, nor does a stall that is alone.
func TestCauses(t *testing.T) {
	stall := func(w *World, names ...string) {
		for _, name := range names {
			w.ReportBegun(name)
		}
		w.WaitWithout(31*time.Minute, names...)
	}
	fail := func(cause cells.Cause, names ...string) func(w *World) {
		return func(w *World) {
			for _, name := range names {
				reportFailure(w, name, w.Desired().Channels["staging"].Effective, cause)
			}
		}
	}
	for name, c := range map[string]struct {
		policy string
		say    func(w *World)
		want   string // in the reason; empty: nothing moves
	}{
		"release":                    {"", fail(cells.CauseRelease, "s1"), "failed in s1: it broke"},
		"unknown, alone":             {"", fail(cells.CauseUnknown, "s1"), ""},
		"without a cause, alone":     {"", fail("", "s1"), ""},
		"a cause of tomorrow, alone": {"", fail("weather", "s1"), ""},
		"unknown, twice":             {"", fail(cells.CauseUnknown, "s1", "s2"), "failed in s1, s2"},
		"the cells, all of them":     {"", fail(cells.CauseCell, "s1", "s2", "s3", "s4"), ""},
		"a stall, alone":             {"", func(w *World) { stall(w, "s1") }, ""},
		"a stall, twice": {"", func(w *World) { stall(w, "s1", "s2") },
			"stalled in s1, s2: no result for 30m"},
		"a stall and an unknown": {"", func(w *World) {
			w.ReportBegun("s1")
			w.Now = w.Now.Add(31 * time.Minute)
			fail(cells.CauseUnknown, "s2")(w)
		}, "failed in s2: it broke; 1.1.0 stalled in s1"},
		"within the budget": {"rollout: {failureBudget: 1}\n", fail(cells.CauseRelease, "s1"), ""},
		"unknown in a wave of one": {"rollout: {waves: [{cells: 1, soak: 1h}, {percent: 100}]}\n", func(w *World) {
			for _, s := range w.Obs.Cells {
				if s.Granted != nil && s.Granted.Release == "1.1.0" {
					fail(cells.CauseUnknown, s.Name)(w)
				}
			}
		}, "failed in s"},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, c.policy, CellFiles("staging", "s3", "s4"))
			w.Commit("bob", "cut", Release("1.1.0"))
			w.Settle()
			c.say(w)
			p := w.Plan()
			if c.want == "" {
				for _, a := range p.Actions {
					if a.Kind != plan.Grant {
						t.Fatalf("%s: %s", Kinds(p), a.Reason)
					}
				}
				return
			}
			if len(p.Actions) == 0 || p.Actions[0].Kind != plan.Rollback ||
				!strings.Contains(p.Actions[0].Reason, c.want) {
				t.Fatalf("%+v, want a rollback: %s", p.Actions, c.want)
			}
		})
	}
}

// R49: a stall fills its slot, and every place says so, until a person pauses the cell.
func TestStallFillsItsSlot(t *testing.T) {
	w := One(t, "rollout: {maxInFlight: 1}\n", CellFiles("staging", "s3"))
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	away := w.Granted()
	w.ReportBegun(away[0])
	w.WaitWithout(2*time.Hour, away...)
	w.WantActions("")
	w.WantGate(away[0], "stalled", "began 1.1.0 at 2026-11-23T09:31:00Z and has had no result since")
	if p := w.Progress("staging"); len(p.Stalled) != 1 || len(p.Failed) != 0 || p.InFlight != 1 {
		t.Errorf("%+v", p)
	}
	w.Commit("eve", "switched off", map[string]string{"cells/" + away[0] + "/cell.yaml": "apiVersion: sluice/v1\n" +
		"kind: Cell\nchannel: staging\npaused: switched off\n"})
	if next := w.Granted(); len(next) != 1 {
		t.Errorf("granted %v after the pause", next)
	}
}

// R26, R49: a store that is younger than the head has lost the grants. A cell's own word is all there is then.
func TestWordAfterTheStoreIsLost(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	head := w.Desired().Channels["staging"].Effective
	running := w.Obs.Cells["s1"].Running
	w.Now = w.Now.Add(time.Minute)
	w.Obs = plan.Observed{Cells: map[string]*plan.CellState{}, Served: map[string]int64{},
		Refused: map[string]plan.Refusal{}, Since: w.Now}
	for _, name := range []string{"s1", "s2"} {
		w.Obs.Cells[name] = w.Receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: running})
	}
	reportFailure(w, "s1", head, cells.CauseRelease)
	w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
}

// R49: an automatic quarantine never names a channel where the release is a finished head.
func TestAutomaticQuarantineSparesTheHealthy(t *testing.T) {
	w := TwoChannels(t, Policy("late", "after: [dedicated]\n"), CellFiles("late", "l1"), Head("late", "1.0.0"))
	w.ReportInstalled()
	w.InstallAll()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.InstallAll()
	w.Wait(2*time.Hour, "staging", "late")
	for _, name := range []string{"acme", "beta"} {
		reportState(w, name, cells.StateHealthy)
	}
	w.WantActions("promote 1.1.0 dedicated")
	w.WantActions("grant 1.1.0 dedicated acme+beta")
	w.ReportFailed("acme", "broken")
	w.WantActions("rollback 1.0.0 dedicated; quarantine 1.1.0 dedicated")
	if q := w.Desired().Quarantine; len(q) != 1 || strings.Join(q[0].Channels, " ") != "dedicated late" {
		t.Errorf("%+v", q)
	}
	w.Settle()
	w.ReportPending("s1") // staging gives its finished head to whoever comes
	w.WantActions("")
	w.WantHead("staging", "1.1.0")
}

// R50: a cell that falls ill soon after its own rollout counts; later it does not, nor does a moment's illness.
func TestFallsIllAfterTheWatch(t *testing.T) {
	for name, c := range map[string]struct {
		policy        string
		healthy, sick time.Duration
		want          string
	}{
		"soon":         {"", 20 * time.Minute, 10 * time.Minute, "rollback 1.0.0 staging; quarantine 1.1.0 staging"},
		"for a moment": {"", 20 * time.Minute, 3 * time.Minute, ""},
		"late":         {"", 2 * time.Hour, 10 * time.Minute, ""},
		"late, watched longer": {"rollout: {watch: 3h}\n", 2 * time.Hour, 10 * time.Minute,
			"rollback 1.0.0 staging; quarantine 1.1.0 staging"},
		"halt": {"onFailure: halt\n", 20 * time.Minute, 10 * time.Minute, "halt 1.1.0 staging"},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, c.policy)
			w.CutAndInstall("staging", "1.1.0")
			w.Wait(c.healthy, "staging")
			for end := w.Now.Add(c.sick); w.Now.Before(end); {
				w.Now = w.Now.Add(time.Minute)
				reportState(w, "s1", cells.StateUnhealthy)
				reportState(w, "s2", cells.StateHealthy)
			}
			w.WantActions(c.want)
		})
	}
}
