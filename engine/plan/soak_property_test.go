package plan_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// replica holds what one replica knows of a cell: the row as this replica last read or wrote it.
type replica struct {
	off   time.Duration // error of its estimate of the store's clock
	up    time.Time     // since when it listens, by the store's clock
	known *plan.CellState
}

func (r *replica) arrival(t time.Time) plan.ReportArrival {
	return plan.ReportArrival{At: t.Add(r.off).Round(0), Local: t}
}

// readRow takes over the row as another replica wrote it.
func (r *replica) readRow(row *plan.CellState) {
	if row == nil || r.known != nil && r.known.Version == row.Version {
		return
	}
	c := row.Stored()
	c.SetWatched(r.up)
	r.known = c
}

// R9: however reports go from replica to replica, whose clocks differ a little, and however late news arrives, the soak
// is never more than the true healthy time, except once for the difference of the clocks.
func TestSoakIsNeverMoreThanTheTruth(t *testing.T) {
	const stale = 5 * time.Minute
	rapid.Check(t, func(t *rapid.T) {
		now := Start
		ms := func(name string, from, to int) time.Duration {
			return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Millisecond
		}
		all := []*replica{{off: ms("off a", -450, 450), up: now}, {off: ms("off b", -450, 450), up: now}}
		var row *plan.CellState
		var truth time.Duration
		var before struct {
			at      time.Time
			healthy bool
			digest  releases.Digest
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				now = now.Add(ms("long", 0, 400_000))
			case 1: // the replica restarts, and reads the row
				r := rapid.SampledFrom(all).Draw(t, "again")
				*r = replica{off: r.off, up: now.Add(r.off)}
				r.readRow(row)
			case 2: // the replica hears of the newest row
				rapid.SampledFrom(all).Draw(t, "told").readRow(row)
			default:
				now = now.Add(ms("short", 1, 40_000))
			}
			rep := cells.Report{
				Cell: "s1", Boot: "b", State: cells.StateHealthy,
				Running: &cells.Assignment{Channel: "staging", Sequence: 1, Release: "1.0.0", Digest: "sha256:a"},
			}
			if rapid.IntRange(0, 19).Draw(t, "ill") == 0 {
				rep.State = cells.StateUnhealthy
			}
			if rapid.IntRange(0, 29).Draw(t, "other") == 0 {
				rep.Running.Digest = "sha256:b"
			}
			to := rapid.SampledFrom(all).Draw(t, "to")
			s, _, _ := to.arrival(now).Fold(to.known, &rep, stale)
			if row != nil && s.Version != row.Version+1 || row == nil && s.Version != 1 {
				to.readRow(row)
				s, _, _ = to.arrival(now).Fold(to.known, &rep, stale)
			}
			row, to.known = s, s
			healthy, gap := rep.State == cells.StateHealthy, now.Sub(before.at)
			switch {
			case !healthy || !before.healthy || before.digest != rep.Running.Digest:
				truth = 0
			case gap <= stale+plan.ClockTolerance: // else the cell was silent, or no replica was listening
				truth += gap
			}
			before.at, before.healthy, before.digest = now, healthy, rep.Running.Digest
			if s.Soaked > truth+plan.ClockTolerance {
				t.Fatalf("soaked %s of %s", s.Soaked, truth)
			}
		}
	})
}
