// Package bulletin renders announcements and release notes as a page for people and as an Atom feed.
//
// It is pure. Its output is public: announcements that are due in some channel, never earlier under embargo (R45), and
// the notes of releases that reached a channel. It never names a cell or a flag. Notes are Markdown from git, rendered
// so that they can neither run, load nor deceive: no HTML, no images, links only to the web and to mail.
package bulletin

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/cleantext"
)

// MaxItems bounds the announcements and the releases in a bulletin: the newest are shown.
const MaxItems = 50

// Bulletin is the content of a page or feed. It is immutable.
type Bulletin struct {
	Base          string // URL of the page, and prefix of the URLs below it
	Announcements []Item // newest first
	Releases      []Item // newest first
}

// Item is an announcement or a release.
type Item struct {
	ID       string // of the announcement, or the release's version
	Title    string
	At       time.Time // first published or promoted, in the item's time zone
	Channels []string  // that have the item, upstreams first
	Release  string    // of an announcement: the oldest release with all its features; empty if unknown
	Notes    string    // Markdown
}

// NotesReader returns the notes of a release that was a head, or "".
type NotesReader func(h plan.EffectiveHead) string

// New returns the bulletin of a view, for one channel, or for all if channel is empty.
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

// FindAnnouncement returns an announcement by its ID.
func (b Bulletin) FindAnnouncement(id string) (Item, bool) {
	for _, item := range b.Announcements {
		if item.ID == id {
			return item, true
		}
	}
	return Item{}, false
}

// announcementItem returns an announcement as an item. ok is false while it is not public.
func announcementItem(v *view.View, s *announce.Status, channel string) (item Item, ok bool) {
	a := s.Announcement
	if !isPublic(s) {
		return item, false
	}
	item = Item{ID: a.ID, Title: cleantext.Text(a.Title), Notes: cleantext.Text(a.Notes)}
	var ready time.Time // without a publishing time: when its release reached a channel
	for _, c := range s.Channels {
		if channel != "" && c.Channel != channel || !publishedIn(c) {
			continue
		}
		if a.Embargo && c.At.IsZero() { // under embargo the arrival of the release is no publishing time
			continue
		}
		release, since := firstContaining(v, c.Channel, a.Features)
		if c.At.IsZero() && since.IsZero() { // no release with the features reached the channel
			continue
		}
		item.Channels = append(item.Channels, c.Channel)
		item.Release = cmp.Or(item.Release, release)
		item.At, ready = earlier(item.At, c.At), earlier(ready, since)
	}
	item.At = cmp.Or(item.At, ready).In(a.Location())
	return item, len(item.Channels) > 0
}

// isPublic reports whether an announcement is public: published in a channel at its set time, or in all channels. A
// channel without a set time, such as staging, does not make an announcement public that other channels await.
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

// publishedIn reports whether a channel has published an announcement, archived ones included.
func publishedIn(c announce.ChannelStatus) bool {
	return c.State == announce.Publishing || c.State == announce.Published ||
		c.State == announce.Archived && c.Record != nil && c.Record.Outcome == repository.Published
}

// earlier returns the earlier of two instants. A zero instant does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// firstContaining returns the first release in a channel that contains all features, and when it arrived.
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

// releaseItems returns the releases that have notes and reached a channel.
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
	items = newestFirst(items) // before notes are read, which is slow
	for i := range items {
		items[i].Notes = cleantext.Text(notes(heads[items[i].ID]))
	}
	return slices.DeleteFunc(items, func(item Item) bool { return item.Notes == "" })
}

// newestFirst sorts items and drops all but the newest MaxItems.
func newestFirst(items []Item) []Item {
	slices.SortFunc(items, func(a, b Item) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.ID, a.ID)) })
	return items[:min(len(items), MaxItems)]
}
