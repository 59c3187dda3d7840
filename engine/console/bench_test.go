package console_test

import (
	"encoding/json"
	"testing"

	"github.com/sluice-cd/sluice/engine/console"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// BenchmarkPages measures a page's first rendering after a change, at ten thousand cells in a hundred channels, beside
// encoding the same View's status as JSON.
func BenchmarkPages(b *testing.B) {
	d, o := Fleet(b, 100, 10_000, 100)
	v := &view.View{Desired: d, Observed: o, Plan: plan.Make(d, o, Start)}
	b.Run("status as JSON", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(view.StatusOf(v, view.StatusPage{})); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, a := range map[string]console.Address{"now": {}, "needs": {Kind: console.Needs},
		"fleet":  {Kind: console.Fleet},
		"filter": {Kind: console.Fleet, Filter: "channel:c1* -failing"}, "cell": {Kind: console.Cell,
			Name: "cell-000042"},
		"channel": {Kind: console.Channel, Name: "c42"}, "releases": {Kind: console.Releases},
		"when":   {Kind: console.When},
		"search": {Kind: console.Search, Filter: "42"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				console.Render(console.New(v), a, console.Facts{}).Document()
			}
		})
	}
}
