package bulletin_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/controlplane/bulletin"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/markdown"
)

var noon = time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)

// viewOf returns a view with staging and dedicated at 1.0.2, after 1.0.1, and the feature "classes" since 1.0.2.
func viewOf(statuses ...announce.Status) *view.View {
	d := &plan.Desired{Channels: map[string]*plan.Channel{}, Order: []string{"staging", "dedicated"},
		Releases: map[string]*plan.Release{}}
	for i, name := range d.Order {
		c := &plan.Channel{State: channels.State{Name: name}}
		for n, version := range []string{"1.0.1", "1.0.2"} {
			h := plan.EffectiveHead{Moved: noon.Add(time.Duration(i*24+n-48) * time.Hour)}
			h.Release = version
			c.History = append(c.History, h)
		}
		d.Channels[name] = c
	}
	for _, version := range []string{"1.0.1", "1.0.2"} {
		d.Releases[version] = &plan.Release{}
	}
	d.Releases["1.0.2"].Features = []string{"classes"}
	return &view.View{
		Desired: d, Observed: &plan.Observed{},
		Flags: &view.Flags{Plan: announce.Plan{Announcements: statuses},
			Tip: &repository.Tree{Settings: repository.Settings{Link: "https://acme.example/news/"}}},
	}
}

func announcement(id string, change func(*repository.Announcement), in ...announce.ChannelStatus) announce.Status {
	a := &repository.Announcement{ID: id, Title: "Title of " + id, Notes: "Notes of *" + id + "*",
		Features: []string{"classes"}, Zone: "Europe/Berlin"}
	if change != nil {
		change(a)
	}
	return announce.Status{Announcement: a, Channels: in}
}

func inChannel(channel string, state announce.State, at time.Time) announce.ChannelStatus {
	return announce.ChannelStatus{Channel: channel, State: state, At: at,
		Cells: []announce.CellStatus{{Cell: "secret-customer", State: flags.On}}}
}

func notesOf(h plan.EffectiveHead) string {
	if h.Release == "1.0.2" {
		return "Notes of the release"
	}
	return ""
}

