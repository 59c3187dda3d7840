// Package console renders the pages on which people see the fleet: what moves, what does not, and why.
//
// A page is a pure function of a Model (one view.View, with what all pages of it share), of an Address, and of the few
// Facts that a View does not have. Equal input renders equally: a page has no clock but the plan's, and says when
// something happened, never how long ago, which the script in the browser adds. A Page consists of regions; the browser
// replaces a region when its bytes have changed, and nothing else.
//
// Everything is written with package markup, so that names, notes, reasons and messages can neither run, load nor
// deceive. A state is always a shape, a word and a colour. The package does no I/O and decides nothing. A Model may be
// used by several goroutines.
package console

import (
	"net/url"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/adoption"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// Base is the path of the first page; the others are below it.
const Base = "/ui/"

// Bounds of what is read from an address, in bytes, and of what a page lists.
const (
	maxName   = 300
	maxFilter = 500
	pageRows  = 100
	maxListed = 12 // names, verdicts or releases in a list inside of a page
)

// Kind is a kind of page.
type Kind string

// The pages. Those of one thing have its name in the path: /ui/cells/acme.
const (
	Now           Kind = ""
	Needs         Kind = "needs"
	Fleet         Kind = "fleet"
	Cell          Kind = "cells"
	Channel       Kind = "channels"
	Releases      Kind = "releases" // all, or with a name one
	Flags         Kind = "flags"    // all, or with a name one
	Announcements Kind = "announcements"
	When          Kind = "when"
	WhatIf        Kind = "whatif" // all channels, or with a name one
	History       Kind = "history"
	Search        Kind = "search"
)

// Address is what a browser asks for. It is comparable, and bounded.
type Address struct {
	Kind   Kind
	Name   string // of the one thing that the page is about
	Filter string // q=, as typed
	After  string // after=: the name before the first of a list
}

// ParseAddress returns the address in a URL. ok is false if there is no such page.
func ParseAddress(path string, query url.Values) (a Address, ok bool) {
	rest, ok := strings.CutPrefix(path, Base)
	if !ok {
		return a, false
	}
	kind, name, named := strings.Cut(rest, "/")
	a = Address{Kind: Kind(kind), Name: name, Filter: strings.TrimSpace(query.Get("q")), After: query.Get("after")}
	if len(a.Name) > maxName || len(a.Filter) > maxFilter || len(a.After) > maxName || named && name == "" {
		return a, false
	}
	switch a.Kind {
	case Cell, Channel, Announcements:
		return a, named
	case Releases, Flags, WhatIf:
		return a, true
	case Now, Needs, Fleet, When, History, Search:
		return a, !named
	}
	return a, false
}

// String returns the URL of a, without the host. ParseAddress reads it.
func (a Address) String() string {
	to := Base + string(a.Kind)
	if a.Name != "" {
		to += "/" + url.PathEscape(a.Name)
	}
	query := url.Values{}
	if a.Filter != "" {
		query.Set("q", a.Filter)
	}
	if a.After != "" {
		query.Set("after", a.After)
	}
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	return to
}

// Facts is what pages show beside the View: whoever calls Render reads it.
type Facts struct {
	Notes     markup.HTML      // of a release or an announcement, made by bulletin.Renderer.Notes
	Decisions []plan.Decided   // of History: the newest, oldest first
	Why       []string         // further lines for a cell's page
	Trial     *Trial           // of What if; nil: an empty form
	Adoption  *adoption.Series // of the page's cells; nil: it is not known
	Exported  *Exported        // of a cell's page; nil: it is not known
	Events    []cells.Event    // of a cell's page: the newest that it reported, oldest first, at most MaxEvents
}

// Page is a page of the console. It is immutable.
type Page struct {
	Address Address
	Title   string
	Found   bool       // false: there is no such thing, and the page says so
	Still   bool       // it is of one moment: a tab does not follow it
	Regions ui.Regions // in the order in which they stand
}

// ETag returns a hash of all that the page shows.
func (p *Page) ETag() string { return p.Regions.ETag(p.Title) }

// Render returns a page. It is never nil: of what does not exist it says so.
func Render(m *Model, a Address, f Facts) *Page {
	p := &Page{Address: a, Found: true}
	switch a.Kind {
	case Now:
		renderNow(m, p)
	case Needs:
		renderNeeds(m, p)
	case Fleet:
		renderFleet(m, p, f)
	case Cell:
		renderCell(m, p, f)
	case Channel:
		renderChannel(m, p, f)
	case Releases:
		if a.Name == "" {
			renderReleases(m, p)
		} else {
			renderRelease(m, p, f)
		}
	case Flags:
		if a.Name == "" {
			renderFlags(m, p)
		} else {
			renderFlag(m, p)
		}
	case Announcements:
		renderAnnouncement(m, p, f)
	case When:
		renderWhen(m, p)
	case WhatIf:
		renderWhatIf(m, p, f)
	case History:
		renderHistory(m, p, f)
	case Search:
		renderSearch(m, p)
	default:
		p.Found = false
	}
	if !p.Found {
		p.missing()
	}
	p.Regions = append(p.Regions, m.frame(a)...)
	return p
}

// add appends a region.
func (p *Page) add(id string, parts ...markup.HTML) {
	if html := markup.Join(parts...); html != "" {
		p.Regions = append(p.Regions, ui.Region{ID: id, HTML: html})
	}
}

// missing makes p a page that says that there is no such thing.
func (p *Page) missing() {
	p.Title, p.Regions = "Not found", nil
	p.add("headline", ui.Heading("There is nothing of this name"),
		ui.Paragraph("", markup.Text("It was removed, or the address is mistyped. "),
			markup.Link(Address{Kind: Search, Filter: words.Clip(p.Address.Name, 80)}.String(), "Search for it")))
}
