package engine

import (
	"math/rand/v2"
	"slices"
	"strconv"
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
		o.Cells["s1"] = &plan.CellState{LastReport: time.Now(), Skew: time.Second, Granted: &cells.Assignment{}}
		o.Cells["s1"].SetWatched(time.Now())
		if c := k.judge(time.Now(), time.Now(), o); c.Step != 0 {
			t.Fatalf("step %s, and the cells agree", c.Step)
		}
	})
}

// R10, R49: only more than half of the cells that were granted something can cast doubt on time.
func TestHalfOfTheClocks(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		skews   []time.Duration // of cells with a grant
		without int             // cells without one, two hours ahead
		want    time.Duration
	}{
		"one of two":          {[]time.Duration{0, 2 * time.Minute}, 0, 0},
		"one of two, behind":  {[]time.Duration{time.Second, -2 * time.Minute}, 0, time.Second},
		"two of four":         {[]time.Duration{0, 1, 2 * time.Minute, 2 * time.Minute}, 0, 1},
		"two of three":        {[]time.Duration{0, 2 * time.Minute, 3 * time.Minute}, 0, 2 * time.Minute},
		"all of two":          {[]time.Duration{2 * time.Minute, 3 * time.Minute}, 0, 2 * time.Minute},
		"strangers":           {[]time.Duration{0, 1}, 9, 0},
		"strangers are alone": {nil, 9, 0},
	} {
		o := &plan.Observed{Cells: map[string]*plan.CellState{}}
		add := func(skew time.Duration, granted *cells.Assignment) {
			s := &plan.CellState{LastReport: now.Add(time.Second), Skew: skew, Granted: granted}
			s.SetWatched(now)
			o.Cells[strconv.Itoa(len(o.Cells))] = s
		}
		for _, skew := range c.skews {
			add(skew, &cells.Assignment{})
		}
		for range c.without {
			add(2*time.Hour, nil)
		}
		if got, _ := medianSkew(o, now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
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
	endSilentSoaks(&plan.Observed{Cells: all}, 5*time.Minute)
	for name, want := range map[string]time.Duration{"s1": time.Hour, "s2": 0} {
		s := plan.Receive(all[name], cells.Report{Cell: name, State: cells.StateHealthy, Running: a}, now,
			5*time.Minute)
		if s.Soaked != want {
			t.Errorf("%s soaked %s, want %s", name, s.Soaked, want)
		}
	}
}

// The selected element is that of the sorted list, and nothing before it is greater.
func TestSelectNth(t *testing.T) {
	for size := 1; size < 60; size++ {
		for _, values := range []int{1, 2, size, 10 * size} { // few are the same many times
			all := make([]time.Duration, size)
			for i := range all {
				all[i] = rand.N(time.Duration(values))
			}
			sorted := slices.Sorted(slices.Values(all))
			for n := range all {
				got := selectNth(all, n)
				if got != sorted[n] || slices.Max(all[:n+1]) != got ||
					!slices.Equal(slices.Sorted(slices.Values(all)), sorted) {
					t.Fatalf("element %d of %v is %s, of %v", n, sorted, got, all)
				}
			}
		}
	}
}
