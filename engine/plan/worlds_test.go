package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// midRollout returns a channel of n cells with values. The given first cells run the newest head, and all others wait
// for their wave.
func midRollout(tb testing.TB, n, given int) (*plan.Desired, *plan.Observed) {
	tb.Helper()
	text := "rollout: {waves: [{cells: 1, soak: 30m}, {percent: 50, soak: 2h}, {percent: 100}], maxInFlight: 20}\n"
	domain := "parameters: {domain: {type: string, required: true}, replicas: {type: integer, default: 2}}\n"
	w := NewWorld(tb, Union(Policy("c", text), Release("1.0.0", domain), Head("c", "1.0.0")))
	w.Commit("bob", "cut", Release("1.1.0", domain))
	w.Settle()
	d := w.Desired()
	c := d.Channels["c"]
	for i := range n {
		cell := &plan.Cell{Cell: cells.Cell{
			Name: fmt.Sprintf("cell-%06d", i), Channel: "c",
			Values: map[string]any{"domain": fmt.Sprintf("c%d.example", i), "replicas": 3},
		}}
		d.Cells[cell.Name] = cell
		c.Cells = append(c.Cells, cell)
	}
	old, e := &c.History[0], c.Effective
	o := &plan.Observed{Cells: make(map[string]*plan.CellState, n)}
	o.Learned.Waves = []plan.Through{{Channel: "c", Sequence: e.Sequence, Digest: e.Digest, Wave: 1}}
	o.Learned.Cohorts = []plan.Cohort{{Channel: "c", Sequence: e.Sequence, Since: Start}}
	for i, at := range c.WaveOrder() {
		head := old
		if i < given {
			head = e
		}
		a := plan.Assign(d, c.Cells[at], head, nil)
		o.Cells[c.Cells[at].Name] = &plan.CellState{
			Name: c.Cells[at].Name, Channel: a.Channel, Sequence: a.Sequence, Release: a.Release, Digest: a.Digest,
			State:   cells.StateHealthy,
			Running: &a, Granted: &a, Soaked: time.Hour, HealthySince: w.Now.Add(-time.Hour),
			LastReport: w.Now.Add(-10 * time.Second),
		}
	}
	for _, cell := range c.Cells {
		o.Learned.Cohorts[0].Eligible = append(o.Learned.Cohorts[0].Eligible, cell.Name)
	}
	return d, o
}

// sideBySide returns two independent channels at 1.0.0; alpha comes first in a chain.
func sideBySide(t testing.TB, alpha, beta string, more ...map[string]string) *World {
	return NewWorld(t, Union(append([]map[string]string{
		Policy("alpha", alpha), Policy("beta", beta), CellFiles("alpha", "a1"), CellFiles("beta", "b1"),
		Release("1.0.0"), Head("alpha", "1.0.0"), Head("beta", "1.0.0"),
	}, more...)...)).ReportInstalled()
}

// manyCells returns a channel at 1.0.0 with n cells, c00 and so on, installed and soaked, and with 1.1.0 promoted.
func manyCells(t testing.TB, n int, text string, more ...map[string]string) *World {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("c%02d", i))
	}
	w := NewWorld(t,
		Union(append([]map[string]string{Policy("staging", text), CellFiles("staging", names...), Release("1.0.0"),
			Head("staging", "1.0.0")}, more...)...)).ReportInstalled()
	w.InstallAll()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	return w
}

// slotTakers returns the cells whose offers take a slot of limit.
func slotTakers(a plan.Action, limit int) (names []string) {
	for _, o := range a.Offers {
		switch o.Cap {
		case 0:
		case limit:
			names = append(names, o.Cell)
		default:
			names = append(names, fmt.Sprintf("%s with a cap of %d", o.Cell, o.Cap))
		}
	}
	return names
}

func hotfixFile(channel, version, more string) map[string]string {
	return map[string]string{
		"channels/" + channel + "/hotfixes/" + version + ".yaml": "digest: @digest:" + version +
			"\nreason: CVE-1\nexpiry: 2026-11-23T12:00:00Z\n" + more,
	}
}
