package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// MaxDecisions is how many of the newest decisions the page of the history looks through.
const MaxDecisions = 1000

// renderHistory renders the engine's decisions, the newest first.
func renderHistory(m *Model, p *Page, f Facts) {
	p.Title = "History"
	p.add("headline", ui.Heading("History"), ui.Paragraph("soft",
		"The engine's decisions. Each is a signed commit that has what it was based on. Who did what at the control "+
			"plane is in the ", markup.Link(AuditPath, "audit"), ", for administrators."))
	p.add("filter", markup.Element("form", markup.Attributes{"class", "filter", "action",
		Address{Kind: History}.String(), "role", "search"},
		markup.Element("label", markup.Attributes{"for", "filter"}, "Filter"),
		markup.Void("input", "id", "filter", "name", "q", "type", "search", "value", p.Address.Filter, "maxlength",
			strconv.Itoa(maxFilter), "autocomplete", "off", "placeholder", "a channel, a release, or rollback"),
		markup.Element("button", nil, "Apply")))
	var rows [][]markup.HTML
	found := 0
	for _, d := range slices.Backward(f.Decisions) {
		if !decisionMatches(d, p.Address.Filter) {
			continue
		}
		if found++; len(rows) < 2*pageRows {
			rows = append(rows, decisionRow(d))
		}
	}
	if len(rows) == 0 {
		none := markup.HTML("No decision matches.")
		if p.Address.Filter == "" {
			none = "The engine decided nothing yet."
		}
		p.add("decisions", ui.Paragraph("empty", none))
		return
	}
	p.add("decisions", ui.Table("Decisions", []string{"When", "What", "Release", "Channel", "Replaced", "Commit"},
		rows),
		ui.Paragraph("soft", markup.Text(fmt.Sprintf("%s of the newest %s. ", ui.Counted(len(rows), "decision"),
			ui.Thousands(len(f.Decisions)))), markup.Element("code", nil, "sluice log"), " has all of them."))
}

// decisionMatches reports whether a decision has every word of a filter in its kind, channel or release.
func decisionMatches(d plan.Decided, filter string) bool {
	for _, word := range strings.Fields(filter) {
		if !strings.Contains(string(d.Kind)+" "+d.Channel+" "+d.Release+" "+d.Commit, word) {
			return false
		}
	}
	return true
}

func decisionRow(d plan.Decided) []markup.HTML {
	shape := "healthy"
	switch d.Kind {
	case plan.Rollback, plan.Halt:
		shape = "failing"
	case plan.Quarantine:
		shape = "shut-out"
	}
	channel := ui.Soft("everywhere")
	if d.Channel != "" {
		channel = link(Channel, d.Channel)
	}
	replaced := markup.HTML("")
	if d.Replaces != "" {
		replaced = version(d.Replaces)
	}
	return []markup.HTML{ui.Instant(d.At), ui.State(shape, string(d.Kind)), version(d.Release), channel, replaced,
		commitLink(d.Commit)}
}
