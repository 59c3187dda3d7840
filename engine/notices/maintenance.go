package notices

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
)

// maintenanceLetters returns what is told of maintenances that are announced and have not begun: one letter to each
// recipient for a release and a day (UTC) on which it begins, however often the maintenance is put off on that day.
func (s *Subscriptions) maintenanceLetters(v *view.View, now time.Time) (all []Letter) {
	lasts := map[[2]string]string{} // by channel and release
	var ahead []string
	for name, state := range v.Observed.Cells {
		if v.Desired.Cells[name] != nil && isAhead(state, now) {
			ahead = append(ahead, name)
		}
	}
	slices.Sort(ahead)
	for _, name := range ahead {
		state, cell := v.Observed.Cells[name], v.Desired.Cells[name]
		w := writer{subscriptions: s, view: v, cell: cell, now: now}
		recipients := w.recipients()
		if len(recipients) == 0 {
			continue
		}
		key := [2]string{cell.Channel, state.Maintenance.Release}
		if _, known := lasts[key]; !known {
			lasts[key] = w.expectMaintenance(state.Maintenance.Release)
		}
		for _, to := range recipients {
			all = append(all, w.ofMaintenance(state, to, lasts[key]))
		}
	}
	return all
}

// isAhead reports whether a cell's maintenance is announced, and begins later.
func isAhead(s *plan.CellState, now time.Time) bool {
	return s != nil && s.Maintenance != nil && s.Maintenance.Phase == maintenance.Announced &&
		s.OurTime(s.Maintenance.Begins).After(now)
}

// expectMaintenance says how long a maintenance of the cell's channel lasts.
func (w *writer) expectMaintenance(release string) string {
	c := w.view.Desired.Channels[w.cell.Channel]
	if c == nil {
		return ""
	}
	is := plan.ExpectMaintenance(w.view.Observed, c, release, 1)
	lasts := (time.Duration(is.Seconds) * time.Second).String()
	if is.Measured == 0 {
		return "it lasts at most " + lasts + ", unless the update takes longer"
	}
	return "it lasts about " + lasts + ", as measured before" // of how many cells is nothing for a customer
}

func (w *writer) ofMaintenance(s *plan.CellState, to recipient, lasts string) Letter {
	m, begins := s.Maintenance, s.OurTime(s.Maintenance.Begins)
	kinds := maintenance.DefaultKinds()
	if r := w.view.Desired.Releases[m.Release]; r != nil && len(r.Release.Maintenance.Refuses) > 0 {
		kinds = r.Release.Maintenance.Refuses
	}
	lines := append(to.greet(), "in UTC: "+words.FormatTime(begins),
		"from then on new operations are refused: "+strings.Join(kinds, ", "),
		"those under way finish, and what runs goes on")
	if lasts != "" {
		lines = append(lines, lasts)
	}
	lines = append(lines, "it is put off while operations under way take too long, or the owner's windows are shut")
	n := Notice{Kind: Maintenance, Severity: Info, Release: m.Release,
		Thread: "customers/maintenance/" + w.cell.Name,
		Title: fmt.Sprintf("%s: the update to %s takes a maintenance on %s", w.cell.Name, m.Release,
			to.localTime(begins)),
		Lines: lines}
	step := m.Release + "/" + m.Begins.UTC().Format(time.DateOnly)
	return Letter{Delivery: w.deliver(n, step, to), Cell: w.cell.Name, How: to.how}
}
