package console

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// maxSoakLines bounds the lines of a chart of soaks: of more cells, each line stands for several.
const maxSoakLines = 60

// soaking is a cell on its way through the soak of a release.
type soaking struct {
	name  string
	state *plan.CellState
	short bool // it is silent, or not healthy
}

// soakCharts draws, for each channel whose head is the release, the soak of its cells over time, with its gaps.
func soakCharts(m *Model, r *plan.Release) markup.HTML {
	var parts []markup.HTML
	for _, name := range m.view.Desired.Order {
		c := m.view.Desired.Channels[name]
		if c.Effective == nil || c.Effective.Release != r.Version.String() || len(parts) >= maxListed {
			continue
		}
		if chart := soakChart(m, c, r); chart != "" {
			parts = append(parts, chart)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ui.Subheading("Soak") + markup.Join(parts...)
}

// soakAsked returns the longest soak that a channel after the named one asks for; 0: none does.
func soakAsked(m *Model, upstream string) (longest time.Duration) {
	for _, c := range m.view.Desired.Channels {
		if c.Valid == nil || !slices.Contains(c.Valid.After, upstream) {
			continue
		}
		for _, g := range c.Valid.Gates {
			if g.Soak != nil {
				longest = max(longest, g.Soak.For)
			}
		}
	}
	return longest
}

// soaksOf returns the channel's cells that run the release, the one that has soaked the shortest first.
func soaksOf(m *Model, c *plan.Channel, r *plan.Release) (all []soaking) {
	for _, cell := range c.Cells {
		s := m.view.Observed.Cells[cell.Name]
		if s == nil || s.Digest != r.Digest || s.Channel != c.Name {
			continue
		}
		all = append(all, soaking{cell.Name, s, m.view.Silent(s) || s.State != "healthy"})
	}
	slices.SortFunc(all, func(a, b soaking) int {
		return cmp.Or(cmp.Compare(a.soaked(), b.soaked()), cmp.Compare(a.name, b.name))
	})
	return all
}

// soaked returns what counts now: of a cell that is silent or not healthy nothing does (R9).
func (s *soaking) soaked() time.Duration {
	if s.short {
		return 0
	}
	return s.state.Soaked
}

// began returns when the cell was first seen on the release.
func (s *soaking) began() time.Time {
	at := s.state.HealthySince
	if r := s.state.ReachedAt; !r.IsZero() && (at.IsZero() || r.Before(at)) {
		at = r
	}
	if len(s.state.Gaps) > 0 && (at.IsZero() || s.state.Gaps[0].From.Before(at)) {
		at = s.state.Gaps[0].From
	}
	if at.IsZero() {
		at = s.state.LastReport
	}
	return at
}

func soakChart(m *Model, c *plan.Channel, r *plan.Release) markup.HTML {
	all := soaksOf(m, c, r)
	if len(all) == 0 {
		return ""
	}
	now, asked := m.view.Plan.Now.Truncate(asOfStep), soakAsked(m, c.Name)
	each := (len(all) + maxSoakLines - 1) / maxSoakLines
	ch := ui.Chart{Label: "Soak of " + r.Version.String() + " in " + c.Name +
		", cells over time; the table below says the same",
		From: now.Add(-time.Minute), Until: now, Now: now}
	if len(all) > maxSoakLines/2 {
		ch.RowHeight = 12
	}
	for i := 0; i < len(all); i += each {
		s := &all[i]
		ch.Tracks = append(ch.Tracks, ui.Track{Name: s.name, To: Address{Kind: Cell, Name: s.name}.String(),
			Spans: s.spans(m, asked)})
		if b := s.began(); b.Before(ch.From) {
			ch.From = b
		}
	}
	drawn := 0
	for _, t := range ch.Tracks {
		drawn += len(t.Spans)
		for _, s := range t.Spans {
			if s.Until.After(ch.Until) {
				ch.Until = s.Until
			}
		}
	}
	said := fmt.Sprintf("%s of %s", ui.Counted(len(all), "cell"), c.Name)
	if each > 1 {
		said += fmt.Sprintf("; each line stands for %d of them, and is that which has soaked the shortest", each)
	}
	if asked > 0 {
		said += "; the next channel asks for " + words.FormatElapsed(asked)
	}
	chart := markup.Join(ch.Render(), soakLegend(asked > 0))
	if drawn == 0 { // they came to it just now
		said += "; there is no time to draw yet"
		chart = ""
	}
	return ui.Paragraph("soft", markup.Text(said)) + chart +
		markup.Element("details", nil, markup.Element("summary", nil, "As a table"), soakTable(all, c.Name))
}

// spans returns what to draw of a cell: its soak, what it leaves out as thin lines, and the rest as a prediction.
func (s *soaking) spans(m *Model, asked time.Duration) (all []ui.Span) {
	now, from := m.view.Plan.Now.Truncate(asOfStep), s.began()
	add := func(class, what string, from, until time.Time, thin bool) {
		if until.After(from) {
			all = append(all, ui.Span{From: from, Until: until, Class: class, Thin: thin,
				Title: s.name + ": " + what + ", " + elapsed(until.Sub(from))})
		}
	}
	for _, g := range s.state.Gaps {
		class, word := "healthy", "counted"
		if s.short || !g.From.After(s.state.HealthySince) {
			class, word = "none", "healthy, and no longer counts"
		}
		add(class, word, from, g.From, false)
		shape, word := lookOfGap(g.Cause)
		add(shape, word, g.From, g.Until, true)
		from = g.Until
	}
	if since := s.state.HealthySince; since.After(from) {
		add("none", "not counted", from, since, true)
		from = since
	}
	switch {
	case m.view.Silent(s.state):
		add("none", "healthy, and does not count while it is silent", from, s.state.LastReport, false)
		add("silent", "silent", s.state.LastReport, now, true)
	case s.short:
		add("failing", "not healthy", from, now, true)
	default:
		add("healthy", "counted", from, now, false)
		if left := asked - s.state.Soaked - now.Sub(s.state.LastReport); left > 0 {
			add("predicted", "still to soak, if it stays healthy", now, now.Add(left), false)
		}
	}
	return all
}

// elapsed returns a duration to the minute: more would change with every report.
func elapsed(d time.Duration) string {
	if d < time.Minute {
		return "under a minute"
	}
	return words.FormatElapsed(d.Truncate(time.Minute))
}

// lookOfGap returns the shape and the word for why a gap does not count.
func lookOfGap(c plan.GapCause) (shape, word string) {
	switch c {
	case plan.GapSilent:
		return "silent", "silent"
	case plan.GapUnhealthy:
		return "failing", "not healthy"
	case plan.GapUnwatched:
	}
	return "held", "no control plane listened"
}

func soakLegend(predicted bool) markup.HTML {
	item := func(swatch markup.HTML, text string) markup.HTML {
		return markup.Element("li", nil, swatch, markup.Text(text))
	}
	items := []markup.HTML{item(ui.Swatch("healthy"), "bar: soaked"),
		item(ui.Swatch("none"), "grey bar: no longer counts"),
		item(ui.Line("silent"), "line: silent"), item(ui.Line("failing"), "line: not healthy"),
		item(ui.Line("held"), "line: no control plane listened")}
	if predicted {
		items = append(items, item(ui.Swatch("predicted"), "dashed: still to soak, if it stays healthy"))
	}
	return ui.Element("ul", "legend", items...)
}

// soakTable says the same in words, the cells that hold the soak up first.
func soakTable(all []soaking, channel string) markup.HTML {
	var rows [][]markup.HTML
	for i := range all[:min(len(all), pageRows)] {
		s := &all[i]
		gaps := ui.Soft("none")
		if n := len(s.state.Gaps); n > 0 {
			var items []markup.HTML
			for _, g := range s.state.Gaps {
				items = append(items, markup.Element("li", nil, ui.State(lookOfGap(g.Cause)), " ",
					ui.Instant(g.From.Truncate(asOfStep)), ", for ",
					markup.Text(elapsed(g.Until.Sub(g.From)))))
			}
			gaps = ui.Element("ul", "", items...)
		}
		since := ui.Soft("not now")
		if !s.short {
			since = ui.Instant(s.state.HealthySince)
		}
		rows = append(rows, []markup.HTML{link(Cell, s.name), soaked(s.soaked()), since, gaps})
	}
	more := markup.HTML("")
	if n := len(all) - pageRows; n > 0 {
		more = ui.Paragraph("soft", markup.Text("and "+ui.Counted(n, "cell")+" that soaked longer"))
	}
	return ui.Table("Soak in "+channel, []string{"Cell", "Soaked", "Healthy since", "Left out"}, rows) + more
}
