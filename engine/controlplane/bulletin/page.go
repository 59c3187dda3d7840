package bulletin

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"slices"
	"time"
)

//go:embed page.css
var style string

// Printer makes pages and feeds. It is safe for concurrent use.
type Printer struct{ notes *printer }

// NewPrinter makes one.
func NewPrinter() *Printer { return &Printer{notes: newPrinter()} }

// Policy is the Content-Security-Policy of pages: their own style, and nothing else.
func Policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// Page is a bulletin as a page. Equal bulletins give equal bytes.
func (p *Printer) Page(b Bulletin) ([]byte, error) {
	announcements, err := p.articles(b, b.Announcements, func(i Item) markup { return element("h3", nil, anchor(b.Base+"/"+i.ID, i.Title)) }, "")
	if err != nil {
		return nil, err
	}
	releases, err := p.articles(b, b.Releases, func(i Item) markup { return element("h3", nil, text(i.Title)) }, releasePrefix)
	if err != nil {
		return nil, err
	}
	var contents, body []markup
	section := func(id, title string, articles []markup) {
		if len(articles) == 0 {
			return
		}
		contents = append(contents, anchor("#"+id, title))
		body = append(body, element("section", attributes{"id", id, "aria-label", title}, slices.Insert(articles, 0, element("h2", nil, text(title)))...))
	}
	section("announcements", "Announcements", announcements)
	section("releases", "Releases", releases)
	if len(body) == 0 {
		body = append(body, element("p", nil, text("Nothing yet.")))
	}
	contents = append(contents, anchor(feedOf(b), "Feed"))
	return document(b, title, element("h1", nil, text(title))+element("nav", nil, contents...), body), nil
}

// Single is a page with one announcement of a bulletin.
func (p *Printer) Single(b Bulletin, of Item) ([]byte, error) {
	articles, err := p.articles(b, []Item{of}, func(i Item) markup { return element("h1", nil, text(i.Title)) }, "")
	if err != nil {
		return nil, err
	}
	return document(b, of.Title, element("p", nil, anchor(b.Base, title)), articles), nil
}

const (
	title         = "What is new"
	releasePrefix = "release-" // of the releases' anchors
)

func feedOf(b Bulletin) string { return b.Base + ".atom" }

// document is a whole page.
func document(b Bulletin, name string, header markup, body []markup) []byte {
	head := element("head", nil,
		void("meta", "charset", "utf-8"),
		void("meta", "name", "viewport", "content", "width=device-width, initial-scale=1"),
		void("meta", "name", "color-scheme", "content", "light dark"),
		void("meta", "name", "referrer", "content", "no-referrer"),
		element("title", nil, text(name)),
		void("link", "rel", "alternate", "type", "application/atom+xml", "title", title, "href", feedOf(b)),
		element("style", nil, markup(style)),
	)
	return []byte("<!doctype html>\n" + element("html", attributes{"lang", "en"}, head,
		element("body", nil, element("header", nil, header), element("main", nil, body...))) + "\n")
}

// articles are items with their notes. prefix goes before their anchors.
func (p *Printer) articles(b Bulletin, all []Item, heading func(Item) markup, prefix string) ([]markup, error) {
	articles := make([]markup, 0, len(all))
	for _, item := range all {
		notes, err := p.notes.print(item.Notes)
		if err != nil {
			return nil, fmt.Errorf("render the notes of %s: %w", item.ID, err)
		}
		inside := []markup{heading(item), about(b, item)}
		if notes != "" {
			inside = append(inside, element("div", attributes{"class", "notes"}, notes))
		}
		articles = append(articles, element("article", attributes{"id", prefix + item.ID}, inside...))
	}
	return articles, nil
}

// about says when and where an item came out. A release whose notes are shown is linked to them.
func about(b Bulletin, item Item) markup {
	inside := []markup{element("time", attributes{"datetime", stamp(item.At)}, text(day(item.At)))}
	for _, c := range item.Channels {
		inside = append(inside, " ", element("span", nil, text(c)))
	}
	if item.Release != "" {
		release := text(item.Release)
		if slices.ContainsFunc(b.Releases, func(r Item) bool { return r.ID == item.Release }) {
			release = anchor(b.Base+"#"+releasePrefix+item.Release, item.Release)
		}
		inside = append(inside, " in release ", release)
	}
	return element("p", attributes{"class", "about"}, inside...)
}

// day is an instant for people, in its own zone.
func day(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") }

// stamp is an instant for programs.
func stamp(t time.Time) string { return t.Format(time.RFC3339) }
