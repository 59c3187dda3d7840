package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

var sink plan.Plan

func BenchmarkMake(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		d, o := Fleet(b, 100, n, 2_000)
		b.Run(fmt.Sprintf("cells=%d", n), func(b *testing.B) {
			for b.Loop() {
				sink = plan.Make(d, o, Start)
			}
		})
		names := slices.Sorted(maps.Keys(o.Cells))
		b.Run(fmt.Sprintf("cells=%d/remembered", n), func(b *testing.B) {
			var memory plan.Memory
			for range 2 { // what the first plan learns counts in the second
				sink = memory.Make(d, o, Start)
				plan.Carry(o, &sink)
			}
			for i := 0; b.Loop(); i++ { // one cell has reported
				s := *o.Cells[names[i%n]]
				o.Replaced = []string{}
				o.SetCell(s.Name, &s)
				sink = memory.Make(d, o, Start)
			}
		})
	}
}

// BenchmarkRollout compares a plan in mid-rollout, with thousands of cells that wait for their wave, with a plan of the
// same cells at rest.
func BenchmarkRollout(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		for _, at := range []struct {
			name  string
			given int
		}{{"idle", n}, {"waiting", n / 2}} {
			d, o := midRollout(b, n, at.given)
			b.Run(fmt.Sprintf("cells=%d/%s", n, at.name), func(b *testing.B) {
				for b.Loop() {
					sink = plan.Make(d, o, Start)
				}
				b.ReportMetric(float64(len(sink.Blocked)), "verdicts")
			})
		}
	}
}
