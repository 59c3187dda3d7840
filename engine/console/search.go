package console

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// maxFound is how many things of one kind a search lists.
const maxFound = 20

// renderSearch renders what has a text in its name. The palette shows the same list.
func renderSearch(m *Model, p *Page) {
	p.Title = "Search"
	text := strings.ToLower(p.Address.Filter)
	d := m.view.Desired
	var items []markup.HTML
	found := 0
	group := func(kind Kind, word string, names []string) {
		matching := matchingNames(names, text)
		found += len(matching)
		for _, name := range matching[:min(len(matching), maxFound)] {
			items = append(items, markup.Element("li", nil, markup.Element("a", markup.Attributes{"href",
				Address{Kind: kind, Name: name}.String()}, markup.Text(name), " ", ui.Soft(word))))
		}
	}
	if text != "" {
		for _, s := range sections() {
			if strings.HasPrefix(strings.ToLower(s.name), text) {
				items = append(items, markup.Element("li", nil, markup.Element("a", markup.Attributes{"href",
					Address{Kind: s.kind}.String()}, markup.Text(s.name), " ", ui.Soft("page"))))
			}
		}
		for _, a := range actions.All() {
			if strings.Contains(strings.ToLower(a.Title), text) && !a.Undo {
				found++
				items = append(items, markup.Element("li", nil, markup.Element("a", markup.Attributes{"href",
					ActionAddress(a.Name, nil)}, markup.Text(a.Title), " ", ui.Soft("action"))))
			}
		}
		group(Channel, "channel", d.Order)
		versions := make([]string, 0, len(d.Versions))
		for _, r := range slices.Backward(d.Versions) {
			versions = append(versions, r.Version.String())
		}
		group(Releases, "release", versions)
		m.withIndex(func(x *view.FlagIndex) { group(Flags, "flag", x.Keys()) })
		if f := m.view.Flags; f != nil {
			var ids []string
			for _, a := range f.Plan.Announcements {
				ids = append(ids, a.Announcement.ID)
			}
			group(Announcements, "announcement", ids)
		}
		cells := make([]string, 0, len(d.Cells))
		for _, c := range m.status().Cells {
			cells = append(cells, c.Name)
		}
		group(Cell, "cell", cells)
	}
	p.add("headline", ui.Heading("Search"))
	switch {
	case text == "":
		p.add("found", ui.Paragraph("empty", "Type part of the name of a cell, a channel, a release or a flag."))
	case len(items) == 0:
		p.add("found", ui.Paragraph("empty", markup.Text("Nothing has "+p.Address.Filter+" in its name.")))
	default:
		p.add("found", ui.Element("ul", "found", items...), ui.Paragraph("soft", markup.Text(fmt.Sprintf("%s found",
			ui.Thousands(found)))))
	}
}

// matchingNames returns the names that have a text in them, those first that begin with it.
func matchingNames(names []string, text string) []string {
	var first, rest []string
	for _, name := range names {
		switch low := strings.ToLower(name); {
		case strings.HasPrefix(low, text):
			first = append(first, name)
		case strings.Contains(low, text):
			rest = append(rest, name)
		}
	}
	return append(first, rest...)
}
