package plan_test

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// R18: only a move back ignores windows, freezes and holds. On a head that a rollback made, new values and new cells
// wait for them.
func TestRollbackExemptsOnlyWhatGoesBack(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	w.RequestRelease("staging", "1.0.0")
	w.WantActions("rollback 1.0.0 staging")
	w.WantActions("grant 1.0.0 staging s1+s2") // in spite of the rollback's hold
	w.Now = w.Now.Add(time.Minute)
	w.Report("s1", cells.StateHealthy)
	w.Report("s2", cells.StateHealthy)
	w.Commit("eve", "values", map[string]string{
		"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nvalues: {}\nprofile: default\n",
	})
	w.WantActions("")
	w.Commit("eve", "profile", Union(CellFiles("staging", "s3"), map[string]string{
		"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nprofile: small\n"}))
	w.Obs.Cells["s3"] = w.Receive(nil, cells.Report{Cell: "s3", State: cells.StatePending})
	w.WantActions("")
	w.WantBlocked("staging", "hold", "rolled back by hand")
}

// R19: a cell that runs the release already takes no slot.
func TestNoSlotForWhatRunsAlready(t *testing.T) {
	w := One(t, "rollout: {maxInFlight: 1}\n")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1")
	w.ReportFailed("s1", "broken")
	w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	w.WantActions("grant 1.0.0 staging s1+s2")
}

// R14, R19: a cell that hangs while it applies a release is not on its last good one. Taking the cell back takes a
// slot, so that slots count it under later heads too. It is a move back, so no hold stops it (R18).
func TestSlotForWhatIsTakenBack(t *testing.T) {
	w := One(t, "rollout: {maxInFlight: 1, stall: 30m}\n")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1")
	w.Report("s1", cells.StateHealthy)
	w.WantActions("grant 1.1.0 staging s2")
	w.ReportBegun("s2")
	for range 30 {
		w.Now = w.Now.Add(time.Minute)
		w.Report("s1", cells.StateHealthy)
		s2 := w.Obs.Cells["s2"]
		w.Obs.Cells["s2"] = w.Receive(s2, cells.Report{
			Cell: "s2", State: cells.StateApplying, Running: s2.Running, Applying: s2.Applying,
		})
	}
	w.WantActions("") // one stall among two cells does not count (R49)
	w.WantGate("s2", "stalled", "began 1.1.0")
	w.Commit("eve", "stop it", map[string]string{
		"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: it hangs\n",
	})
	w.WantActions("rollback 1.0.0 staging")
	w.Commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"})
	w.WantActions("grant 1.0.0 staging s2") // it has its slot already
	w.WantActions("")
	w.WantGate("s1", "maxInFlight", "at most 1 cell")
	w.Report("s2", cells.StateHealthy)
	w.WantActions("grant 1.0.0 staging s1")
	w.WantActions("")
	w.Report("s1", cells.StateHealthy)
	w.WantActions("")
}

// Invariant 10: a release that only one of several upstreams has gets a verdict that says what it waits for.
func TestOneUpstreamIsBehind(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("east", ""), Policy("west", ""), Policy("prod", "after: [east, west]\n"),
		CellFiles("east", "e1"), CellFiles("west", "w1"), CellFiles("prod", "p1"),
		Release("1.0.0"), Head("east", "1.0.0"), Head("west", "1.0.0"), Head("prod", "1.0.0"),
	)).ReportInstalled()
	w.Settle()
	w.Commit("eve", "hold", map[string]string{"channels/west/holds/x.yaml": "reason: wait\n"})
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.WantBlocked("prod", "after", "west does not run it")
	w.Unhold()
	w.InstallAll()
	p := w.Plan()
	if len(p.Actions) == 0 {
		w.InstallAll()
	}
	w.WantHead("prod", "1.1.0")
}

// R14: an untaken offer lapses when its cell falls silent. Once the cell is back it needs another offer, under what
// binds then.
func TestUntakenOfferLapses(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"})
	for range 6 {
		w.Now = w.Now.Add(time.Minute)
		w.Report("s1", cells.StateHealthy)
		w.Settle()
	}
	s2 := w.Obs.Cells["s2"]
	if s2.Last().Release != "1.0.0" {
		t.Fatalf("s2 is offered %s after its silence", s2.Last().Release)
	}
	w.Obs.Cells["s2"] = w.Receive(s2, cells.Report{Cell: "s2", State: cells.StateHealthy, Running: s2.Running})
	w.WantActions("")
	w.WantBlocked("staging", "hold", "wait")
	w.Unhold()
	w.WantActions("grant 1.1.0 staging s2")
}

// R14: an offer that the cell took does not lapse.
func TestTakenOfferStays(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	s2 := w.Obs.Cells["s2"]
	w.Obs.Cells["s2"] = w.Receive(s2, cells.Report{
		Cell: "s2", State: cells.StateHealthy, Running: s2.Running, Acknowledged: s2.Granted,
	})
	w.Now = w.Now.Add(time.Hour)
	w.Settle()
	if got := w.Obs.Cells["s2"].Last().Release; got != "1.1.0" {
		t.Errorf("s2 is offered %s", got)
	}
}

// R21: a quarantine withdraws untaken offers.
func TestQuarantineWithdrawsOffers(t *testing.T) {
	w := One(t, "onFailure: halt\n")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	s1 := w.Obs.Cells["s1"]
	w.Obs.Cells["s1"] = w.Receive(s1, cells.Report{
		Cell: "s1", State: cells.StateApplying, Running: s1.Running, Applying: s1.Granted, Acknowledged: s1.Granted,
	})
	w.Commit("eve", "stop", map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: leaks\n"})
	w.Settle()
	if got := w.Obs.Cells["s1"].Last().Release; got != "1.1.0" {
		t.Errorf("s1 began 1.1.0 and is offered %s", got)
	}
	if got := w.Obs.Cells["s2"].Last().Release; got != "1.0.0" {
		t.Errorf("s2 is offered %s", got)
	}
}
