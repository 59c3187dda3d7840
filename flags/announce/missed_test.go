package announce

import (
	"strings"
	"testing"
)

// What was missing when the time came is told in the past, since approvals may come later; the next step is a
// complete command.
func TestMissedIsToldInThePast(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).planUntilSettled()
	w.advanceTo(noon())
	for range 2 {
		st := w.planUntilSettled().Announcements[0]
		if st.State != Missed || strings.Contains(st.Summary, "is missing") ||
			!strings.Contains(st.Summary, "1 approval was missing when its time came, from product") ||
			!strings.HasSuffix(st.Needs, "sluice announce publish news --now") {
			t.Errorf("%s: %q; %q", st.State, st.Summary, st.Needs)
		}
		w.approve("news", "ada")
	}
}
