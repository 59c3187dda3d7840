package console

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// renderChannel renders a channel: its rollout, what is wrong, what waits and for what, and the heads that it had.
func renderChannel(m *Model, p *Page, f Facts) {
	c, ok := m.channelStatus(p.Address.Name)
	if !ok {
		p.Found = false
		return
	}
	p.Title = c.Name
	title := []markup.HTML{ui.Heading(c.Name + " ")}
	if len(c.After) > 0 {
		title = append(title, ui.Paragraph("soft", "after ", some(Channel, c.After)))
	}
	p.add("headline", append(title, headLine(m, c), requestOf(m, c), conditionsOf(m, c))...)
	p.add("actions", m.offersOfChannel(c))
	r := m.rollouts()[c.Name]
	p.add("trouble", troubleOf(m, c, &r))
	p.add("rollout", wavesOf(m, &r))
	p.add("waits", ui.Subheading("What waits, and for what"), waitsOrNothing(m, c), waitingCells(m, c.Name, &r),
		ui.Command(words.Shell("sluice", "why", c.Name)))
	p.add("adoption", adoptionChart(f.Adoption))
	p.add("heads", headsOf(m, c.Name))
	p.add("trial", ui.Paragraph("", linkAs(WhatIf, c.Name, "What if it had another policy?")))
}

func requestOf(m *Model, c view.ChannelStatus) markup.HTML {
	q := c.Request
	if q == nil || q.Release == "" {
		return ""
	}
	parts := []markup.HTML{ui.Mark("updating", ""), markup.Text(q.By + " asked for "), version(q.Release), " in ",
		ui.Code(words.ShortCommit(q.Commit))}
	if q.Reason != "" {
		parts = append(parts, markup.Text(": "+words.OneLine(q.Reason)))
	}
	return ui.Paragraph("request", parts...)
}

func waitsOrNothing(m *Model, c view.ChannelStatus) markup.HTML {
	if waits := waitsOf(m, c); waits != "" {
		return waits
	}
	return ui.Paragraph("soft", "Nothing keeps a release from this channel.")
}

// troubleOf lists the cells that failed or stalled on the head, and those that are ill: the first that the page says.
func troubleOf(m *Model, c view.ChannelStatus, r *plan.Progress) markup.HTML {
	var parts []markup.HTML
	list := func(shape, title string, names []string) {
		if len(names) > 0 {
			parts = append(parts, ui.Element("div", "trouble-list", ui.Paragraph("", ui.StateCount(shape, len(names),
				title)),
				ui.Paragraph("", some(Cell, names))))
		}
	}
	list("failing", "failed on "+r.Release, r.Failed)
	list("silent", "stalled on "+r.Release, r.Stalled)
	parts = append(parts, illCells(m, c))
	if n := len(r.Failed) + len(r.Stalled); n > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text(fmt.Sprintf(
			"%d of %d allowed failures; one more than allowed stops the rollout", n, r.Budget))),
			ui.Bar(max(r.Budget, n), ui.Share{Class: "failing", N: n}))
	}
	trouble := markup.Join(parts...)
	if trouble == "" {
		return ""
	}
	return ui.Subheading("What is wrong") + trouble
}

// illCells lists the cells of a channel that are failing, shut out or silent, with what they say.
func illCells(m *Model, c view.ChannelStatus) markup.HTML {
	var items []markup.HTML
	n := 0
	for _, condition := range []view.Condition{view.ConditionFailing, view.ConditionShutOut, view.ConditionSilent} {
		if c.Counts[condition] == 0 {
			continue // most channels are well: the cells of all channels are not gone through for them
		}
		n += c.Counts[condition]
		for _, cell := range m.status().Cells {
			if cell.Channel != c.Name || cell.Condition != condition || len(items) == maxListed {
				continue
			}
			says := markup.HTML("")
			if cell.Message != "" {
				says = markup.Text(" – " + words.OneLine(cell.Message))
			}
			items = append(items, ui.Element("li", "", ui.State(shapeOfCondition(condition), string(condition)),
				ui.Element("span", "", link(Cell, cell.Name), says)))
		}
	}
	if n == 0 {
		return ""
	}
	if more := n - len(items); more > 0 {
		items = append(items, ui.Element("li", "", ui.Mark("none", ""), ui.Soft(fmt.Sprintf("and %s more",
			ui.Thousands(more)))))
	}
	return ui.Element("ul", "verdicts", items...)
}

