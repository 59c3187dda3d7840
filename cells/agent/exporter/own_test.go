package exporter_test

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases/export"
)

// What the agent measures of itself leaves as any other metric does, once the owner agreed, and no program can measure
// it in the agent's place.
func TestTheAgentsOwn(t *testing.T) {
	c := newCell(t)
	wish := list(export.AgentHealthy, export.AgentMemory)
	wish.Metrics = append(wish.Metrics, export.Metric{Name: export.AgentEvents, Type: export.Counter,
		Labels: map[string]export.Use{"kind": {As: export.Enum, Values: []string{"failed"}}}})
	if wrong := wish.Check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	failures := func() float64 {
		for _, v := range c.state().Values {
			if v.Metric == export.AgentEvents && v.Labels["kind"] == "failed" {
				return *v.Value
			}
		}
		return -1
	}
	c.NoteState(cells.StateUnhealthy)
	c.CountEvents([]cells.Event{{Kind: "failed"}}) // before the owner agreed
	c.SetWish("1.0.0", &wish)
	c.SetConsent(&cells.ExportConsent{Hold: time.Nanosecond, Allowed: wish})
	c.eventually("the agent's own arrives", func() bool {
		c.measure(export.AgentHealthy, 7)
		return c.last(export.AgentHealthy) == 0 && c.last(export.AgentMemory) > 1<<20 && failures() == 0
	})
	c.NoteState(cells.StateHealthy)
	c.CountEvents([]cells.Event{{Kind: "failed"}, {Kind: "applied"}, {Kind: "failed"}})
	c.eventually("the cell is healthy", func() bool {
		c.measure(export.AgentHealthy, 7)
		return c.last(export.AgentHealthy) == 1 && failures() == 2
	})
}
