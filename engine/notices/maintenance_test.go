package notices_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/channels"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
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

// The contacts of a cell are told of its maintenance ahead of time, each in their zone and once a day, however often it
// is put off; with how long it takes. Who has no contacts, or whose maintenance began, gets nothing.
func TestContactsAreToldOfMaintenances(t *testing.T) {
	c := customersOf(cells.Contact{Name: "A. Smith", Email: "ops@acme.example", Zone: "Europe/Berlin"},
		cells.Contact{Name: "B", Email: "b@acme.example"})
	c.desired.Infrastructure = nil
	c.desired.Channels = map[string]*plan.Channel{"dedicated": {
		Valid: &channels.Channel{Maintenance: maintenance.Policy{Maximum: 8 * time.Minute}}}}
	c.desired.Releases = map[string]*plan.Release{}
	c.desired.Cells["bolt"] = &plan.Cell{Cell: cells.Cell{Name: "bolt", Channel: "dedicated"}}
	begins := c.now.Add(90 * time.Minute) // 10:30 UTC on 20 March
	announce := func(release string, begins time.Time) {
		for _, cell := range []string{"acme", "bolt", "gone"} {
			c.observed.Cells[cell] = &plan.CellState{Name: cell, Maintenance: &cells.MaintenanceReport{
				Phase: maintenance.Announced, Release: release, Begins: begins}}
		}
	}
	announce("1.1.0", begins)
	first, _ := c.look()
	toBoth := []string{"mail/ops@acme.example 0 false", "mail/b@acme.example 0 false"}
	if got := targets(first); !slices.Equal(got, toBoth) {
		t.Fatal(got)
	}
	n := first[0].Notice
	text := n.Line() + "\n" + strings.Join(n.Text(), "\n")
	for _, want := range []string{"acme: the update to 1.1.0 takes a maintenance on Friday, 20 March 2026, 11:30 CET",
		"for A. Smith", "in UTC: 2026-03-20T10:30:00Z", "snapshot, start, stop", "at most 8m0s"} {
		if !strings.Contains(text, want) {
			t.Errorf("the letter lacks %q:\n%s", want, text)
		}
	}
	if n.Kind != notices.Maintenance || n.Severity != notices.Info || n.Release != "1.1.0" || first[0].Number != 0 {
		t.Errorf("%+v", n)
	}
	if !strings.Contains(first[1].Notice.Line(), "10:30 UTC") {
		t.Error(first[1].Notice.Line())
	}
	c.want("again")
	announce("1.1.0", begins.Add(time.Hour))
	c.want("put off on the same day")
	c.observed.Cells["s9"] = &plan.CellState{Maintenance: &cells.MaintenanceReport{Totals: maintenance.Totals{Begun: 1,
		Last: &maintenance.Lasted{Release: "1.1.0", Seconds: 65}}}}
	announce("1.1.0", begins.Add(24*time.Hour))
	next, _ := c.look()
	if len(next) != 2 || !slices.Contains(next[0].Notice.Text(), "it lasts about 1m5s, as measured before") {
		t.Errorf("put off to the next day: %+v", next)
	}
	announce("1.2.0", begins)
	c.want("another release", "mail/ops@acme.example 0 false", "mail/b@acme.example 0 false")
	c.subscriptions.Customers = []string{"tickets"}
	c.want("the ticket system", "tickets 0 false", "tickets 0 false")
	announce("1.3.0", c.now)
	c.want("it has begun")
	c.subscriptions.Customers = nil
	announce("1.4.0", begins)
	c.want("nobody is to be told")
}
