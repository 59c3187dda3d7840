// Package bulletin shows what was announced and released: as a page for people, and as an Atom feed.
//
// It is pure: a View in, bytes out. What it shows is for everyone: announcements whose time has come somewhere, under
// embargo not before it (R45); and the notes of releases that reached a channel. It never names a cell, and of flags it shows
// nothing at all. Notes are Markdown from git, and are rendered so that nothing in them can run, load or deceive: no HTML, no
// images, only links to the web and to mail.
package bulletin

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

// MaxItems is how many announcements, and how many releases, are shown: the newest.
const MaxItems = 50

// Bulletin is what is shown. Immutable.
type Bulletin struct {
	Base          string // the page's address: what is under it begins so
	Announcements []Item // newest first
	Releases      []Item // newest first
}

// Item is an announcement or a release.
type Item struct {
	ID       string // the announcement's, or the release's version
	Title    string
	At       time.Time // when it was first published or promoted, in its zone
	Channels []string  // that have it, upstreams first
	Release  string    // of an announcement: the oldest release that contains all its features; empty: not known
	Notes    string    // Markdown
}

// NotesReader gives the notes of a release that was a head; empty: it has none.
type NotesReader func(h plan.EffectiveHead) string

// New is what a view has to show: of one channel, or of all if channel is empty.
func New(v *view.View, channel string, notes NotesReader) Bulletin {
	b := Bulletin{Base: "/announcements", Releases: releaseItems(v, channel, notes)}
	if v.Flags == nil {
		return b
	}
	if t := v.Flags.Tip; t != nil && t.Settings.Link != "" {
		b.Base = strings.TrimRight(t.Settings.Link, "/")
	}
	for i := range v.Flags.Plan.Announcements {
		if item, ok := announcementItem(v, &v.Flags.Plan.Announcements[i], channel); ok {
			b.Announcements = append(b.Announcements, item)
		}
	}
	b.Announcements = newestFirst(b.Announcements)
	return b
}

// FindAnnouncement gives one announcement.
func (b Bulletin) FindAnnouncement(id string) (Item, bool) {
	for _, item := range b.Announcements {
		if item.ID == id {
			return item, true
		}
	}
	return Item{}, false
}

// announcementItem is an announcement as it is shown; ok is false while it is not.
func announcementItem(v *view.View, s *announce.Status, channel string) (item Item, ok bool) {
	a := s.Announcement
	if !isPublic(s) {
		return item, false
	}
	item = Item{ID: a.ID, Title: stripControl(a.Title), Notes: stripControl(a.Notes)}
	var ready time.Time // where no time was given: since when it can be there
	for _, c := range s.Channels {
		if channel != "" && c.Channel != channel || !publishedIn(c) {
			continue
		}
		if a.Embargo && c.At.IsZero() { // it is there as soon as the release is: that is no time to tell everyone
			continue
		}
		release, since := firstContaining(v, c.Channel, a.Features)
		if c.At.IsZero() && since.IsZero() { // no release that contains it ever reached the channel
			continue
		}
		item.Channels = append(item.Channels, c.Channel)
		item.Release = cmp.Or(item.Release, release)
		item.At, ready = earlier(item.At, c.At), earlier(ready, since)
	}
	item.At = cmp.Or(item.At, ready).In(a.Location())
	return item, len(item.Channels) > 0
}

// isPublic tells whether people are to know: the time has come in a channel that has one. A channel where features are on as soon as
// its cells are ready, as staging is, tells nobody of what others wait for.
func isPublic(s *announce.Status) bool {
	waits := false
	for _, c := range s.Channels {
		is := publishedIn(c)
		if is && !c.At.IsZero() {
			return true
		}
		waits = waits || !is
	}
	return !waits
}

// publishedIn tells whether a channel has an announcement, or had it until it was archived: what was told stays told.
func publishedIn(c announce.ChannelStatus) bool {
	return c.State == announce.Publishing || c.State == announce.Published ||
		c.State == announce.Archived && c.Record != nil && c.Record.Outcome == repository.Published
}

// earlier is the earlier of two instants, the zero one left aside.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// firstContaining gives the first release in a channel that contains all features, and when it came.
func firstContaining(v *view.View, channel string, features []string) (release string, since time.Time) {
	c := v.Desired.Channels[channel]
	if c == nil {
		return "", since
	}
	for _, h := range c.History {
		r := v.Desired.Releases[h.Release]
		lacks := func(feature string) bool { return r == nil || !slices.Contains(r.Features, feature) }
		if !slices.ContainsFunc(features, lacks) {
			return h.Release, h.Moved
		}
	}
	return "", since
}

// releaseItems are the releases that have notes and reached a channel.
func releaseItems(v *view.View, channel string, notes NotesReader) []Item {
	all, heads := map[string]*Item{}, map[string]plan.EffectiveHead{}
	for _, name := range v.Desired.Order {
		if channel != "" && name != channel {
			continue
		}
		for _, h := range v.Desired.Channels[name].History {
			item := all[h.Release]
			if item == nil {
				item = &Item{ID: h.Release, Title: h.Release, At: h.Moved}
				all[h.Release], heads[h.Release] = item, h
			}
			if h.Moved.Before(item.At) {
				item.At = h.Moved
			}
			if !slices.Contains(item.Channels, name) {
				item.Channels = append(item.Channels, name)
			}
		}
	}
	items := make([]Item, 0, len(all))
	for _, item := range all {
		item.At = item.At.UTC()
		items = append(items, *item)
	}
	items = newestFirst(items) // before notes are read: of a few only
	for i := range items {
		items[i].Notes = stripControl(notes(heads[items[i].ID]))
	}
	return slices.DeleteFunc(items, func(item Item) bool { return item.Notes == "" })
}

// newestFirst sorts items, newest first, and leaves the old ones out.
func newestFirst(items []Item) []Item {
	slices.SortFunc(items, func(a, b Item) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.ID, a.ID)) })
	return items[:min(len(items), MaxItems)]
}

// stripControl leaves out what neither HTML nor XML may have.
func stripControl(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == '\uFFFE' || r == '\uFFFF' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
