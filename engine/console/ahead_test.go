package console_test

import "testing"

// When shows the plan as it would be: a soak that is over then has let its release through, and one that is not waits.
func TestThePlanAsItWouldBe(t *testing.T) {
	w := soakingWorld(t)
	v := viewOf(w)
	made, cells := len(v.Plan.Actions), *v.Observed.Cells["s1"]
	wantSays(t, render(v, "/ui/when?q=30m"), "half an hour ahead", "The engine would do nothing",
		"What would still wait", "soak staging: 0 of 2 cells healthy for 1h", "To the next change by time")
	for _, q := range []string{"2h", "1d", "2026-11-24T09:30:00Z"} {
		wantSays(t, render(v, "/ui/when?q="+q), q, "What the engine would do",
			"promote 1.1.0 dedicated soak held, 2 of 2 cells healthy")
	}
	for _, q := range []string{"soon", "-3h", "93d", "2020-01-01T00:00:00Z", "0h", "999999d", "<b>"} {
		wantSays(t, render(v, "/ui/when?q="+q), q, "is no instant within the next 92 days")
	}
	if after := *v.Observed.Cells["s1"]; len(v.Plan.Actions) != made || after.Soaked != cells.Soaked ||
		!after.LastReport.Equal(cells.LastReport) {
		t.Error("looking ahead changes what is so")
	}
}
