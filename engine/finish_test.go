package engine

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// R19: a head that moved before any cell had reported has reached its cells once one runs it well: it can be gone back to.
func TestFirstHeadBeforeAnyReport(t *testing.T) {
	w := newWorld(t, union(
		policy("staging", ""), policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1m}\n"),
		cellFiles("staging", "s1"), cellFiles("dedicated", "acme"), release("1.0.0"),
	))
	w.wantActions("promote 1.0.0 staging") // nobody reported yet
	w.run()
	for range 3 {
		w.now = w.now.Add(time.Minute)
		w.arrive("s1")
		w.settle()
	}
	w.arrive("acme")
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	w.settle()
	w.fails("s1", "it is broken")
	w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
}

// R14, R19: a rollout is through when the cells that are in contact have it. One that fell silent holds nobody up, and
// one that failed within the budget doesn't either.
func TestFinishedWithoutTheSilentAndTheFailed(t *testing.T) {
	for name, part := range map[string]func(*world){
		"silent": func(w *world) { w.wait(10*time.Minute, "dedicated") },
		"failed": func(w *world) {
			w.now = w.now.Add(time.Minute)
			w.fails("s2", "no room")
			w.report("s1", cells.StateHealthy)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoChannels(t, policy("staging", "rollout: {failureBudget: 1}\n")).installed()
			w.settle()
			w.commit("bob", "cut", release("1.1.0"))
			w.wantActions("promote 1.1.0 staging")
			w.wantActions("grant 1.1.0 staging s1+s2")
			part(w)
			w.report("s1", cells.StateHealthy)
			w.settle()
			e := w.desired().Channels["staging"].Effective
			for _, f := range w.obs.Learned.Finished {
				if f.Channel == "staging" && f.Sequence == e.Sequence {
					return
				}
			}
			t.Errorf("%s is not finished: %+v", e.Release, w.obs.Learned.Finished)
		})
	}
}

// R14, fault 56: where none of the cells that a head was for runs it well, those that joined since prove it by waves: one of
// them is not enough for all others.
func TestNotFinishedByFailuresAlone(t *testing.T) {
	w := many(t, 1, "rollout: {waves: [{cells: 2, soak: 10m}, {percent: 50}], failureBudget: 1}\n")
	w.wantActions("grant 1.1.0 staging c00")
	w.fails("c00", "no room")
	w.wantActions("")
	joined := []string{"j1", "j2", "j3", "j4", "j5", "j6"}
	w.commit("eve", "more cells", cellFiles("staging", joined...))
	for _, name := range joined {
		w.pending(name)
	}
	w.wantActions("grant 1.0.0 staging j1+j2+j3+j4+j5+j6") // it is finished (R15)
	for _, wave := range []struct {
		after time.Duration
		more  int
	}{{time.Minute, 1}, {time.Minute, 0}, {11 * time.Minute, 2}, {0, 0}, {time.Minute, 3}} {
		for end := w.now.Add(wave.after); w.now.Before(end); {
			w.now = w.now.Add(time.Minute)
			w.keeps("c00")
			for _, name := range joined {
				w.report(name, cells.StateHealthy)
			}
		}
		if got := w.granted(); len(got) != wave.more {
			t.Fatalf("granted %v, want %d more", got, wave.more)
		}
	}
}
