package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/words"
)

// renderCell renders one cell: what it runs, and the chain of reasons why it is not something else.
func renderCell(m *Model, p *Page, f Facts) {
	name := p.Address.Name
	c, ok := m.cellStatus(name)
	if !ok {
		p.Found = false
		return
	}
	p.Title = name
	s := m.view.Observed.Cells[name]
	p.add("headline", heading(name+" ", state(string(c.Condition), string(c.Condition))),
		paragraph("soft", "a cell of ", link(Channel, c.Channel)))
	p.add("actions", m.offersOfCell(c))
	p.add("course", cellCourse(m, c))
	p.add("why", cellWhy(m, name, f.Why))
	p.add("facts", subheading("Facts"), cellFacts(m, c, s))
	p.add("owner", ownerDecisions(s))
	p.add("failures", cellFailures(s))
	p.add("flags", cellFlags(m, name))
	p.add("identity", subheading("Identity"), cellIdentity(m, name, s))
}

// cellCourse shows what the cell runs, what it is on its way to, and what its channel is at.
func cellCourse(m *Model, c *view.CellStatus) markup.HTML {
	step := func(title string, release markup.HTML, below markup.HTML) markup.HTML {
		return element("li", "", element("span", "soft", markup.Text(title)), release, below)
	}
	var soaked markup.HTML
	if !c.HealthySince.IsZero() {
		soaked = element("span", "soft", "healthy since ", instant(c.HealthySince))
	}
	steps := []markup.HTML{step("runs", version(c.Release), soaked)}
	if c.Granted != "" && c.Granted != c.Release {
		steps = append(steps, step("was granted", version(c.Granted), ""))
	}
	if c.Applying != "" && c.Applying != c.Release {
		steps = append(steps, step("applies", version(c.Applying), ""))
	}
	if ch, ok := m.channelStatus(c.Channel); ok && ch.Release != "" {
		steps = append(steps, step("its channel is at", version(ch.Release), element("span", "soft", "since ",
			instant(ch.Since))))
	}
	return element("ol", "course", steps...)
}

// cellWhy renders the chain of reasons.
func cellWhy(m *Model, name string, more []string) markup.HTML {
	e, ok := view.Why(m.view, name, time.Time{})
	if !ok {
		return ""
	}
	var lines []markup.HTML
	for _, line := range append(e.Lines, more...) {
		if !strings.HasPrefix(line, "  ") { // verdicts, which follow with their clocks
			lines = append(lines, markup.Element("li", nil, markup.Text(line)))
		}
	}
	return subheading("Why") + element("ol", "why", lines...) + verdicts(e.Blocked) +
		command(shell("sluice", "why", name))
}

func cellFacts(m *Model, c *view.CellStatus, s *plan.CellState) markup.HTML {
	cell := m.view.Desired.Cells[c.Name]
	var labels []markup.HTML
	for _, key := range slices.Sorted(maps.Keys(cell.Labels)) {
		filter := key + ":" + quoted(cell.Labels[key])
		labels = append(labels, markup.Element("a", markup.Attributes{"class", "label", "href",
			Address{Kind: Fleet, Filter: filter}.String()}, markup.Text(key+"="+cell.Labels[key])), " ")
	}
	pairs := [][2]markup.HTML{
		{"State", markup.Text(string(c.State))}, {"Message", text(words.OneLine(c.Message))},
		{"Digest", code(c.Digest.Short())}, {"Labels", markup.Join(labels...)},
		{"Profile", text(cell.Profile)}, {"Paused by the vendor", text(words.OneLine(cell.Paused))},
		{"Pinned by the vendor", text(cell.Pin)},
	}
	if s != nil && !s.LastReport.IsZero() {
		pairs = append(pairs, [2]markup.HTML{"Last report", instant(c.LastReport.Truncate(asOfStep))},
			[2]markup.HTML{"Soaked", soaked(s.Soaked)},
			[2]markup.HTML{"Infrastructure updates", updatesOf(c, s)})
		if s.Actual.NeedsLook() {
			pairs = append(pairs, [2]markup.HTML{"Actual infrastructure", text(words.OneLine(s.Actual.String()))})
		}
		if skew := s.Skew.Truncate(time.Second); skew.Abs() >= 2*time.Second {
			pairs = append(pairs, [2]markup.HTML{"Its clock", markup.Text(skew.String() + " from ours")})
		}
	}
	return facts(pairs...)
}

