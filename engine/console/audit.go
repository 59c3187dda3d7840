package console

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// Paths of the audit's page, and of its export.
const (
	AuditPath   = Base + "audit"
	AuditExport = Base + "audit.jsonl"
	VerifyParam = "verify" // the chain of hashes is verified
)

// MaxAudited is how many of the newest rows the audit's page looks through.
const MaxAudited = 10_000

// Audit is what the audit's page shows.
type Audit struct {
	Filter  string
	Entries []access.Entry // newest first, at most MaxAudited
	Report  *audit.Report  // what Verify found; nil: it was not asked
}

// RenderAudit returns the page of who did what at the control plane, newest first.
func RenderAudit(m *Model, a Audit) *Page {
	p := &Page{Found: true, Title: "Audit", Still: true}
	p.add("headline", ui.Heading("Audit"), ui.Paragraph("lead",
		"Who did what, recorded before it was done. The rows are a chain "+
			"of hashes: one that is removed or changed afterwards is found."))
	if a.Report != nil {
		p.add("report", reportOf(a.Report))
	}
	p.add("filter", markup.Element("form", markup.Attributes{"class", "filter", "action", AuditPath, "role", "search"},
		markup.Element("label", markup.Attributes{"for", "filter"}, "Filter"),
		markup.Void("input", "id", "filter", "name", "q", "type", "search", "value", a.Filter, "maxlength",
			strconv.Itoa(maxFilter), "autocomplete", "off", "placeholder", "a person, a cell, a word of what was done"),
		markup.Element("button", nil, "Apply")),
		ui.Paragraph("buttons", markup.Element("a", markup.Attributes{"class", "button", "href", AuditPath + "?" +
			VerifyParam + "=1"}, "Verify the chain"), markup.Element("a", markup.Attributes{"class", "button", "href",
			AuditExport, "download", ""}, "Export all of it")))
	var rows [][]markup.HTML
	found := 0
	for _, e := range a.Entries {
		if !rowMatches(e, a.Filter) {
			continue
		}
		if found++; len(rows) < 2*pageRows {
			rows = append(rows, []markup.HTML{ui.Instant(e.At), markup.Text(words.OneLine(e.Who)), whatWasDone(e.What),
				markup.Text(words.OneLine(e.From))})
		}
	}
	if len(rows) == 0 {
		p.add("rows", ui.Paragraph("empty", "No row matches."))
	} else {
		p.add("rows", ui.Table("Audit", []string{"When", "Who", "What", "From"}, rows),
			ui.Paragraph("soft", markup.Text(fmt.Sprintf("%s shown, of %s that match among the newest %s",
				ui.Thousands(len(rows)),
				ui.Thousands(found), ui.Thousands(len(a.Entries))))))
	}
	p.add("command", ui.Command("sluice audit export >audit.jsonl"), ui.Command("sluice audit verify audit.jsonl"))
	p.Regions = append(p.Regions, m.frame(Address{Kind: History})...)
	return p
}

// reportOf says what was found in the chain.
func reportOf(r *audit.Report) markup.HTML {
	if len(r.Findings) == 0 {
		return ui.Element("div", "alert passed", ui.Element("p", "alert-title",
			ui.Mark("passed", ""), "The chain is whole"),
			ui.Paragraph("", markup.Text(fmt.Sprintf("%s, %d to %d: none was removed or changed. Whoever writes "+
				"the whole chain anew is found by an earlier export that is kept elsewhere: "+
				"sluice audit verify --earlier.",
				ui.Counted(int(r.Rows), "row"), r.First, r.Last))))
	}
	var items []markup.HTML
	for _, f := range r.Findings[:min(len(r.Findings), maxListed)] {
		items = append(items, markup.Element("li", nil, markup.Text(words.OneLine(f.What))))
	}
	return markup.Element("div", markup.Attributes{"class", "alert failing", "role", "alert"},
		ui.Element("p", "alert-title", ui.Mark("failing", ""), "The audit is not as it was written"), ui.Element("ul",
			"",
			items...))
}

// rowMatches reports whether a row has every word of a filter.
func rowMatches(e access.Entry, filter string) bool {
	row := strings.ToLower(e.Who + " " + e.What + " " + e.From)
	for word := range strings.FieldsSeq(strings.ToLower(filter)) {
		if !strings.Contains(row, word) {
			return false
		}
	}
	return true
}

var auditedCommit = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^commit ([0-9a-f]{40}) of the (release|flags)s? repository`)
})

// whatWasDone returns what a row says, with a link to the commit that it names.
func whatWasDone(what string) markup.HTML {
	text := markup.Text(words.OneLine(what))
	m := auditedCommit().FindStringSubmatch(what)
	if m == nil {
		return text
	}
	repository := "releases" // as package desk calls it
	if m[2] == "flags" {
		repository = "flags"
	}
	return markup.Join(text, " ", markup.Link(CommitAddress(repository, m[1]), "see it"))
}
