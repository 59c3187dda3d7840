package console

import (
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// sections are the items of the navigation, each with the key that follows g.
func sections() []struct {
	kind      Kind
	name, key string
} {
	return []struct {
		kind      Kind
		name, key string
	}{
		{Now, "Now", "n"}, {Needs, "Needs you", "i"}, {Fleet, "Fleet", "f"}, {Releases, "Releases", "r"},
		{Flags, "Flags", "l"}, {When, "When", "w"}, {WhatIf, "What if", "x"},
		{History, "History", "h"},
	}
}

// frame returns the regions that every page has.
func (m *Model) frame(at Address) ui.Regions {
	all := ui.Regions{m.navigation(at), m.asOf()}
	if m.ActsAs != "" {
		all = append(all, ui.Region{ID: ui.FrameBanner, HTML: ui.Paragraph("", ui.Mark("held", ""),
			" Everyone on this machine acts here as ", markup.Element("b", nil, markup.Text(m.ActsAs)),
			", by --console-as.")})
	}
	return all
}

// navigation returns the region with the links to all sections.
func (m *Model) navigation(at Address) ui.Region {
	var items []markup.HTML
	for _, s := range sections() {
		with := markup.Attributes{"href", Address{Kind: s.kind}.String(), "data-key", s.key}
		current := at.Kind == s.kind || s.kind == Fleet && at.Kind == Cell || s.kind == Now && at.Kind == Channel ||
			s.kind == Flags && at.Kind == Announcements
		if current {
			with = append(with, "aria-current", "page")
		}
		inside := []markup.HTML{markup.Text(s.name)}
		if n := len(m.needs()); s.kind == Needs && n > 0 {
			inside = append(inside, ui.Element("span", "badge", markup.Text(strconv.Itoa(n))))
		}
		items = append(items, markup.Element("li", nil, markup.Element("a", with, inside...)))
	}
	return ui.Region{ID: ui.FrameNavigation, HTML: markup.Element("ul", nil, items...)}
}

// asOfStep is how exactly a page says when its plan was made: it does not change with every plan.
const asOfStep = time.Minute

// asOf returns the region that says what the page is of. It changes once a minute at most.
func (m *Model) asOf() ui.Region {
	v := m.view
	parts := []markup.HTML{"commit ", ui.Code(words.ShortCommit(v.Desired.Commit)), " as planned ",
		ui.Instant(v.Plan.Now.Truncate(asOfStep))}
	return ui.Region{ID: ui.FrameFoot, HTML: ui.Paragraph("", parts...)}
}

// Document returns the whole page.
func (p *Page) Document() []byte {
	f := ui.Frame{Title: p.Title, Base: Base, Followed: p.followed(), Regions: p.Regions, Search: markup.Element("form",
		markup.Attributes{"class", "search", "role", "search", "action", Address{Kind: Search}.String()},
		markup.Void("input", "type", "search", "name", "q", "aria-label", "Search cells, channels, releases and flags",
			"placeholder", "Search", "maxlength", strconv.Itoa(maxFilter), "autocomplete", "off"),
		markup.Element("button", markup.Attributes{"class", "unseen"}, "Search"))}
	return f.Document()
}

// followed returns the address that a tab follows; empty: none.
func (p *Page) followed() string {
	if p.Still {
		return ""
	}
	return p.Address.String()
}