// soaked returns for how long a cell was healthy, to the minute: more would change with every report.
func soaked(d time.Duration) markup.HTML {
	if d < time.Minute {
		return "under a minute"
	}
	return markup.Text(channels.FormatElapsed(d.Truncate(time.Minute)))
}

func ownerDecisions(s *plan.CellState) markup.HTML {
	if s == nil || s.Owner == nil {
		return ""
	}
	o := s.Owner
	var held []markup.HTML
	for _, feature := range o.Features {
		line := feature
		if why := o.Reasons[feature]; why != "" {
			line += ": " + why
		}
		held = append(held, markup.Element("li", nil, markup.Text(words.OneLine(line))))
	}
	approval := markup.HTML("")
	if o.Approval {
		approval = markup.Text("approves each release, so far " + words.Count(len(o.Approved), "release"))
	}
	windows := markup.HTML("")
	if n := len(o.Windows); n > 0 {
		windows = markup.Text("begins something new in " + words.Count(n, "window") + " only")
	}
	features := markup.HTML("")
	if len(held) > 0 {
		features = element("ul", "", held...)
	}
	all := facts([2]markup.HTML{"Paused", text(words.OneLine(o.Paused))}, [2]markup.HTML{"Pinned", text(o.Pin)},
		[2]markup.HTML{"Approval", approval}, [2]markup.HTML{"Windows", windows},
		[2]markup.HTML{"Features held off", features})
	if all == "" {
		return ""
	}
	return subheading("What its owner decided") + all
}

func cellFailures(s *plan.CellState) markup.HTML {
	if s == nil || len(s.Failures) == 0 {
		return ""
	}
	var rows [][]markup.HTML
	for _, f := range slices.Backward(s.Failures) {
		rows = append(rows, []markup.HTML{version(f.Assignment.Release), instant(f.At), causeOf(f.Failure),
			markup.Text(words.OneLine(f.Reason))})
	}
	return subheading("What failed there") + table("What failed there", []string{"Release", "When", "At fault",
		"Reason"},
		rows)
}

func causeOf(f cells.Failure) markup.HTML {
	switch {
	case f.Values:
		return "its values"
	case f.Cause == "":
		return "unknown"
	}
	return markup.Text(string(f.Cause))
}

// cellFlags renders the flags as they are in the cell.
func cellFlags(m *Model, name string) markup.HTML {
	var rows [][]markup.HTML
	more := 0
	m.withIndex(func(x *view.FlagIndex) {
		keys := x.Keys()
		more = max(0, len(keys)-pageRows)
		for _, key := range keys[:len(keys)-more] {
			rows = append(rows, flagCellRow(link(Flags, key), x.InCell(key, name)))
		}
	})
	if len(rows) == 0 {
		return ""
	}
	rest := markup.HTML("")
	if more > 0 {
		rest = paragraph("soft", markup.Text(fmt.Sprintf("and %d more", more)))
	}
	return subheading("Flags in force") + table("Flags in force", []string{"Flag", "State", "Confirmed", "Why"}, rows) +
		rest
}

func cellIdentity(m *Model, name string, s *plan.CellState) markup.HTML {
	id := m.view.Identity(name)
	var boots []markup.HTML
	if s != nil {
		for _, b := range slices.Backward(s.Boots) {
			boots = append(boots, markup.Element("li", nil, code(b.ID), " ", instant(b.First), " to ",
				instant(b.Last.Truncate(asOfStep))))
		}
	}
	starts := markup.HTML("")
	if len(boots) > 0 {
		starts = element("ul", "", boots...)
	}
	return facts([2]markup.HTML{"Access", markup.Text(string(view.AccessOf(id)))},
		[2]markup.HTML{"Key", code(id.PublicKey)}, [2]markup.HTML{"Key before", code(id.Previous)},
		[2]markup.HTML{"Shut out", text(words.OneLine(id.Quarantined))},
		[2]markup.HTML{"Starts of its agent", starts})
}
