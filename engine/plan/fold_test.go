package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// R9: soak is the sum of gaps between reports, by the time of receipt. Silence and bad health end it.
func TestReceiveCountsSoak(t *testing.T) {
	a := &cells.Assignment{Channel: "staging", Sequence: 1, Release: "1.0.0", Digest: "sha256:a"}
	b := &cells.Assignment{Channel: "staging", Sequence: 2, Release: "1.1.0", Digest: "sha256:b"}
	revised := *a
	revised.Revision = "other"
	report := func(running *cells.Assignment, state cells.State) cells.Report {
		return cells.Report{Cell: "s1", State: state, Running: running}
	}
	for name, c := range map[string]struct {
		gap  time.Duration
		then cells.Report
		want time.Duration
	}{
		"goes on":      {time.Minute, report(a, cells.StateHealthy), 2 * time.Minute},
		"within limit": {5 * time.Minute, report(a, cells.StateHealthy), 6 * time.Minute},
		"silence":      {5*time.Minute + 1, report(a, cells.StateHealthy), 0},
		"illness":      {time.Minute, report(a, cells.StateUnhealthy), 0},
		"other digest": {time.Minute, report(b, cells.StateHealthy), 0},
		"other values": {time.Minute, report(&revised, cells.StateHealthy), 0},
		"lying clock": {
			time.Minute,
			cells.Report{Cell: "s1", State: cells.StateHealthy, Running: a, Sent: time.Now().AddDate(0, 0, 2)},
			2 * time.Minute,
		},
		"nothing there": {time.Minute, report(nil, cells.StatePending), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := plan.Receive(nil, report(a, cells.StateHealthy), time.Now(), 5*time.Minute)
				time.Sleep(time.Minute)
				s = plan.Receive(s, report(a, cells.StateHealthy), time.Now(), 5*time.Minute)
				time.Sleep(c.gap)
				s = plan.Receive(s, c.then, time.Now(), 5*time.Minute)
				if s.Soaked != c.want {
					t.Errorf("soaked %s, want %s", s.Soaked, c.want)
				}
			})
		})
	}
}

// R9: what the soak leaves out is noted with its cause, a stretch that goes on as one, and no more than a few of them.
func TestR9GapsAreNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &cells.Assignment{Channel: "staging", Sequence: 1, Release: "1.0.0", Digest: "sha256:a"}
		report := func(s *plan.CellState, after time.Duration, state cells.State,
			running *cells.Assignment) *plan.CellState {
			time.Sleep(after)
			return plan.Receive(s, cells.Report{Cell: "s1", State: state, Running: running}, time.Now(), 5*time.Minute)
		}
		s := report(nil, 0, cells.StateHealthy, a)
		begun := time.Now()
		s = report(s, time.Minute, cells.StateHealthy, a)
		if len(s.Gaps) != 0 {
			t.Errorf("what counts is a gap: %v", s.Gaps)
		}
		s = report(s, 10*time.Minute, cells.StateHealthy, a)
		s = report(s, time.Minute, cells.StateUnhealthy, a)
		s = report(s, time.Minute, cells.StateUnhealthy, a)
		s = report(s, time.Minute, cells.StateHealthy, a)
		stored := plan.CellState{ // by another process: none listened since
			Name: s.Name, Digest: s.Digest, State: s.State, Running: s.Running, Gaps: s.Gaps,
			HealthySince: s.HealthySince.Round(0), LastReport: s.LastReport.Round(0)}
		s = report(&stored, 3*time.Minute, cells.StateHealthy, a)
		minute := func(n int) time.Time { return begun.Add(time.Duration(n) * time.Minute) }
		want := []plan.Gap{{From: minute(1), Until: minute(11), Cause: plan.GapSilent},
			{From: minute(12), Until: minute(14), Cause: plan.GapUnhealthy},
			{From: minute(14), Until: minute(17), Cause: plan.GapUnwatched}}
		if !slices.EqualFunc(s.Gaps, want, func(a, b plan.Gap) bool {
			return a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Cause == b.Cause
		}) {
			t.Errorf("noted\n%v\nwant\n%v", s.Gaps, want)
		}
		for range 20 {
			s = report(report(s, 6*time.Minute, cells.StateHealthy, a), time.Minute, cells.StateHealthy, a)
		}
		if len(s.Gaps) > 8 {
			t.Errorf("%d gaps", len(s.Gaps))
		}
		b := &cells.Assignment{Channel: "staging", Sequence: 2, Release: "1.1.0", Digest: "sha256:b"}
		if s = report(s, time.Minute, cells.StateHealthy, b); len(s.Gaps) != 0 {
			t.Errorf("of another release: %v", s.Gaps)
		}
	})
}

