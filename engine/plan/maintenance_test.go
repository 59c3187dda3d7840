package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/reason"
)

// withServer is the part of a release.yaml about a component that takes a maintenance.
func withServer(image string) string {
	return "components:\n  - {name: server, maintenance: true, image: \"r.example/s@sha256:" +
		strings.Repeat(image, 64) + "\"}\n"
}

// reportMaintenance makes a cell that runs what it ran say what it does about maintenances.
func reportMaintenance(w *World, name string, m cells.MaintenanceReport) {
	prev := w.Obs.Cells[name]
	w.Obs.Cells[name] = w.Receive(prev, cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: cells.StateHealthy,
		Running: prev.Running, Acknowledged: prev.Granted, Maintenance: &m})
}

// expected returns what a plan says of maintenances, by kind of action.
func expected(p plan.Plan) string {
	var all []string
	for _, a := range p.Actions {
		if a.Maintenance != nil {
			all = append(all, fmt.Sprint(a.Kind, " ", a.Release, ": ", a.Maintenance))
		}
	}
	return strings.Join(all, "; ")
}

// A plan says how many cells an action brings a maintenance, and how long it takes: at most as long as the policy lets
// it, or as long as it took in cells that went through it. The way back takes one too; an unmarked change takes none.
func TestPlanExpectsMaintenances(t *testing.T) {
	w := NewWorld(t, Union(Policy("staging", "maintenance: {maximum: 8m}\n"),
		Policy("dedicated", "after: [staging]\nmaintenance: {maximum: 20m}\n"), CellFiles("staging", "s1", "s2", "s3"),
		CellFiles("dedicated", "acme", "bolt"), Release("1.0.0", withServer("a")), Head("staging", "1.0.0"),
		Head("dedicated", "1.0.0"))).ReportInstalled()
	w.InstallAll()
	want := func(what, want string) {
		t.Helper()
		got := expected(w.Run())
		for range 5 { // acceptances and ends of rollouts come first
			if got == want {
				break
			}
			got = expected(w.Run())
		}
		if got != want {
			t.Fatalf("%s: %q, want %q", what, got, want)
		}
	}
	w.Commit("bob", "cut", Release("1.1.0", withServer("a")))
	want("nothing marked changes", "")
	w.InstallAll()
	w.InstallAll() // downstream
	w.Commit("bob", "cut", Release("1.2.0", withServer("b")))
	want("nobody measured it", "promote 1.2.0: 3 cells by a maintenance of at most 8m0s")
	want("granted", "grant 1.2.0: 3 cells by a maintenance of at most 8m0s")
	for name, took := range map[string]int64{"s1": 40, "s2": 95, "s3": 61} {
		w.Report(name, cells.StateHealthy)
		w.Obs.Cells[name].Maintenance = &cells.MaintenanceReport{Totals: maintenance.Totals{Begun: 1, Seconds: took,
			Last: &maintenance.Lasted{Release: "1.2.0", Seconds: took}}}
	}
	w.Obs.Cells["acme"].Maintenance = &cells.MaintenanceReport{Totals: maintenance.Totals{Begun: 1,
		Last: &maintenance.Lasted{Release: "1.1.0", Seconds: 9}}}
	want("measured upstream", "promote 1.2.0: 2 cells by a maintenance of about 1m1s, as in 3 cells before")
	w.InstallAll()
	w.InstallAll()
	w.RequestRelease("staging", "1.1.0")
	want("the way back", "rollback 1.1.0: 3 cells by a maintenance of at most 8m0s")
}

// A cell that has its grant and waits for its maintenance has a verdict, with when it may go on by time alone.
func TestVerdictsOfMaintenances(t *testing.T) {
	w := One(t, "", Release("1.0.0", withServer("a")))
	w.Commit("bob", "cut", Release("1.1.0", withServer("b")))
	w.Settle()
	begins, until := w.Now.Add(time.Hour), w.Now.Add(2*time.Hour)
	find := func() string {
		for _, b := range w.Plan().Blocked {
			if b.Gate == "maintenance" {
				return fmt.Sprint(b.Cell, " ", b.Release, " ", b.Code, " ", b.Until.Sub(w.Now).Round(time.Minute))
			}
		}
		return ""
	}
	for _, c := range []struct {
		report cells.MaintenanceReport
		want   string
	}{
		{cells.MaintenanceReport{Phase: maintenance.Announced, Release: "1.1.0", Begins: begins},
			"s1 1.1.0 maintenance-announced 1h0m0s"},
		{cells.MaintenanceReport{Phase: maintenance.Draining, Release: "1.1.0", Begins: begins, Until: until},
			"s1 1.1.0 maintenance-draining 2h0m0s"},
		{cells.MaintenanceReport{Totals: maintenance.Totals{Begun: 1}}, ""},
	} {
		reportMaintenance(w, "s1", c.report)
		if got := find(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.report, got, c.want)
		}
	}
	// A cell's clock that is off is taken into account.
	reportMaintenance(w, "s1", cells.MaintenanceReport{Phase: maintenance.Announced, Release: "1.1.0",
		Begins: begins.Add(24 * time.Hour)})
	w.Obs.Cells["s1"].Skew = 24 * time.Hour
	if got := find(); got != "s1 1.1.0 "+reason.MaintenanceAnnounced.String()+" 1h0m0s" {
		t.Error(got)
	}
	w.Report("s1", cells.StateHealthy)
	if got := find(); got != "" {
		t.Errorf("it runs it: %s", got)
	}
}
