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
var pageStyle string

// Renderer renders pages and feeds. It is safe for concurrent use.
type Renderer struct{ notes *notesRenderer }

// NewRenderer returns a Renderer.
func NewRenderer() *Renderer { return &Renderer{notes: newNotesRenderer()} }

// ContentSecurityPolicy returns the pages' Content-Security-Policy, which allows their own style only.
func ContentSecurityPolicy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// Page renders a bulletin as a page. Equal bulletins render equally.
func (p *Renderer) Page(b Bulletin) ([]byte, error) {
	announcements, err := p.renderArticles(b, b.Announcements,
		func(i Item) markup { return element("h3", nil, anchor(b.Base+"/"+i.ID, i.Title)) }, "")
	if err != nil {
		return nil, err
	}
	releases, err := p.renderArticles(b, b.Releases,
		func(i Item) markup { return element("h3", nil, escapeText(i.Title)) }, releasePrefix)
	if err != nil {
		return nil, err
	}
	var contents, body []markup
	section := func(id, title string, articles []markup) {
		if len(articles) == 0 {
			return
		}
		contents = append(contents, anchor("#"+id, title))
		body = append(body,
			element("section", attributes{"id", id, "aria-label", title},
				slices.Insert(articles, 0, element("h2", nil, escapeText(title)))...))
	}
	section("announcements", "Announcements", announcements)
	section("releases", "Releases", releases)
	if len(body) == 0 {
		body = append(body, element("p", nil, escapeText("Nothing yet.")))
	}
	contents = append(contents, anchor(feedURL(b), "Feed"))
	return renderDocument(b, pageTitle, element("h1", nil, escapeText(pageTitle))+element("nav", nil, contents...),
		body), nil
}

// AnnouncementPage renders a page with one announcement of a bulletin.
func (p *Renderer) AnnouncementPage(b Bulletin, of Item) ([]byte, error) {
	articles, err := p.renderArticles(b, []Item{of},
		func(i Item) markup { return element("h1", nil, escapeText(i.Title)) }, "")
	if err != nil {
		return nil, err
	}
	return renderDocument(b, of.Title, element("p", nil, anchor(b.Base, pageTitle)), articles), nil
}

const (
	pageTitle     = "What is new"
	releasePrefix = "release-" // of anchors of releases
)

func feedURL(b Bulletin) string { return b.Base + ".atom" }

// renderDocument renders a whole page.
func renderDocument(b Bulletin, name string, header markup, body []markup) []byte {
	head := element("head", nil,
		voidElement("meta", "charset", "utf-8"),
		voidElement("meta", "name", "viewport", "content", "width=device-width, initial-scale=1"),
		voidElement("meta", "name", "color-scheme", "content", "light dark"),
		voidElement("meta", "name", "referrer", "content", "no-referrer"),
		element("title", nil, escapeText(name)),
		voidElement("link", "rel", "alternate", "type", "application/atom+xml", "title", pageTitle, "href", feedURL(b)),
		element("style", nil, markup(pageStyle)),
	)
	return []byte("<!doctype html>\n" + element("html", attributes{"lang", "en"}, head,
		element("body", nil, element("header", nil, header), element("main", nil, body...))) + "\n")
}

// renderArticles renders items with their notes. prefix precedes their anchors.
func (p *Renderer) renderArticles(b Bulletin, all []Item, heading func(Item) markup, prefix string) ([]markup, error) {
	articles := make([]markup, 0, len(all))
	for _, item := range all {
		notes, err := p.notes.renderNotes(item.Notes)
		if err != nil {
			return nil, fmt.Errorf("render the notes of %s: %w", item.ID, err)
		}
		inside := []markup{heading(item), itemDetails(b, item)}
		if notes != "" {
			inside = append(inside, element("div", attributes{"class", "notes"}, notes))
		}
		articles = append(articles, element("article", attributes{"id", prefix + item.ID}, inside...))
	}
	return articles, nil
}

// itemDetails renders when and where an item was published, with a link to its release's notes if they are shown.
func itemDetails(b Bulletin, item Item) markup {
	inside := []markup{element("time", attributes{"datetime", formatRFC3339(item.At)}, escapeText(formatDay(item.At)))}
	for _, c := range item.Channels {
		inside = append(inside, " ", element("span", nil, escapeText(c)))
	}
	if item.Release != "" {
		release := escapeText(item.Release)
		if slices.ContainsFunc(b.Releases, func(r Item) bool { return r.ID == item.Release }) {
			release = anchor(b.Base+"#"+releasePrefix+item.Release, item.Release)
		}
		inside = append(inside, " in release ", release)
	}
	return element("p", attributes{"class", "about"}, inside...)
}

// formatDay formats an instant for people, in its own zone.
func formatDay(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") }

// formatRFC3339 formats an instant for programs.
func formatRFC3339(t time.Time) string { return t.Format(time.RFC3339) }