// Fault 15: a stored instant has no monotonic reading. Over a restart the soak pauses, and never shrinks.
func TestReceivePausesOverARestart(t *testing.T) {
	a := &cells.Assignment{Channel: "staging", Sequence: 1, Release: "1.0.0", Digest: "sha256:a"}
	r := cells.Report{Cell: "s1", State: cells.StateHealthy, Running: a}
	now := time.Now()
	kept := &plan.CellState{Name: "s1", State: cells.StateHealthy, Digest: a.Digest, Running: a, Soaked: time.Hour,
		// the wall clock was set back since
		HealthySince: now.Add(-time.Hour).Round(0), LastReport: now.Add(time.Minute).Round(0)}
	if s := plan.Receive(kept, r, now, 5*time.Minute); s.Soaked != time.Hour {
		t.Errorf("soaked %s", s.Soaked)
	}
}

// Faults 16 and 17: Skew is the cell's clock minus ours.
func TestReceiveShowsSkew(t *testing.T) {
	now := time.Now()
	for _, off := range []time.Duration{48 * time.Hour, -365 * 24 * time.Hour} {
		s := plan.Receive(nil, cells.Report{Cell: "s1", State: cells.StateHealthy, Sent: now.Add(off).Round(0)},
			now, time.Minute)
		if d := s.Skew - off; d.Abs() > time.Millisecond {
			t.Errorf("skew %s, want %s", s.Skew, off)
		}
	}
}

// R34: what a cell was granted in channels that it has left stays known over later reports, at most maxLeft of it. What
// the cell only reports does not count.
func TestWhatACellLeft(t *testing.T) {
	a := func(channel, digest string) cells.Assignment {
		return cells.Assignment{Channel: channel, Digest: releases.Digest(digest), Release: "1.0.0"}
	}
	s := plan.WithGrant(nil, plan.Granted{Cell: "acme", Assignment: a("staging", "d1")})
	s = plan.WithGrant(s, plan.Granted{Assignment: a("staging", "d2")})
	if len(s.Left) != 0 {
		t.Errorf("it never moved, and left %v", s.Left)
	}
	said := a("secret", "d9")
	s = plan.Receive(s, cells.Report{Cell: "acme", State: cells.StateHealthy, Running: &said}, Start, time.Minute)
	for i, channel := range []string{"dedicated", "staging", "dedicated", "staging", "dedicated"} {
		s = plan.Receive(plan.WithGrant(s, plan.Granted{Assignment: a(channel, fmt.Sprint("m", i))}),
			cells.Report{Cell: "acme", State: cells.StateHealthy, Running: &said}, Start, time.Minute)
	}
	if want := []releases.Digest{"m0", "m1", "m2", "m3"}; !slices.Equal(s.Left, want) {
		t.Errorf("it left %v, want %v", s.Left, want)
	}
}

// R9: between replicas whose clocks differ by less than a second, no time is lost and none counts twice.
func TestReceiveAcrossClocks(t *testing.T) {
	a := &cells.Assignment{Channel: "staging", Sequence: 1, Release: "1.0.0", Digest: "sha256:a"}
	r := cells.Report{Cell: "s1", Boot: "b", State: cells.StateHealthy, Running: a}
	const ahead = 700 * time.Millisecond
	var s *plan.CellState
	for i := range 100 { // every 200 ms, at one replica and the other by turns
		at := Start.Add(time.Duration(i) * 200 * time.Millisecond)
		if i%2 == 1 {
			at = at.Add(ahead)
		}
		if s != nil {
			s = s.Stored() // another replica received it
			s.SetWatched(Start)
		}
		s, _, _ = plan.ReportArrival{At: at, Local: at}.Fold(s, &r, 5*time.Minute)
	}
	if waited := 99 * 200 * time.Millisecond; s.Soaked < waited-time.Second || s.Soaked > waited+ahead {
		t.Errorf("soaked %s in %s", s.Soaked, waited)
	}
	s = s.Stored()
	s.SetWatched(Start)
	if s, _, _ = (plan.ReportArrival{At: s.LastReport.Add(-2 * time.Second), Local: Start}).Fold(s, &r,
		5*time.Minute); s.Soaked != 0 {
		t.Errorf("soaked %s by a clock that went back", s.Soaked)
	}
}
