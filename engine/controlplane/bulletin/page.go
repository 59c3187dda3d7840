package bulletin

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/internal/markdown"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/releases"
)

//go:embed page.css
var pageStyle string

// Renderer renders pages and feeds. It is safe for concurrent use.
type Renderer struct{ notes *markdown.Renderer }

// NewRenderer returns a Renderer.
func NewRenderer() *Renderer { return &Renderer{notes: markdown.NewRenderer()} }

// ReadNotes returns a release's notes in a commit's files, or "" if it has none.
func ReadNotes(files fs.FS, version string) (string, error) {
	f, err := files.Open(path.Join(releases.Dir, version, "notes.md"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, markdown.MaxNotes+1))
	return markdown.TruncateNotes(string(text)), err
}

// ContentSecurityPolicy returns the pages' Content-Security-Policy, which allows their own style only.
func ContentSecurityPolicy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// Page renders a bulletin as a page. Equal bulletins render equally.
func (p *Renderer) Page(b Bulletin) ([]byte, error) {
	announcements, err := p.renderArticles(b, b.Announcements,
		func(i Item) markup.HTML { return markup.Element("h3", nil, markup.Link(b.Base+"/"+i.ID, i.Title)) }, "")
	if err != nil {
		return nil, err
	}
	releases, err := p.renderArticles(b, b.Releases,
		func(i Item) markup.HTML { return markup.Element("h3", nil, markup.Text(i.Title)) }, releasePrefix)
	if err != nil {
		return nil, err
	}
	var contents, body []markup.HTML
	section := func(id, title string, articles []markup.HTML) {
		if len(articles) == 0 {
			return
		}
		contents = append(contents, markup.Link("#"+id, title))
		body = append(body,
			markup.Element("section", markup.Attributes{"id", id, "aria-label", title},
				slices.Insert(articles, 0, markup.Element("h2", nil, markup.Text(title)))...))
	}
	section("announcements", "Announcements", announcements)
	section("releases", "Releases", releases)
	if len(body) == 0 {
		body = append(body, markup.Element("p", nil, markup.Text("Nothing yet.")))
	}
	contents = append(contents, markup.Link(feedURL(b), "Feed"))
	header := markup.Element("h1", nil, markup.Text(pageTitle)) + markup.Element("nav", nil, contents...)
	return renderDocument(b, pageTitle, header, body), nil
}

// AnnouncementPage renders a page with one announcement of a bulletin.
func (p *Renderer) AnnouncementPage(b Bulletin, of Item) ([]byte, error) {
	articles, err := p.renderArticles(b, []Item{of},
		func(i Item) markup.HTML { return markup.Element("h1", nil, markup.Text(i.Title)) }, "")
	if err != nil {
		return nil, err
	}
	return renderDocument(b, of.Title, markup.Element("p", nil, markup.Link(b.Base, pageTitle)), articles), nil
}

const (
	pageTitle     = "What is new"
	releasePrefix = "release-" // of anchors of releases
)

func feedURL(b Bulletin) string { return b.Base + ".atom" }

// renderDocument renders a whole page.
func renderDocument(b Bulletin, name string, header markup.HTML, body []markup.HTML) []byte {
	head := markup.Element("head", nil,
		markup.Void("meta", "charset", "utf-8"),
		markup.Void("meta", "name", "viewport", "content", "width=device-width, initial-scale=1"),
		markup.Void("meta", "name", "color-scheme", "content", "light dark"),
		markup.Void("meta", "name", "referrer", "content", "no-referrer"),
		markup.Element("title", nil, markup.Text(name)),
		markup.Void("link", "rel", "alternate", "type", "application/atom+xml", "title", pageTitle, "href", feedURL(b)),
		markup.Element("style", nil, markup.HTML(pageStyle)),
	)
	return []byte("<!doctype html>\n" + markup.Element("html", markup.Attributes{"lang", "en"}, head,
		markup.Element("body", nil, markup.Element("header", nil, header), markup.Element("main", nil, body...))) +
		"\n")
}

// renderArticles renders items with their notes. prefix precedes their anchors.
func (p *Renderer) renderArticles(
	b Bulletin, all []Item, heading func(Item) markup.HTML, prefix string,
) ([]markup.HTML, error) {
	articles := make([]markup.HTML, 0, len(all))
	for _, item := range all {
		notes, err := p.notes.Notes(item.Notes)
		if err != nil {
			return nil, fmt.Errorf("render the notes of %s: %w", item.ID, err)
		}
		inside := []markup.HTML{heading(item), itemDetails(b, item)}
		if notes != "" {
			inside = append(inside, markup.Element("div", markup.Attributes{"class", "notes"}, notes))
		}
		articles = append(articles, markup.Element("article", markup.Attributes{"id", prefix + item.ID}, inside...))
	}
	return articles, nil
}

// itemDetails renders when and where an item was published, with a link to its release's notes if they are shown.
func itemDetails(b Bulletin, item Item) markup.HTML {
	inside := []markup.HTML{markup.Element("time", markup.Attributes{"datetime", formatRFC3339(item.At)},
		markup.Text(formatDay(item.At)))}
	for _, c := range item.Channels {
		inside = append(inside, " ", markup.Element("span", nil, markup.Text(c)))
	}
	if item.Release != "" {
		release := markup.Text(item.Release)
		if slices.ContainsFunc(b.Releases, func(r Item) bool { return r.ID == item.Release }) {
			release = markup.Link(b.Base+"#"+releasePrefix+item.Release, item.Release)
		}
		inside = append(inside, " in release ", release)
	}
	return markup.Element("p", markup.Attributes{"class", "about"}, inside...)
}

// formatDay formats an instant for people, in its own zone.
func formatDay(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") }

// formatRFC3339 formats an instant for programs.
func formatRFC3339(t time.Time) string { return t.Format(time.RFC3339) }
