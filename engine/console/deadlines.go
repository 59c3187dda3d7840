package console

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// dueUpdate is an infrastructure update that cells must have by a time, or are out of support.
type dueUpdate struct {
	number  int
	channel string
	due     time.Time
	overdue bool
	cells   []string
}

// dueUpdates returns the infrastructure updates whose deadlines run or have passed, the soonest first. Cells of a
// channel that are due at the same time are one.
func (m *Model) dueUpdates() (all []dueUpdate) {
	for _, c := range m.status().Cells {
		is := c.Infrastructure
		if is == nil || is.Due.IsZero() || is.Number == 0 || is.Exempt != "" {
			continue
		}
		i := slices.IndexFunc(all, func(d dueUpdate) bool {
			return d.number == is.Number && d.channel == c.Channel && d.due.Equal(is.Due) &&
				d.overdue == is.OutOfSupport
		})
		if i < 0 {
			i = len(all)
			all = append(all, dueUpdate{number: is.Number, channel: c.Channel, due: is.Due, overdue: is.OutOfSupport})
		}
		all[i].cells = append(all[i].cells, c.Name)
	}
	slices.SortStableFunc(all, func(a, b dueUpdate) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.channel, b.channel))
	})
	return all
}

// updatesOf says which infrastructure update a cell has, and which is asked of it.
func updatesOf(c *view.CellStatus, s *plan.CellState) markup.HTML {
	has := "none is executed"
	if s.Infrastructure > 0 {
		has = fmt.Sprintf("%d is executed", s.Infrastructure)
	}
	is := c.Infrastructure
	if is == nil || is.Number == 0 {
		return markup.Text(has)
	}
	open := markup.Text(fmt.Sprintf("%s, %d is open", has, is.Number))
	if is.Due.IsZero() {
		return open
	}
	return markup.Join(open, ", due ", ui.Instant(is.Due))
}

// addDeadlines adds the instants at which cells are out of support unless their customers execute an update.
func addDeadlines(m *Model, add func(moment)) {
	for _, d := range m.dueUpdates() {
		add(moment{at: d.due, lane: "deadlines",
			plain: fmt.Sprintf("infrastructure update %d in %s", d.number, d.channel),
			what: markup.Join(some(Cell, d.cells), markup.Text(fmt.Sprintf(
				" of %s: out of support unless infrastructure update %d is executed", d.channel, d.number)))})
	}
}

// needsOfInfrastructure returns the cells that are out of support: their customers are asked again.
func (m *Model) needsOfInfrastructure() (all []Need) {
	for _, d := range m.dueUpdates() {
		if !d.overdue {
			continue
		}
		verb := " are"
		if len(d.cells) == 1 {
			verb = " is"
		}
		key := fmt.Sprintf("overdue %s %d %d", d.channel, d.number, len(d.cells))
		n := Need{Harm: harmDecision, Key: key, Shape: "held",
			Title: markup.Join(markup.Text(ui.Counted(len(d.cells), "cell")+" of "), link(Channel, d.channel),
				markup.Text(fmt.Sprintf("%s out of support: infrastructure update %d was due", verb, d.number))),
			Why:     markup.Join(some(Cell, d.cells), ", since ", ui.Instant(d.due)),
			Command: words.Shell("sluice", "why", d.cells[0])}
		n.Form, n.FormAs = actionOf("extend", "cell", d.cells[0]), "Extend the deadline of "+d.cells[0]
		all = append(all, n)
	}
	return all
}
