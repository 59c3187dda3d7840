package plan_test

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// exporting returns a world whose staging runs 1.1.0, which dedicated takes if what staging's cells exported is good.
func exporting(t *testing.T, more string) *World {
	t.Helper()
	w := NewWorld(t, Union(Policy("staging", ""), CellFiles("staging", "s1", "s2"), CellFiles("dedicated", "acme"),
		Policy("dedicated", "after: [staging]\ngates:\n  - metric: {exported: errors, below: 0.01}\n"+more),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"))).ReportInstalled()
	w.InstallAll()
	w.CutAndInstall("staging", "1.1.0")
	return w
}

// asked returns what the plan wants to know of a gate; nil: nothing.
func asked(p plan.Plan, gate string) *plan.Probe {
	for i := range p.Wants {
		if p.Wants[i].Gate == gate {
			return &p.Wants[i]
		}
	}
	return nil
}

// R11: a metric that cells export is asked of the upstream's cells that are healthy on the release, since when each is,
// by the engine's clock. Where there is none, nothing is asked, and the verdict says so.
func TestR11ExportedMetricAsksHealthyCells(t *testing.T) {
	w := exporting(t, "")
	p := w.Plan()
	probe := asked(p, "metric")
	if probe == nil || len(probe.Cells) != 2 || probe.Cells[0].Name != "s1" || probe.Cells[1].Name != "s2" ||
		!probe.Cells[0].Since.Equal(w.Obs.Cells["s1"].HealthySince) || probe.Channel != "dedicated" ||
		probe.Release != "1.1.0" {
		t.Fatalf("the plan wants %+v", p.Wants)
	}
	w.WantBlocked("dedicated", "metric", "")
	w.Report("s2", cells.StateUnhealthy)
	if probe = asked(w.Plan(), "metric"); probe == nil || len(probe.Cells) != 1 || probe.Cells[0].Name != "s1" {
		t.Errorf("with one unhealthy cell, the plan wants %+v", probe)
	}
	w.Report("s1", cells.StateUnhealthy)
	if probe = asked(w.Plan(), "metric"); probe != nil {
		t.Errorf("without a healthy cell, the plan wants %+v", probe)
	}
	w.WantBlocked("dedicated", "metric", "no cell of staging is healthy on 1.1.0")
	w.Report("s1", cells.StateHealthy)
	w.Now = w.Now.Add(time.Hour) // without a report: the cells are out of contact
	if probe = asked(w.Plan(), "metric"); probe != nil {
		t.Errorf("without contact, the plan wants %+v", probe)
	}
	w.WantBlocked("dedicated", "metric", "no cell of staging is healthy on 1.1.0")
}

// R11: a good answer of before does not hold while no cell is healthy on the release: there is nothing to go by.
func TestR11ExportedMetricOfNoCell(t *testing.T) {
	w := exporting(t, "")
	probe := asked(w.Plan(), "metric")
	if probe == nil {
		t.Fatal("the plan asks nothing")
	}
	w.Obs.Observations = append(w.Obs.Observations, plan.Observation{Channel: probe.Channel, Gate: probe.Gate,
		Subject: string(probe.Subject), Policy: probe.Policy, Holds: true, Value: "errors within the bounds",
		ObservedAt: w.Now, ValidUntil: w.Now.Add(time.Hour)})
	for _, name := range []string{"s1", "s2"} {
		w.Report(name, cells.StateUnhealthy)
	}
	w.WantActions("")
	w.WantBlocked("dedicated", "metric", "no cell of staging is healthy on 1.1.0")
	w.Report("s1", cells.StateHealthy)
	w.WantActions("promote 1.1.0 dedicated")
}

// R17: no cell of an upstream need run a hotfix, so a metric that cells export does not keep it back; other gates that
// ask outside do.
func TestR17HotfixSkipsExportedMetric(t *testing.T) {
	lane := func(more string) *World {
		w := exporting(t, more)
		w.Commit("bob", "cut", Release("1.1.1"))
		w.Commit("eve", "lane", hotfixFile("dedicated", "1.1.1", ""))
		return w
	}
	w := lane("")
	p := w.WantActions("promote 1.1.1 staging; promote 1.1.1 dedicated")
	if probe := asked(p, "metric"); probe != nil && probe.Release == "1.1.1" {
		t.Errorf("the plan wants %+v", probe)
	}
	w = lane("  - check: {url: \"https://checks.example/{release}\"}\n")
	p = w.WantActions("promote 1.1.1 staging")
	if probe := asked(p, "check"); probe == nil || probe.Release != "1.1.1" || probe.Cells != nil {
		t.Errorf("the plan wants %+v", p.Wants)
	}
	blocked := false
	for _, v := range p.Blocked {
		blocked = blocked || v.Channel == "dedicated" && v.Release == "1.1.1" && v.Gate == "check"
		if v.Release == "1.1.1" && v.Gate == "metric" {
			t.Errorf("the metric keeps the hotfix back: %s", v.String())
		}
	}
	if !blocked {
		t.Errorf("the check does not keep the hotfix back: %v", p.Blocked)
	}
}
