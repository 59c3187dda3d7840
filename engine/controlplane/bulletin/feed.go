package bulletin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// atomFeed is a feed by RFC 4287.
type atomFeed struct {
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
	Type string `xml:"type,attr"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	ID         string         `xml:"id"`
	Title      string         `xml:"title"`
	Published  string         `xml:"published"`
	Updated    string         `xml:"updated"`
	Link       atomLink       `xml:"link"`
	Categories []atomCategory `xml:"category"`
	Content    *atomContent   `xml:"content"` // nil without notes
}

type atomCategory struct {
	Term string `xml:"term,attr"`
}

type atomContent struct {
	Type string `xml:"type,attr"`
	HTML string `xml:",chardata"`
}

// An entry's kind is its first category.
const (
	kindAnnouncement = "announcement"
	kindRelease      = "release"
)

// Feed renders a bulletin as an Atom feed, announcements and releases by time. Equal bulletins render equally.
func (p *Renderer) Feed(b Bulletin) ([]byte, error) {
	f := atomFeed{
		// The feed's time while it is empty is the epoch.
		ID: stableID(b.Base, "feed", ""), Title: "What is new", Author: "Release notes",
		Updated: formatRFC3339(time.Unix(0, 0).UTC()),
		Links:   []atomLink{{"self", "application/atom+xml", b.Base + ".atom"}, {"alternate", "text/html", b.Base}},
	}
	if u, err := url.Parse(b.Base); err == nil && u.Host != "" {
		f.Author = u.Hostname()
	}
	kinds := map[string][]Item{kindAnnouncement: b.Announcements, kindRelease: b.Releases}
	type dated struct {
		kind string
		Item
	}
	var all []dated
	for _, kind := range []string{kindAnnouncement, kindRelease} {
		for _, item := range kinds[kind] {
			all = append(all, dated{kind, item})
		}
	}
	slices.SortStableFunc(all, func(a, b dated) int { return b.At.Compare(a.At) })
	for _, d := range all {
		e, err := p.feedEntry(b.Base, d.kind, d.Item)
		if err != nil {
			return nil, err
		}
		f.Entries = append(f.Entries, e)
	}
	if len(all) > 0 {
		f.Updated = formatRFC3339(all[0].At)
	}
	var out bytes.Buffer
	out.WriteString(xml.Header)
	if err := xml.NewEncoder(&out).Encode(f); err != nil {
		return nil, fmt.Errorf("write the feed: %w", err)
	}
	return append(out.Bytes(), '\n'), nil
}

func (p *Renderer) feedEntry(base, kind string, item Item) (atomEntry, error) {
	notes, err := p.notes.Notes(item.Notes)
	if err != nil {
		return atomEntry{}, fmt.Errorf("render the notes of %s: %w", item.ID, err)
	}
	e := atomEntry{
		ID: stableID(base, kind, item.ID), Title: item.Title, Published: formatRFC3339(item.At),
		Updated: formatRFC3339(item.At),
		Link:    atomLink{"alternate", "text/html", base + "/" + item.ID}, Categories: []atomCategory{{kind}},
	}
	if notes != "" {
		e.Content = &atomContent{"html", string(notes)}
	}
	if kind == kindRelease {
		e.Title, e.Link.Href = "Release "+item.Title, base+"#release-"+item.ID
	}
	for _, channel := range item.Channels {
		e.Categories = append(e.Categories, atomCategory{channel})
	}
	return e, nil
}

// stableID returns an id that depends on the page's host, a kind and an id only: a UUID of version 8 (RFC 9562).
func stableID(base, kind, id string) string {
	host := ""
	if u, err := url.Parse(base); err == nil {
		host = u.Hostname()
	}
	sum := sha256.Sum256([]byte("sluice\n" + host + "\n" + kind + "\n" + id))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return "urn:uuid:" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
