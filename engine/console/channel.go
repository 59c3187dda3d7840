package console

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
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
	title := []markup.HTML{heading(c.Name + " ")}
	if len(c.After) > 0 {
		title = append(title, paragraph("soft", "after ", some(Channel, c.After)))
	}
	p.add("headline", append(title, headLine(m, c), requestOf(m, c), conditionsOf(m, c))...)
	p.add("actions", m.offersOfChannel(c))
	r := m.rollouts()[c.Name]
	p.add("trouble", troubleOf(m, c.Name, &r))
	p.add("rollout", wavesOf(m, &r))
	p.add("waits", subheading("What waits, and for what"), waitsOrNothing(m, c), waitingCells(m, c.Name, &r),
		command(shell("sluice", "why", c.Name)))
	p.add("adoption", adoptionChart(f.Adoption))
	p.add("heads", headsOf(m, c.Name))
	p.add("trial", paragraph("", linkAs(WhatIf, c.Name, "What if it had another policy?")))
}

func requestOf(m *Model, c view.ChannelStatus) markup.HTML {
	q := c.Request
	if q == nil || q.Release == "" {
		return ""
	}
	parts := []markup.HTML{mark("updating", ""), markup.Text(q.By + " asked for "), version(q.Release), " in ",
		code(words.ShortCommit(q.Commit))}
	if q.Reason != "" {
		parts = append(parts, markup.Text(": "+words.OneLine(q.Reason)))
	}
	return paragraph("request", parts...)
}

func waitsOrNothing(m *Model, c view.ChannelStatus) markup.HTML {
	if waits := waitsOf(m, c); waits != "" {
		return waits
	}
	return paragraph("soft", "Nothing keeps a release from this channel.")
}

// troubleOf lists the cells that failed or stalled on the head, first of all that the page says.
func troubleOf(m *Model, channel string, r *plan.Progress) markup.HTML {
	var parts []markup.HTML
	list := func(shape, title string, names []string) {
		if len(names) > 0 {
			parts = append(parts, element("div", "trouble-list", paragraph("", stateCount(shape, len(names), title)),
				paragraph("", some(Cell, names))))
		}
	}
	list("failing", "failed on "+r.Release, r.Failed)
	list("silent", "stalled on "+r.Release, r.Stalled)
	if len(parts) == 0 {
		return ""
	}
	allowed := fmt.Sprintf("%d of %d allowed failures; one more than allowed stops the rollout",
		len(r.Failed)+len(r.Stalled), r.Budget)
	return subheading("What is wrong") + markup.Join(parts...) + paragraph("soft", markup.Text(allowed)) +
		bar(max(r.Budget, len(r.Failed)+len(r.Stalled)), share{"failing", len(r.Failed) + len(r.Stalled)})
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
	parts := []markup.HTML{subheading("Rollout"),
		paragraph("", version(r.Release), markup.Text(fmt.Sprintf(" %s its cells: %s granted, %s applying, %s of %s healthy", is,
			thousands(r.Granted), thousands(r.Applying), thousands(r.Healthy), thousands(r.Could))))}
	if r.Slots > 0 {
		parts = append(parts, element("div", "slots", element("span", "", markup.Text(fmt.Sprintf(
			"%s of %s slots in use", thousands(r.InFlight), thousands(r.Slots)))), slots(r.InFlight, r.Slots)))
	}
	if !r.Finished && len(r.Failed)+len(r.Stalled) == 0 {
		then := "the first one stops the rollout."
		if r.Budget > 0 {
			then = thousands(r.Budget) + " may, and one more stops the rollout."
		}
		parts = append(parts, paragraph("soft", markup.Text("No failure counts against it yet; "+then)))
	}
	var columns []markup.HTML
	for _, w := range r.Waves {
		columns = append(columns, renderWave(m, w, r))
	}
	if len(columns) > 0 {
		parts = append(parts, element("ol", "waves", columns...))
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
	parts := []markup.HTML{element("div", "card-title", markup.Element("h3", nil, markup.Text(fmt.Sprintf("Wave %d",
		w.Wave))),
		state(shape, word)),
		bar(w.Cells, share{"healthy", w.Healthy}),
		paragraph("", markup.Text(fmt.Sprintf("%s of %s soaked", thousands(min(w.Healthy, w.Cells)), counted(w.Cells, "cell"))))}
	if w.Soak > 0 {
		parts = append(parts, paragraph("soft", markup.Text("each "+channels.FormatElapsed(w.Soak)+" healthy")))
	}
	if !w.Until.IsZero() {
		parts = append(parts, paragraph("soft", "through at ", instant(w.Until), " at the earliest"))
	}
	return markup.Element("li", markup.Attributes{"class", "card"}, parts...)
}

// slots draws each slot, of as many as can be told apart.
func slots(used, of int) markup.HTML {
	const most = 60
	if of > most {
		return bar(of, share{"updating", used})
	}
	var all []markup.HTML
	for i := range of {
		shape := "none"
		if i < used {
			shape = "updating"
		}
		all = append(all, mark(shape, ""))
	}
	return element("span", "slot-row", all...)
}

// waitingCells lists what cells wait for, by gate, most cells first.
func waitingCells(m *Model, channel string, r *plan.Progress) markup.HTML {
	var rows [][]markup.HTML
	for _, w := range r.Waiting {
		until := soft("not known")
		if !w.Until.IsZero() {
			until = instant(w.Until)
		}
		rows = append(rows, []markup.HTML{element("span", "gate", markup.Text(w.Gate)),
			markup.Text(counted(len(w.Cells), "cell")), some(Cell, w.Cells[:min(len(w.Cells), 3)]),
			markup.Text(words.OneLine(w.Reason)), until})
	}
	if len(rows) == 0 {
		return ""
	}
	return table("Cells that wait", []string{"Gate", "Cells", "Among them", "Reason of the first", "Not before"}, rows)
}

// headsOf lists the heads that a channel had, the newest first.
func headsOf(m *Model, channel string) markup.HTML {
	c := m.view.Desired.Channels[channel]
	var rows [][]markup.HTML
	for _, h := range slices.Backward(c.History) {
		if len(rows) == pageRows {
			break
		}
		replaced := soft("nothing")
		if h.Replaces != "" {
			replaced = version(h.Replaces)
		}
		rows = append(rows, []markup.HTML{version(h.Release), markup.Text(howItCame(&h)), instant(h.Moved), replaced,
			markup.Text(fmt.Sprint(h.Sequence)), commitLink(h.Written)})
	}
	if len(rows) == 0 {
		return ""
	}
	return subheading("Heads") + table("Heads", []string{"Release", "How", "When", "Replaced", "Sequence", "Commit"},
		rows) +
		command("git log -- "+strings.Join([]string{"channels", channel, "head.yaml"}, "/"))
}