// A bulletin has what is published, under embargo only where it was due (R45).
func TestNew(t *testing.T) {
	t.Parallel()
	embargo := func(a *repository.Announcement) { a.Embargo = true }
	archived := func(was repository.Outcome) announce.ChannelStatus {
		c := inChannel("dedicated", announce.Archived, noon)
		c.Record = &repository.Record{Outcome: was}
		return c
	}
	elsewhere := func(a *repository.Announcement) { a.Features = []string{"nowhere"} }
	for name, c := range map[string]struct {
		status   announce.Status
		channel  string
		channels []string // none: not shown
		at       time.Time
	}{
		"published": {
			status: announcement("a", nil, inChannel("staging", announce.Published, time.Time{}),
				inChannel("dedicated", announce.Published, noon)), channels: []string{"staging", "dedicated"},
			at: noon},
		"publishing": {
			status:   announcement("a", nil, inChannel("dedicated", announce.Publishing, noon)),
			channels: []string{"dedicated"}, at: noon},
		"ready in staging, before": {
			status: announcement("a", nil, inChannel("staging", announce.Published, time.Time{}),
				inChannel("dedicated", announce.Armed, noon))},
		"ready everywhere": {
			status:   announcement("a", nil, inChannel("staging", announce.Published, time.Time{})),
			channels: []string{"staging"}, at: noon.Add(-47 * time.Hour)},
		"ready, and no release has it": {
			status: announcement("a", elsewhere, inChannel("staging", announce.Publishing, time.Time{}))},
		"of another channel": {
			status: announcement("a", nil, inChannel("staging", announce.Published, time.Time{}),
				inChannel("dedicated", announce.Armed, noon)), channel: "dedicated"},
		"of one channel": {
			status: announcement("a", nil, inChannel("staging", announce.Published, time.Time{}),
				inChannel("dedicated", announce.Published, noon)), channel: "staging", channels: []string{"staging"},
			at: noon.Add(-47 * time.Hour)},
		"embargo, ready in staging": {
			status: announcement("a", embargo, inChannel("staging", announce.Published, time.Time{}),
				inChannel("dedicated", announce.Armed, noon))},
		"embargo, its time came": {
			status: announcement("a", embargo, inChannel("staging", announce.Published, time.Time{}),
				inChannel("dedicated", announce.Publishing, noon)), channels: []string{"dedicated"}, at: noon},
		"draft": {
			status: announcement("a", nil, inChannel("dedicated", announce.Draft, noon))},
		"armed": {
			status: announcement("a", nil, inChannel("dedicated", announce.Armed, noon))},
		"held": {
			status: announcement("a", nil, inChannel("dedicated", announce.Held, noon))},
		"missed": {
			status: announcement("a", nil, inChannel("dedicated", announce.Missed, noon))},
		"archived after publication": {
			status: announcement("a", nil, inChannel("staging", announce.Archived, time.Time{}),
				archived(repository.Published)), channels: []string{"dedicated"}, at: noon},
		"archived, never published": {
			status: announcement("a", nil, inChannel("staging", announce.Archived, time.Time{}),
				archived(repository.Missed))},
		"taken back": {
			status: announcement("a", nil, inChannel("dedicated", announce.Retracted, noon))},
		"taken back in one channel of two": {
			status: announcement("a", nil, inChannel("staging", announce.Published, noon),
				inChannel("dedicated", announce.Retracted, noon)), channels: []string{"staging"}, at: noon},
	} {
		b := bulletin.New(viewOf(c.status), c.channel, notesOf)
		item, ok := b.FindAnnouncement("a")
		if ok != (len(c.channels) > 0) || !slices.Equal(item.Channels, c.channels) || !item.At.Equal(c.at) {
			t.Errorf("%s: shown %t, %v at %v; want %v at %v", name, ok, item.Channels, item.At, c.channels, c.at)
		}
		if ok && (item.Release != "1.0.2" || item.At.Location().String() != "Europe/Berlin") {
			t.Errorf("%s: in release %q, zone %s", name, item.Release, item.At.Location())
		}
	}
	b := bulletin.New(viewOf(), "", notesOf)
	if len(b.Releases) != 1 || b.Releases[0].ID != "1.0.2" || !b.Releases[0].At.Equal(noon.Add(-47*time.Hour)) ||
		len(b.Releases[0].Channels) != 2 {
		t.Errorf("releases: %+v", b.Releases)
	}
	v := viewOf()
	v.Flags = nil
	if b := bulletin.New(v, "", notesOf); len(b.Releases) != 1 || b.Base != "/announcements" {
		t.Errorf("without flags: %+v", b)
	}
}

// element is a node of a page.
type element struct {
	name string
	attr map[string]string
	text string // directly inside
}

// parseElements returns a page's elements in order, parsed as leniently as a browser does.
func parseElements(t *testing.T, page []byte) (all []*element) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var open []*element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			if len(open) > 0 {
				t.Fatalf("%d elements are not closed", len(open))
			}
			return all
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, page)
		}
		switch x := token.(type) {
		case xml.StartElement:
			e := &element{name: x.Name.Local, attr: map[string]string{}}
			for _, a := range x.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			all, open = append(all, e), append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].text += string(x)
			}
		case xml.Comment:
			t.Errorf("a comment: %s", x)
		}
	}
}

// hostileNotes returns notes of an attacker.
func hostileNotes() []string {
	return []string{
		"<script>alert(1)</script>", "a <script>alert(1)</script> b", "<img src=x onerror=alert(1)>",
		"<iframe src=//evil.example>\n\n</iframe>",
		"[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x](java&#115;cript:alert(1))",
		"[x](java\\\nscript:alert(1))", "[x]( javascript:alert(1) )",
		"[x](data:text/html,<script>alert(1)</script>)", "[x](data:image/png;base64,AAAA)", "[x](vbscript:x)",
		"[x](file:///etc/passwd)", "[x](//evil.example)", "[x](/v1/plan)",
		"![x](https://evil.example/pixel.png)", "![x](javascript:alert(1))",
		"[![x](https://evil.example/p.png)](javascript:alert(1))", "[r]\n\n[r]: javascript:alert(1)",
		"<javascript:alert(1)>", "<https://good.example/?a=\"><script>>", "https://good.example/<script>",
		"[x](https://good.example/\"onmouseover=\"alert(1))",
		"[x](https://good.example 'a\" onclick=\"alert(1)')", "<!-- --><script>alert(1)</script>",
		"<style>body{display:none}</style>", "</article></main><h1>gone", "<base href=//evil.example>",
		"```\"><script>\nx\n```", "| a |\n|:-:|\n| <b onclick=x> |", "\x00\x01\x1b[2J", "\xff\xfe",
		"# Heading <script>", "<meta http-equiv=refresh content=0>", "<a href=javascript:alert(1)>x</a>",
		"me@evil.example",
	}
}

