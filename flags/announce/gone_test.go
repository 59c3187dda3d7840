package announce

import (
	"strings"
	"testing"
	"time"
)

// R43, R47: whatever of an announcement is left once its file, its feature, its flags or its channel is gone, the plan
// says so, and nobody who reads the plan meets a status without an announcement.
func TestAnnouncementsThatLostSomething(t *testing.T) {
	armed := func(w *world) {
		w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	}
	published := func(w *world) {
		armed(w)
		w.advanceTo(noon()).planUntilSettled()
	}
	missed := func(w *world) {
		w.putFiles(newsFile, newsYAML())
		w.advanceTo(noon()).planUntilSettled()
	}
	dropFile := func(w *world) { w.putFiles(newsFile, "") }
	for name, c := range map[string]struct {
		before, lose   func(w *world)
		state          State
		summary, needs string
	}{
		"armed, no file":     {armed, dropFile, Gone, "its file is gone", ""},
		"missed, no file":    {missed, dropFile, Gone, "its file is gone", ""},
		"published, no file": {published, dropFile, Published, "have it", "its file is gone: restore it"},
		"published, no file and no history": {published, func(w *world) {
			dropFile(w)
			for commit := range w.trees {
				if commit != w.hash() {
					delete(w.trees, commit)
				}
			}
		}, Publishing, "the commit that was approved can't be read", "its file is gone: restore it"},
		"armed, no channel and no file": {armed, func(w *world) {
			w.channels = w.channels[:1]
			dropFile(w)
		}, Gone, "its file is gone", ""},
		"armed, no channel": {armed, func(w *world) { w.channels = nil }, Approved,
			"it is for no channel", ""},
		"armed, no release with the feature": {armed, func(w *world) {
			w.releases = w.releases[:1]
			for _, c := range []string{"d1", "d2", "d3", "s1"} {
				w.downgrade(c)
			}
		}, Armed, "waits for a release that contains f", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.before(w)
			c.lose(w)
			p := w.planOnce()
			if len(p.Announcements) != 1 {
				t.Fatalf("%d announcements", len(p.Announcements))
			}
			st, ok := p.Detail("news")
			if !ok || st.Announcement == nil || st.Announcement.ID != "news" || st.Announcement.Features == nil {
				t.Fatalf("detail: %v, %+v", ok, st.Announcement)
			}
			if st.State != c.state || !strings.Contains(st.Summary, c.summary) ||
				!strings.Contains(st.Needs, c.needs) || c.state == Gone && st.Needs != "" {
				t.Errorf("%s: %q; %q", st.State, st.Summary, st.Needs)
			}
			p.Published()
			w.advanceTo(w.now.Add(100 * time.Hour)).planUntilSettled()
		})
	}
}
