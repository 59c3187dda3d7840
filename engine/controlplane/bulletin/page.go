package bulletin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"slices"
	"time"
)

//go:embed page.gohtml
var layout string

//go:embed page.css
var style string

// Printer makes pages and feeds. It is safe for concurrent use.
type Printer struct {
	notes  *printer
	layout *template.Template
}

// NewPrinter makes one.
func NewPrinter() (*Printer, error) {
	p := &Printer{notes: newPrinter()}
	var err error
	p.layout, err = template.New("page").Funcs(template.FuncMap{"day": day, "stamp": stamp}).Parse(layout)
	if err != nil {
		return nil, fmt.Errorf("read the page's layout: %w", err)
	}
	return p, nil
}

// Policy is the Content-Security-Policy of pages: their own style, and nothing else.
func Policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// shown is a Bulletin as the layout has it.
type shown struct {
	Title, Base, Feed       string
	Style                   template.CSS
	Single                  bool
	Announcements, Releases []shownItem
}

type shownItem struct {
	Item
	HTML template.HTML
	With string // where the release's notes are; empty: they are not shown
}

// Page is a bulletin as a page. Equal bulletins give equal bytes.
func (p *Printer) Page(b Bulletin) ([]byte, error) {
	return p.page(b, shown{Title: "What is new"})
}

// Single is a page with one announcement of a bulletin.
func (p *Printer) Single(b Bulletin, of Item) ([]byte, error) {
	b.Announcements = []Item{of}
	return p.page(b, shown{Title: of.Title, Single: true})
}

func (p *Printer) page(b Bulletin, s shown) ([]byte, error) {
	s.Base, s.Feed, s.Style = b.Base, b.Base+".atom", template.CSS(style) //nolint:gosec // ours
	var err error
	if s.Announcements, err = p.items(b, b.Announcements); err != nil {
		return nil, err
	}
	if !s.Single {
		if s.Releases, err = p.items(b, b.Releases); err != nil {
			return nil, err
		}
	}
	var page bytes.Buffer
	if err := p.layout.Execute(&page, s); err != nil {
		return nil, fmt.Errorf("lay the page out: %w", err)
	}
	return page.Bytes(), nil
}

func (p *Printer) items(b Bulletin, all []Item) ([]shownItem, error) {
	items := make([]shownItem, 0, len(all))
	for _, item := range all {
		notes, err := p.notes.print(item.Notes)
		if err != nil {
			return nil, fmt.Errorf("render the notes of %s: %w", item.ID, err)
		}
		with := ""
		if slices.ContainsFunc(b.Releases, func(r Item) bool { return r.ID == item.Release }) {
			with = b.Base + "#release-" + item.Release
		}
		items = append(items, shownItem{item, notes, with})
	}
	return items, nil
}

// day is an instant for people, in its own zone.
func day(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") }

// stamp is an instant for programs.
func stamp(t time.Time) string { return t.Format(time.RFC3339) }
