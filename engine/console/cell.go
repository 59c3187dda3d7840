package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
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
	p.add("headline", ui.Heading(name+" ", ui.State(string(c.Condition), string(c.Condition))),
		cellMessage(c), ui.Paragraph("soft", "a cell of ", link(Channel, c.Channel)))
	p.add("actions", m.offersOfCell(c))
	p.add("course", cellCourse(m, c))
	p.add("why", cellWhy(m, name, f.Why))
	p.add("course-of-time", swimlane(m, c, s, f.Events))
	p.add("facts", ui.Subheading("Facts"), cellFacts(m, c, s))
	p.add("owner", ownerDecisions(s))
	p.add("failures", cellFailures(s))
	p.add("exports", cellExports(f.Exported))
	p.add("flags", cellFlags(m, name))
	p.add("identity", ui.Subheading("Identity"), cellIdentity(m, name, s))
}

// cellMessage says what the cell says of itself, unless all is well.
func cellMessage(c *view.CellStatus) markup.HTML {
	if c.Message == "" || c.Condition == view.ConditionHealthy {
		return ""
	}
	return ui.Paragraph("", markup.Text(words.OneLine(c.Message)))
}

// factMessage returns the message that the headline does not have.
func factMessage(c *view.CellStatus) markup.HTML {
	if c.Condition != view.ConditionHealthy {
		return ""
	}
	return ui.Text(words.OneLine(c.Message))
}

// cellCourse shows what the cell runs, what it is on its way to, and what its channel is at.
func cellCourse(m *Model, c *view.CellStatus) markup.HTML {
	step := func(title string, release markup.HTML, below markup.HTML) markup.HTML {
		return ui.Element("li", "", ui.Element("span", "soft", markup.Text(title)), release, below)
	}
	var soaked markup.HTML
	if !c.HealthySince.IsZero() {
		soaked = ui.Element("span", "soft", "healthy since ", ui.Instant(c.HealthySince))
	}
	steps := []markup.HTML{step("runs", version(c.Release), soaked)}
	if c.Granted != "" && c.Granted != c.Release {
		steps = append(steps, step("was granted", version(c.Granted), ""))
	}
	if c.Applying != "" && c.Applying != c.Release {
		steps = append(steps, step("applies", version(c.Applying), ""))
	}
	if ch, ok := m.channelStatus(c.Channel); ok && ch.Release != "" {
		steps = append(steps, step("its channel is at", version(ch.Release), ui.Element("span", "soft", "since ",
			ui.Instant(ch.Since))))
	}
	return ui.Element("ol", "course", steps...)
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
			lines = append(lines, markup.Element("li", nil, prose(line)))
		}
	}
	return ui.Subheading("Why") + ui.Element("ol", "why", lines...) + verdicts(e.Blocked) +
		ui.Command(words.Shell("sluice", "why", name))
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
		{"State", markup.Text(string(c.State))}, {"Message", factMessage(c)},
		{"Digest", ui.Code(c.Digest.Short())}, {"Labels", markup.Join(labels...)},
		{"Profile", ui.Text(cell.Profile)}, {"Paused by the vendor", ui.Text(words.OneLine(cell.Paused))},
		{"Pinned by the vendor", ui.Text(cell.Pin)},
	}
	if s != nil && !s.LastReport.IsZero() {
		pairs = append(pairs, [2]markup.HTML{"Last report", ui.Instant(c.LastReport.Truncate(asOfStep))},
			[2]markup.HTML{"Soaked", soaked(s.Soaked)},
			[2]markup.HTML{"Infrastructure updates", updatesOf(c, s)})
		if s.Actual.NeedsLook() {
			pairs = append(pairs, [2]markup.HTML{"Actual infrastructure", ui.Text(words.OneLine(s.Actual.String()))})
		}
		if skew := s.Skew.Truncate(time.Second); skew.Abs() >= 2*time.Second {
			pairs = append(pairs, [2]markup.HTML{"Its clock", markup.Text(skew.String() + " from ours")})
		}
	}
	return ui.Facts(pairs...)
}

// soaked returns for how long a cell was healthy.
func soaked(d time.Duration) markup.HTML { return markup.Text(elapsed(d)) }

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
		features = ui.Element("ul", "", held...)
	}
	all := ui.Facts([2]markup.HTML{"Paused", ui.Text(words.OneLine(o.Paused))}, [2]markup.HTML{"Pinned",
		ui.Text(o.Pin)},
		[2]markup.HTML{"Approval", approval}, [2]markup.HTML{"Windows", windows},
		[2]markup.HTML{"Features held off", features})
	if all == "" {
		return ""
	}
	return ui.Subheading("What its owner decided") + all
}

func cellFailures(s *plan.CellState) markup.HTML {
	if s == nil || len(s.Failures) == 0 {
		return ""
	}
	var rows [][]markup.HTML
	for _, f := range slices.Backward(s.Failures) {
		rows = append(rows, []markup.HTML{version(f.Assignment.Release), ui.Instant(f.At), causeOf(f.Failure),
			markup.Text(words.OneLine(f.Reason))})
	}
	return ui.Subheading("What failed there") + ui.Table("What failed there", []string{"Release", "When", "At fault",
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
		rest = ui.Paragraph("soft", markup.Text(fmt.Sprintf("and %d more", more)))
	}
	return ui.Subheading("Flags in force") + ui.Table("Flags in force", []string{"Flag", "State", "Confirmed", "Why"},
		rows) +
		rest
}

func cellIdentity(m *Model, name string, s *plan.CellState) markup.HTML {
	id := m.view.Identity(name)
	var boots []markup.HTML
	if s != nil {
		for _, b := range slices.Backward(s.Boots) {
			boots = append(boots, markup.Element("li", nil, ui.Code(b.ID), " ", ui.Instant(b.First), " to ",
				ui.Instant(b.Last.Truncate(asOfStep))))
		}
	}
	starts := markup.HTML("")
	if len(boots) > 0 {
		starts = ui.Element("ul", "", boots...)
	}
	return ui.Facts([2]markup.HTML{"Access", markup.Text(string(view.AccessOf(id)))},
		[2]markup.HTML{"Key", ui.Code(id.PublicKey)}, [2]markup.HTML{"Key before", ui.Code(id.Previous)},
		[2]markup.HTML{"Shut out", ui.Text(words.OneLine(id.Quarantined))},
		[2]markup.HTML{"Starts of its agent", starts})
}
