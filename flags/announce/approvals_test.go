package announce

import (
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/flags/repository"
)

func TestApprovals(t *testing.T) {
	twice := "approvals: {count: 2}"
	for name, c := range map[string]struct {
		lines   []string
		do      func(w *world)
		count   []string
		armed   bool
		missing string
	}{
		"one with the role":    {do: approveBy("ada"), count: []string{"ada"}, armed: true},
		"one without the role": {do: approveBy("eve"), missing: "1 approval is missing, from product"},
		"two of anybody": {
			lines: []string{twice}, do: approveBy("ada", "eve"), count: []string{"ada", "eve"}, armed: true,
		},
		"one of two": {
			lines: []string{twice}, do: approveBy("eve"), count: []string{"eve"}, missing: "1 approval is missing",
		},
		"none is needed": {
			lines: []string{"approvals: {count: 0}"}, do: func(*world) {}, armed: true,
		},
		"an author's does not count (R22)": {
			do:      inOrder(approveBy("ada"), func(w *world) { w.authors["news"] = []string{"Ada@example.com"} }),
			missing: "1 approval is missing, from product",
		},
		"of an older text": {
			do: inOrder(approveBy("ada"), writeNews("notes: changed")), missing: "1 approval is missing, from product",
		},
		"of other definitions (R42)": {
			do: inOrder(approveBy("ada"), func(w *world) {
				w.putFiles("flags/all.yaml", flagSetYAML(goldRule, "a"))
			}),
			missing: "1 approval is missing, from product",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.putFiles(newsFile, newsYAML(c.lines...))
			c.do(w)
			p := w.planUntilSettled()
			if got := w.record("news", "dedicated") == repository.Armed; got != c.armed {
				t.Errorf("armed: %t", got)
			}
			if st := p.Announcements[0]; !slices.Equal(st.Approvals, c.count) {
				t.Errorf("counted %q, not %q", st.Approvals, c.count)
			}
			if got := p.channelStatus(t, "news", "dedicated").Summary; c.missing != "" && got != c.missing {
				t.Errorf("%q, not %q", got, c.missing)
			}
		})
	}
}

func approveBy(people ...string) func(*world) {
	return func(w *world) { w.approve("news", people...) }
}
