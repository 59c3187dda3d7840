package console_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/adoption"
	"github.com/sluice-cd/sluice/engine/console"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/view"
)

// The curves of an adoption say by day which release how many cells ran; time in which nobody counted is not drawn.
func TestAdoption(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	m := console.New(viewOf(w))
	day := 24 * time.Hour
	s := &adoption.Series{Kinds: []adoption.Kind{{Release: "1.0.0", Condition: view.ConditionHealthy},
		{Release: "1.1.0", Condition: view.ConditionHealthy}, {Release: "1.1.0", Condition: view.ConditionFailing},
		{Condition: view.ConditionNew}}, Until: Start,
		Samples: []adoption.Sample{{At: Start.Add(-5 * day), Counts: []int{4, 0, 0, 1}},
			{At: Start.Add(-3 * day), Counts: []int{2, 1, 1, 1}}, {At: Start.Add(-2 * day)},
			{At: Start.Add(-1 * day), Counts: []int{0, 5}}}}
	render := func(a console.Address, s *adoption.Series) string {
		return string(console.Render(m, a, console.Facts{Adoption: s}).Document())
	}
	for _, a := range []console.Address{{Kind: console.Fleet}, {Kind: console.Channel, Name: "staging"}} {
		page := render(a, s)
		wantSays(t, page, a.String(), "Adoption over 30 days", "5 cells", "nothing installed", "As a table",
			"20 Nov 1 2 2 1", "21 Nov unknown unknown unknown unknown", "23 Nov 0 0 5 0")
		if n := strings.Count(page, `class="layer hue-`); n != 3 {
			t.Errorf("%s has %d layers, want 3", a, n)
		}
		if n := strings.Count(page[strings.Index(page, `class="layer hue-0"`):], "M"); n < 2 {
			t.Errorf("%s has no gap: %d parts", a, n)
		}
	}
	if page := render(console.Address{Kind: console.Fleet, Filter: "failing"}, s); strings.Contains(page, "Adoption") {
		t.Error("the curve of all cells is beside a filter")
	}
	if page := render(console.Address{Kind: console.Fleet}, nil); strings.Contains(page, "Adoption") {
		t.Error("there is a curve of nothing")
	}
}
