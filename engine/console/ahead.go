package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// maxAhead bounds how far the plan is looked at ahead.
const maxAhead = 92 * 24 * time.Hour

// parseAhead reads an instant, or how far ahead it is: 6h, 3d, 2026-12-01T09:00:00Z. ok is false if it is neither, or
// not ahead.
func parseAhead(text string, now time.Time) (t time.Time, ok bool) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		by, wrong := words.ParseDuration(text)
		t, err = now.Add(by), wrong
	}
	return t.UTC(), err == nil && t.After(now) && t.Sub(now) <= maxAhead
}

// planAt returns the plan as it would be at a later instant, if no commit came until then, every cell in contact stayed
// as it is, and outside gates were not asked.
func planAt(m *Model, t time.Time) plan.Plan {
	o := *m.view.Observed
	o.Cells = make(map[string]*plan.CellState, len(m.view.Observed.Cells))
	for name, s := range m.view.Observed.Cells {
		if m.view.Silent(s) || s.LastReport.IsZero() {
			o.Cells[name] = s
			continue
		}
		later := *s
		if later.State == cells.StateHealthy && !later.HealthySince.IsZero() {
			later.Soaked += t.Sub(later.LastReport)
		}
		later.LastReport = t
		o.Cells[name] = &later
	}
	return plan.Make(m.view.Desired, &o, t)
}

// aheadForm lets people choose an instant.
func aheadForm(a Address) markup.HTML {
	var steps []markup.HTML
	for _, step := range []string{"1h", "6h", "1d", "3d", "7d", "30d"} {
		with := markup.Attributes{"href", Address{Kind: When, Filter: step}.String()}
		if a.Filter == step {
			with = append(with, "aria-current", "true")
		}
		steps = append(steps, markup.Element("li", nil, markup.Element("a", with, markup.Text("in "+step))))
	}
	return markup.Element("form", markup.Attributes{"class", "filter", "action", Address{Kind: When}.String()},
		markup.Element("label", markup.Attributes{"for", "filter"}, "The plan as it would be"),
		markup.Void("input", "id", "filter", "name", "q", "value", a.Filter, "maxlength", strconv.Itoa(maxFilter),
			"autocomplete", "off", "spellcheck", "false", "placeholder", "6h, 3d, or 2026-12-01T09:00:00Z"),
		markup.Element("button", nil, "Show"), ui.Element("ul", "counts", steps...))
}

// renderAhead renders the plan as it would be at the instant that was asked for.
func renderAhead(m *Model, p *Page) {
	if p.Address.Filter == "" {
		return
	}
	t, ok := parseAhead(p.Address.Filter, m.view.Plan.Now)
	if !ok {
		p.add("ahead", ui.Paragraph("empty", markup.Text(p.Address.Filter+" is no instant within the next 92 days: "+
			"write 6h, 3d, or 2026-12-01T09:00:00Z.")))
		return
	}
	made := planAt(m, t)
	title := ui.Element("h2", "", "What the engine would do ", ui.Instant(t.Truncate(asOfStep)))
	p.add("ahead", title, ui.Paragraph("soft",
		"If no commit comes until then, every cell that is in contact stays as it is, "+
			"and outside gates are not asked. What follows from it is for What if."), aheadActions(made),
		aheadBlocked(made), aheadNext(made))
}

func aheadActions(made plan.Plan) markup.HTML {
	var rows [][]markup.HTML
	for _, a := range made.Actions {
		if len(rows) == pageRows {
			break
		}
		what, release := string(a.Kind), ui.Soft("none")
		if a.Kind == plan.Grant {
			what = "grant to " + ui.Counted(len(a.Cells), "cell")
		}
		if a.Release != "" {
			release = version(a.Release)
		}
		channel := ui.Soft("everywhere")
		if a.Channel != "" {
			channel = link(Channel, a.Channel)
		}
		evidence := strings.Join(a.Evidence[:min(len(a.Evidence), maxListed)], "; ")
		rows = append(rows, []markup.HTML{ui.State("updating", what), release, channel,
			ui.Text(words.OneLine(evidence))})
	}
	if len(rows) == 0 {
		return ui.Paragraph("empty", "The engine would do nothing.")
	}
	return ui.Table("What the engine would do", []string{"What", "Release", "Channel", "Because"}, rows)
}

func aheadBlocked(made plan.Plan) markup.HTML {
	var rows [][]markup.HTML
	more := 0
	for _, b := range made.Blocked {
		if b.Cell != "" || b.Channel == "" {
			continue
		}
		if len(rows) == pageRows {
			more++
			continue
		}
		what := ui.Soft("any release")
		if b.Release != "" {
			what = version(b.Release)
		}
		rows = append(rows, []markup.HTML{what, link(Channel, b.Channel), sentence(b)})
	}
	if len(rows) == 0 {
		return ""
	}
	rest := markup.HTML("")
	if more > 0 {
		rest = ui.Paragraph("soft", markup.Text(fmt.Sprintf("and %s more", ui.Thousands(more))))
	}
	const title = "What would still wait"
	return ui.Subheading(title) + ui.Table(title, []string{"Release", "Channel", "For what"}, rows) + rest
}

// aheadNext leads to the next instant at which time alone changes the plan.
func aheadNext(made plan.Plan) markup.HTML {
	if made.NextInContact.IsZero() {
		return ""
	}
	to := Address{Kind: When, Filter: made.NextInContact.UTC().Format(time.RFC3339)}
	return ui.Paragraph("pager", markup.Element("a", markup.Attributes{"rel", "next", "href", to.String()},
		"To the next change by time"), ui.Instant(made.NextInContact))
}