// wavesOf renders the waves of the head as columns, with the slots that are in use.
func wavesOf(m *Model, r *plan.Progress) markup.HTML {
	if r.Release == "" || r.Cells == 0 {
		return ""
	}
	is := "is on its way to"
	if r.Finished {
		is = "has reached"
	}
	parts := []markup.HTML{ui.Subheading("Rollout"),
		ui.Paragraph("", version(r.Release), markup.Text(fmt.Sprintf(
			" %s its cells: %s granted, %s applying, %s of %s healthy",
			is, ui.Thousands(r.Granted), ui.Thousands(r.Applying), ui.Thousands(r.Healthy), ui.Thousands(r.Could))))}
	if r.Slots > 0 {
		parts = append(parts, ui.Element("div", "slots", ui.Element("span", "", markup.Text(fmt.Sprintf(
			"%s of %s slots in use", ui.Thousands(r.InFlight), ui.Thousands(r.Slots)))), slots(r.InFlight, r.Slots)))
	}
	if !r.Finished && len(r.Failed)+len(r.Stalled) == 0 {
		then := "the first one stops the rollout."
		if r.Budget > 0 {
			then = ui.Thousands(r.Budget) + " may, and one more stops the rollout."
		}
		parts = append(parts, ui.Paragraph("soft", markup.Text("No failure counts against it yet; "+then)))
	}
	var columns []markup.HTML
	for _, w := range r.Waves {
		columns = append(columns, renderWave(m, w, r))
	}
	if len(columns) > 0 {
		parts = append(parts, ui.Element("ol", "waves", columns...))
	}
	return markup.Join(parts...)
}

func renderWave(m *Model, w plan.WaveProgress, r *plan.Progress) markup.HTML {
	word, shape := "waits", "held"
	switch {
	case w.Through:
		word, shape = "through", "passed"
	case w.Wave == r.Wave:
		word, shape = "open", "updating"
	}
	parts := []markup.HTML{ui.Element("div", "card-title", markup.Element("h3", nil, markup.Text(fmt.Sprintf("Wave %d",
		w.Wave))),
		ui.State(shape, word)),
		ui.Bar(w.Cells, ui.Share{Class: "healthy", N: w.Healthy}),
		ui.Paragraph("", markup.Text(fmt.Sprintf("%s of %s soaked", ui.Thousands(min(w.Healthy, w.Cells)),
			ui.Counted(w.Cells, "cell"))))}
	if w.Soak > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text("each "+words.FormatElapsed(w.Soak)+" healthy")))
	}
	if !w.Until.IsZero() {
		parts = append(parts, ui.Paragraph("soft", "through at ", ui.Instant(w.Until), " at the earliest"))
	}
	return markup.Element("li", markup.Attributes{"class", "card"}, parts...)
}

// slots draws each slot, of as many as can be told apart.
func slots(used, of int) markup.HTML {
	const most = 60
	if of > most {
		return ui.Bar(of, ui.Share{Class: "updating", N: used})
	}
	var all []markup.HTML
	for i := range of {
		shape := "none"
		if i < used {
			shape = "updating"
		}
		all = append(all, ui.Mark(shape, ""))
	}
	return ui.Element("span", "slot-row", all...)
}

// waitingCells lists what cells wait for, by gate, most cells first.
func waitingCells(m *Model, channel string, r *plan.Progress) markup.HTML {
	var rows [][]markup.HTML
	for _, w := range r.Waiting {
		until := ui.Soft("not known")
		if !w.Until.IsZero() {
			until = ui.Instant(w.Until)
		}
		rows = append(rows, []markup.HTML{ui.Element("span", "gate", markup.Text(w.Gate)),
			markup.Text(ui.Thousands(len(w.Cells))), some(Cell, w.Cells[:min(len(w.Cells), 3)]),
			prose(words.OneLine(w.Reason)), until})
	}
	if len(rows) == 0 {
		return ""
	}
	return ui.Table("Cells that wait", []string{"Gate", "Cells", "Among them", "Reason of the first", "Not before"},
		rows)
}

// headsOf lists the heads that a channel had, the newest first.
func headsOf(m *Model, channel string) markup.HTML {
	c := m.view.Desired.Channels[channel]
	var rows [][]markup.HTML
	for _, h := range slices.Backward(c.History) {
		if len(rows) == pageRows {
			break
		}
		replaced := ui.Soft("nothing")
		if h.Replaces != "" {
			replaced = version(h.Replaces)
		}
		rows = append(rows, []markup.HTML{version(h.Release), markup.Text(howItCame(&h)), ui.Instant(h.Moved), replaced,
			markup.Text(fmt.Sprint(h.Sequence)), commitLink(h.Written)})
	}
	if len(rows) == 0 {
		return ""
	}
	return ui.Subheading("Heads") + ui.Table("Heads", []string{"Release", "How", "When", "Replaced", "Sequence",
		"Commit"},
		rows) +
		ui.Command("git log -- "+strings.Join([]string{"channels", channel, "head.yaml"}, "/"))
}
