package notices_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/notices"
)

// report has a cell report of its maintenances.
func (t *teller) report(cell string, m *cells.MaintenanceReport) {
	s := *t.Obs.Cells[cell]
	s.Maintenance = m
	t.Obs.Cells[cell] = &s
}

// Maintenances are told ahead of time, in one message for a channel's cells; those that began are none. One that
// overran is told at once, and when its update is through.
func TestMaintenances(t *testing.T) {
	p := tellerOf(One(t, ""))
	begins := p.Now.Add(time.Hour)
	for _, cell := range []string{"s1", "s2"} {
		p.report(cell, &cells.MaintenanceReport{Phase: maintenance.Announced, Release: "1.1.0", Begins: begins})
	}
	p.look()
	p.want(notices.Maintenance)
	if n := p.notices[0]; n.Severity != notices.Info || n.Count != 2 || n.Release != "1.1.0" ||
		!strings.Contains(strings.Join(n.Text(), " "), "begins at "+begins.Format("2006-01-02")) {
		t.Errorf("%s", p.text())
	}
	p.report("s1", &cells.MaintenanceReport{Phase: maintenance.Draining, Release: "1.1.0", Begins: begins})
	p.report("s2", &cells.MaintenanceReport{Phase: maintenance.Announced, Release: "1.1.0", Begins: p.Now.Add(-time.Hour)})
	p.pass(time.Hour)
	p.want(notices.Maintenance)
	p.report("s1", &cells.MaintenanceReport{Overran: begins})
	p.look()
	p.want(notices.Maintenance, notices.Overran)
	if n := p.notices[1]; n.Severity != notices.Critical || n.Cells[0] != "s1" {
		t.Errorf("%s", p.text())
	}
	p.report("s1", &cells.MaintenanceReport{Totals: maintenance.Totals{Begun: 1}})
	p.pass(30 * time.Minute)
	p.want(notices.Maintenance, notices.Overran, notices.Overran)
	if n := p.notices[2]; !n.Over {
		t.Errorf("%s", p.text())
	}
}