// Notes can neither run, load nor deceive.
func TestNotesAreHarmless(t *testing.T) {
	t.Parallel()
	p := bulletin.NewRenderer()
	allowed := []string{"html", "head", "meta", "title", "link", "style", "body", "header", "h1", "h2", "h3", "h4",
		"h5", "h6", "nav", "a", "main", "section", "article", "p", "time", "span", "div", "pre", "code", "table",
		"thead", "tbody", "tr", "th", "td", "em", "strong", "ul", "ol", "li", "br", "hr", "blockquote", "del"}
	for _, text := range hostileNotes() {
		b := bulletin.New(viewOf(announcement("a", func(a *repository.Announcement) {
			a.Notes, a.Title = text, text
		}, inChannel("dedicated", announce.Published, noon))), "", func(plan.EffectiveHead) string { return text })
		page, err := p.Page(b)
		if err != nil {
			t.Fatal(err)
		}
		metas := 0
		for _, e := range parseElements(t, page) {
			if !slices.Contains(allowed, e.name) {
				t.Errorf("%q makes <%s>", text, e.name)
			}
			if e.name == "meta" {
				metas++
			}
			for name, value := range e.attr {
				u, err := url.Parse(value)
				switch {
				case strings.HasPrefix(name, "on"), name == "src", name == "style":
					t.Errorf("%q makes %s=%q", text, name, value)
				case name == "href" &&
					(err != nil || !slices.Contains([]string{"https", "mailto", ""}, u.Scheme) ||
						u.Scheme == "" && !strings.HasPrefix(value, "#")):
					t.Errorf("%q makes a link to %q", text, value)
				}
			}
		}
		if metas != 4 {
			t.Errorf("%q: %d metas", text, metas)
		}
		feed, err := p.Feed(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(feed, new(struct{})); err != nil {
			t.Errorf("%q makes a feed that is no XML: %v", text, err)
		}
	}
}

// Notes that are hard to parse take bounded time, and the page is of bounded size.
func TestNotesAreBounded(t *testing.T) {
	t.Parallel()
	p := bulletin.NewRenderer()
	for _, piece := range []string{"[", "![", ">", "> ", "*", "* ", "`", "<", "\\", "_a", "**a ", "- ", "[a](", "|",
		"\n|-", "&", "a@a.", "http://a", "<a ", "1. "} {
		text := strings.Repeat(piece, 4*markdown.MaxNotes)
		page, err := p.Page(
			bulletin.New(viewOf(
				announcement("a", func(a *repository.Announcement) { a.Notes = text },
					inChannel("dedicated", announce.Published, noon))), "", notesOf))
		if err != nil || len(page) > 64*markdown.MaxNotes || !strings.Contains(string(page), "…") {
			t.Errorf("%q: %d bytes, %v", piece, len(page), err)
		}
	}
}

// The page shows its items, names no cell, and its policy allows its own style only.
func TestPage(t *testing.T) {
	t.Parallel()
	p := bulletin.NewRenderer()
	b := bulletin.New(viewOf(
		announcement("classes", nil, inChannel("staging", announce.Published, time.Time{}),
			inChannel("dedicated", announce.Published, noon)),
		announcement("later", nil, inChannel("dedicated", announce.Published, noon.Add(time.Hour))),
		announcement("secret", nil, inChannel("dedicated", announce.Armed, noon)),
	), "", notesOf)
	page, err := p.Page(b)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, says := range []string{
		"<em>classes</em>", `<a href="https://acme.example/news/classes">Title of classes</a>`,
		`<time datetime="2026-12-01T10:00:00+01:00">1 December 2026, 10:00 CET</time>`,
		`<a href="https://acme.example/news#release-1.0.2">1.0.2</a>`, `id="release-1.0.2"`, "Notes of the release",
		`href="https://acme.example/news.atom"`,
	} {
		if !strings.Contains(text, says) {
			t.Errorf("the page lacks %s:\n%s", says, text)
		}
	}
	if strings.Contains(text, "secret") ||
		strings.Index(text, "Title of later") > strings.Index(text, "Title of classes") {
		t.Errorf("the page shows what it must not, or in another order:\n%s", text)
	}
	for _, e := range parseElements(t, page) {
		if e.name != "style" {
			continue
		}
		sum := sha256.Sum256([]byte(e.text))
		if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"';"; !strings.Contains(bulletin.ContentSecurityPolicy(), want) {
			t.Errorf("the policy %s has not %s", bulletin.ContentSecurityPolicy(), want)
		}
	}
	item, _ := b.FindAnnouncement("classes")
	single, err := p.AnnouncementPage(b, item)
	if err != nil || !strings.Contains(string(single), "<title>Title of classes</title>") ||
		strings.Contains(string(single), "later") || strings.Contains(string(single), "Notes of the release") {
		t.Errorf("alone (%v):\n%s", err, single)
	}
	again, err := p.Page(bulletin.New(viewOf(), "", func(plan.EffectiveHead) string { return "" }))
	if err != nil || !strings.Contains(string(again), "Nothing yet.") {
		t.Errorf("with nothing to show (%v):\n%s", err, again)
	}
}

// parsedFeed is an Atom feed as a reader parses it.
type parsedFeed struct {
	XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	ID      string      `xml:"id"`
	Title   string      `xml:"title"`
	Updated string      `xml:"updated"`
	Author  string      `xml:"author>name"`
	Links   []atomLink  `xml:"link"`
	Entries []atomEntry `xml:"entry"`
}

type atomLink struct {
	Rel  string `xml:"rel,attr"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	ID      string     `xml:"id"`
	Title   string     `xml:"title"`
	Updated string     `xml:"updated"`
	Links   []atomLink `xml:"link"`
	Content struct {
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	} `xml:"content"`
}

// The feed has what RFC 4287 requires, and an entry's id does not depend on other entries.
func TestFeed(t *testing.T) {
	t.Parallel()
	p := bulletin.NewRenderer()
	read := func(statuses ...announce.Status) (f parsedFeed) {
		t.Helper()
		body, err := p.Feed(bulletin.New(viewOf(statuses...), "", notesOf))
		if err == nil {
			err = xml.Unmarshal(body, &f)
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		return f
	}
	classes := announcement("classes", nil, inChannel("dedicated", announce.Published, noon))
	f := read(classes, announcement("later", nil, inChannel("dedicated", announce.Published, noon.Add(time.Hour))))
	want := []atomEntry{
		{Title: "Title of later", Links: []atomLink{{"alternate", "https://acme.example/news/later"}},
			Updated: "2026-12-01T11:00:00+01:00"},
		{Title: "Title of classes", Links: []atomLink{{"alternate", "https://acme.example/news/classes"}},
			Updated: "2026-12-01T10:00:00+01:00"},
		{Title: "Release 1.0.2", Links: []atomLink{{"alternate", "https://acme.example/news#release-1.0.2"}},
			Updated: "2026-11-29T10:00:00Z"},
	}
	if len(f.Entries) != len(want) || f.Author != "acme.example" || f.Title == "" || f.Updated != want[0].Updated ||
		!slices.Equal(f.Links,
			[]atomLink{{"self", "https://acme.example/news.atom"}, {"alternate", "https://acme.example/news"}}) {
		t.Fatalf("%+v", f)
	}
	ids := map[string]bool{f.ID: true}
	for i, e := range f.Entries {
		ids[e.ID] = true
		if e.Title != want[i].Title || e.Updated != want[i].Updated || !slices.Equal(e.Links, want[i].Links) ||
			e.Content.Type != "html" || !strings.Contains(e.Content.Text, "<p>Notes") {
			t.Errorf("entry %d: %+v", i, e)
		}
		if !regexp.MustCompile(
			`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(e.ID) {
			t.Errorf("id %s", e.ID)
		}
	}
	if len(ids) != 4 {
		t.Errorf("ids are the same: %v", ids)
	}
	silent := announcement("silent", func(a *repository.Announcement) { a.Notes = "" },
		inChannel("dedicated", announce.Published, noon))
	if page, err := p.Page(bulletin.New(viewOf(silent), "", notesOf)); err != nil ||
		strings.Count(string(page), `class="notes"`) != 1 || read(silent).Entries[0].Content.Type != "" {
		t.Errorf("without notes (%v):\n%s", err, page)
	}
	if alone := read(classes); alone.Entries[0].ID != f.Entries[1].ID || alone.ID != f.ID {
		t.Error("ids change with what else is shown")
	}
}
