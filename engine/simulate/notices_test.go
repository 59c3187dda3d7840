package simulate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// R62: the whole ladder for 200 cells on virtual time, by the real planner. Nobody is held before the deadline, overdue
// cells get none of the later heads, those that execute the update get the newest head within a report, and the
// rollouts wait for nobody.
func TestR62LadderOf200SimulatedCells(t *testing.T) {
	const day = 24 * time.Hour
	in := repositoryOf(t, union(policy("c", ""), releaseFiles("1.0.0"), map[string]string{
		"infrastructure/8/infrastructure.yaml": "apiVersion: sluice/v1\nkind: Infrastructure\nnumber: 8\n" +
			"notes: newer nodes\nimpact: none\norder: [instance]\n",
		"infrastructure/8/instance.yaml": "Resources: {}\n",
	}))
	in.For = 40 * day
	var b strings.Builder
	b.WriteString("cells: {add: {c: 200}}\noutages: [{every: 10d, for: 2h}]\n" +
		"notices:\n" +
		"  - {at: 1d, number: 8, of: {cells: [c-001, c-002, c-003, c-004, c-005]}}\n" + // they never execute it
		"  - {at: 1d, number: 8, executed: {min: 1h, max: 20d}}\n" +
		"releases:\n")
	cuts := map[string]time.Time{}
	for i := range 12 {
		version := fmt.Sprintf("1.%d.0", i+1)
		cuts[version] = begin.Add(time.Duration(3*i+2) * day)
		fmt.Fprintf(&b, "  - {at: %dd, version: %s}\n", 3*i+2, version)
	}
	in.Scenario = scenarioOf(t, b.String())
	r := runInput(t, in)

	due := begin.Add(15 * day)
	never := []string{"c-001", "c-002", "c-003", "c-004", "c-005"}
	late := map[string]bool{}
	for _, a := range r.Arrivals {
		if slices.Contains(never, a.Cell) && !a.Granted.Before(due) {
			t.Errorf("%s is out of support since %s, and was granted %s at %s", a.Cell, due, a.Release, a.Granted)
		}
		// what is granted long after its cut was held until the update was executed
		if cut, known := cuts[a.Release]; known && cut.After(due) && a.Granted.Sub(cut) > 12*time.Hour {
			late[a.Cell] = true
		}
	}
	last := r.Channels[0]
	if last.Behind != len(never) {
		t.Errorf("%d cells are behind at the end, want the %d that never execute the update", last.Behind, len(never))
	}
	if len(late) < 10 {
		t.Errorf("only %d cells were held until they executed the update", len(late))
	}
	for _, o := range last.Rollouts {
		if o.Kind == "promote" && o.Finished.IsZero() {
			t.Errorf("the rollout of %s never ended: it waits for cells that are out of support", o.Release)
		}
	}
	for _, w := range r.Waits {
		if w.Gate == "support" && (w.From.Before(due) || !w.Open || w.Cells < len(never)) {
			t.Errorf("the wait for support: %+v", w)
		}
	}
	if !slices.ContainsFunc(r.Waits, func(w Wait) bool { return w.Gate == "support" }) {
		t.Errorf("no wait for support in %+v", r.Waits)
	}
}

// A scenario's mistakes about notices are refused with their place.
func TestNoticesAreChecked(t *testing.T) {
	for body, want := range map[string]string{
		"notices: [{at: 1d, number: 0}]\n":                                   "number",
		"notices: [{at: 1d, number: 8, executed: {min: 2d, max: 1d}}]\n":     "max is less than min",
		"notices: [{at: 1d, number: 8, executed: {min: 1d, max: 2d, x: 1}}]": "x",
	} {
		if _, faults := Parse("s.yaml", []byte("apiVersion: sluice/v1\nkind: Scenario\n"+body)); len(faults) == 0 ||
			!strings.Contains(faults[0].String(), want) {
			t.Errorf("%s: %v", body, faults)
		}
	}
	in := repositoryOf(t, union(policy("c", ""), releaseFiles("1.0.0")))
	in.Scenario = scenarioOf(t, "notices: [{at: 1d, number: 8}]\n")
	if _, err := Run(t.Context(), in); err == nil || !strings.Contains(err.Error(), "no infrastructure update 8") {
		t.Errorf("an unknown update: %v", err)
	}
}
