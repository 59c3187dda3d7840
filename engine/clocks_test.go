package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// R10: a step of the wall clock is detected, and forgiven once cells agree with the new time.
func TestClockSeesSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newStepDetector(time.Now())
		k.baseWall = k.baseWall.Add(-2 * time.Minute) // a step of the wall clock since then
		o := &plan.Observed{Cells: map[string]*plan.CellState{}}
		time.Sleep(time.Second)
		if c := k.judge(time.Now(), time.Now(), o); c.Step < 119*time.Second {
			t.Fatalf("step %s", c.Step)
		}
		time.Sleep(time.Second)
		o.Cells["s1"] = &plan.CellState{LastReport: time.Now(), Skew: time.Second}
		o.Cells["s1"].SetWatched(time.Now())
		if c := k.judge(time.Now(), time.Now(), o); c.Step != 0 {
			t.Fatalf("step %s, and the cells agree", c.Step)
		}
	})
}

// R10: a step of this machine's clock is detected before its time is used.
func TestTimeIsDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Engine{publisher: newPublisher(), clocks: &clocks{singleProcess: func() bool { return true },
			detector: newStepDetector(time.Now())}}
		if now, doubt := e.TrustedTime(); !now.Equal(time.Now()) || doubt != "" {
			t.Errorf("%s, doubted: %q", now, doubt)
		}
		e.clocks.detector.baseWall = e.clocks.detector.baseWall.Add(-48 * time.Hour) // a step back since then
		time.Sleep(time.Minute)
		if _, doubt := e.TrustedTime(); !strings.Contains(doubt, "stepped by 48h") {
			t.Errorf("doubted: %q", doubt)
		}
	})
}

// R9: a restart pauses the soak of cells that reported until then, and forgives no earlier silence.
func TestRestartForgivesNoSilence(t *testing.T) {
	a := &cells.Assignment{Channel: "staging", Sequence: 1, Release: "1.0.0", Digest: "sha256:a"}
	now := time.Now()
	kept := func(name string, ago time.Duration) *plan.CellState {
		return &plan.CellState{Name: name, State: cells.StateHealthy, Digest: a.Digest, Running: a, Soaked: time.Hour,
			HealthySince: now.Add(-ago - time.Hour).Round(0), LastReport: now.Add(-ago).Round(0)}
	}
	// The process was down for an hour.
	all := map[string]*plan.CellState{"s1": kept("s1", time.Hour), "s2": kept("s2", 48*time.Hour)}
	endSilentSoaks(all, 5*time.Minute)
	for name, want := range map[string]time.Duration{"s1": time.Hour, "s2": 0} {
		s := plan.Receive(all[name], cells.Report{Cell: name, State: cells.StateHealthy, Running: a}, now,
			5*time.Minute)
		if s.Soaked != want {
			t.Errorf("%s soaked %s, want %s", name, s.Soaked, want)
		}
	}
}
