package engine

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// BenchmarkOneReport measures from one report of 10,000 cells to the view that shows the plan after it.
func BenchmarkOneReport(b *testing.B) {
	d, o := Fleet(b, 100, 10_000, 2_000)
	e, err := New(b.Context(), newBranch(NewWorld(b, nil)), newMemoryStore(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	e.desired = d
	began := time.Now()
	for name, s := range o.Cells {
		s.LastReport, s.HealthySince, s.Skew = began, began.Add(-s.Soaked), rand.N(time.Second)
		s.SetWatched(began)
		e.observations.obs.SetCell(name, s)
	}
	for range 2 { // what the first plan learns counts in the second
		p, _ := e.makePlan()
		plan.Carry(&e.observations.obs, &p)
	}
	names := slices.Sorted(maps.Keys(o.Cells))
	for i := 0; b.Loop(); i++ {
		s := *e.observations.obs.Cells[names[i%len(names)]]
		s.Version++
		s.LastReport = time.Now()
		e.observations.addReported(&s)
		_, v := e.makePlan()
		e.publisher.publish(v)
	}
}
