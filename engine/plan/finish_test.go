package plan_test

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// R19: a head that moved before any cell had reported has reached its cells once one is healthy on it. A rollback may
// return to it.
func TestFirstHeadBeforeAnyReport(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("staging", ""), Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1m}\n"),
		CellFiles("staging", "s1"), CellFiles("dedicated", "acme"), Release("1.0.0"),
	))
	w.WantActions("promote 1.0.0 staging") // no cell reported yet
	w.Run()
	for range 3 {
		w.Now = w.Now.Add(time.Minute)
		w.ReportFirst("s1")
		w.Settle()
	}
	w.ReportFirst("acme")
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.Settle()
	w.ReportFailed("s1", "it is broken")
	w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
}

// R14, R19: a rollout is through when the cells in contact have the head. Cells that fell silent, or failed within the
// budget, hold nothing up.
func TestFinishedWithoutTheSilentAndTheFailed(t *testing.T) {
	for name, part := range map[string]func(*World){
		"silent": func(w *World) { w.Wait(10*time.Minute, "dedicated") },
		"failed": func(w *World) {
			w.Now = w.Now.Add(time.Minute)
			w.ReportFailed("s2", "no room")
			w.Report("s1", cells.StateHealthy)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := TwoChannels(t, Policy("staging", "rollout: {failureBudget: 1}\n")).ReportInstalled()
			w.Settle()
			w.Commit("bob", "cut", Release("1.1.0"))
			w.WantActions("promote 1.1.0 staging")
			w.WantActions("grant 1.1.0 staging s1+s2")
			part(w)
			w.Report("s1", cells.StateHealthy)
			w.Settle()
			e := w.Desired().Channels["staging"].Effective
			for _, f := range w.Obs.Learned.Finished {
				if f.Channel == "staging" && f.Sequence == e.Sequence {
					return
				}
			}
			t.Errorf("%s is not finished: %+v", e.Release, w.Obs.Learned.Finished)
		})
	}
}

// R14, fault 56: if none of the cells that a head was for is healthy on it, cells that joined later prove the head by
// waves: one of them is not enough for all others.
func TestNotFinishedByFailuresAlone(t *testing.T) {
	w := manyCells(t, 1, "rollout: {waves: [{cells: 2, soak: 10m}, {percent: 50}], failureBudget: 1}\n")
	w.WantActions("grant 1.1.0 staging c00")
	w.ReportFailed("c00", "no room")
	w.WantActions("")
	joined := []string{"j1", "j2", "j3", "j4", "j5", "j6"}
	w.Commit("eve", "more cells", CellFiles("staging", joined...))
	for _, name := range joined {
		w.ReportPending(name)
	}
	w.WantActions("grant 1.0.0 staging j1+j2+j3+j4+j5+j6") // 1.0.0 is finished (R15)
	for _, wave := range []struct {
		after time.Duration
		more  int
	}{{time.Minute, 1}, {time.Minute, 0}, {11 * time.Minute, 2}, {0, 0}, {time.Minute, 3}} {
		for end := w.Now.Add(wave.after); w.Now.Before(end); {
			w.Now = w.Now.Add(time.Minute)
			w.ReportMemory("c00")
			for _, name := range joined {
				w.Report(name, cells.StateHealthy)
			}
		}
		if got := w.Granted(); len(got) != wave.more {
			t.Fatalf("granted %v, want %d more", got, wave.more)
		}
	}
}
