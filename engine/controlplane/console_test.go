package controlplane_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
)

// The console's pages are served to whoever may read, with headers that let nothing else in.
func TestConsolePages(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	files := releaseFiles()
	files["releases/1.0.1/notes.md"] = &fstest.MapFile{Data: []byte("Mends *all*.<script>x</script>"), Mode: 0o644}
	s.files = files
	s.setView(nil)
	if w, body := s.request(t, "GET", "/ui/", ""); w.StatusCode != 503 || w.Header.Get("Refresh") == "" {
		t.Errorf("before the repository was read: %s, %s", w.Status, body)
	}
	v := viewWithAnnouncements()
	version, err := releases.ParseVersion("1.0.1")
	if err != nil {
		t.Fatal(err)
	}
	release := &plan.Release{Origin: "c1"}
	release.Version = version
	v.Desired.Releases = map[string]*plan.Release{"1.0.1": release}
	v.Desired.Versions = []*plan.Release{release}
	s.setView(v)
	for path, c := range map[string]struct {
		status int
		says   string
	}{
		"/ui/": {200, "staging"}, "/ui/needs": {200, "Needs"}, "/ui/fleet?q=acme": {200, "acme"},
		"/ui/cells/acme": {200, "Why"}, "/ui/channels/staging": {200, "Heads"}, "/ui/releases": {200, "1.0.1"},
		"/ui/releases/1.0.1": {200, "<em>all</em>"}, "/ui/flags": {200, "About rooms"},
		"/ui/announcements/rooms": {404, "nothing of this name"}, "/ui/when": {200, "When"},
		"/ui/history": {200, "History"}, "/ui/search?q=ac": {200, "acme"}, "/ui/cells/none": {404,
			"nothing of this name"},
	} {
		w, body := s.request(t, "GET", path, "")
		h := w.Header
		if w.StatusCode != c.status || !strings.Contains(body, c.says) || strings.Contains(body, "<script>") {
			t.Errorf("%s: %s\n%s", path, w.Status, body)
		}
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'",
			"require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, want)
			}
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" ||
			!strings.Contains(h.Get("Cache-Control"), "private") {
			t.Errorf("%s: %v", path, h)
		}
		if again, body := s.request(t, "GET", path, "", "If-None-Match", h.Get("ETag")); c.status == 200 &&
			(again.StatusCode != 304 || body != "") {
			t.Errorf("%s again: %s", path, again.Status)
		}
	}
	if w, body := s.request(t, "GET", "/ui/fleet?q="+strings.Repeat("x", 600), ""); w.StatusCode != 404 {
		t.Errorf("a filter of 600 bytes: %s %s", w.Status, body)
	}
}

// Assets may be kept for ever under their version, and come compressed where the browser takes that.
func TestConsoleAssets(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	for _, name := range []string{"console.css", "console.js", "icon.svg"} {
		w, plain := s.request(t, "GET", "/ui/assets/"+console.Version()+"/"+name, "", "Accept-Encoding", "identity")
		if w.StatusCode != 200 || !strings.Contains(w.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s %v", name, w.Status, w.Header)
		}
		w, packed := s.request(t, "GET", "/ui/assets/"+console.Version()+"/"+name, "", "Accept-Encoding",
			"br, gzip;q=0.5")
		z, err := gzip.NewReader(strings.NewReader(packed))
		if err != nil {
			t.Fatalf("%s: %v %v", name, w.Header, err)
		}
		if unpacked, err := io.ReadAll(z); err != nil || string(unpacked) != plain {
			t.Errorf("%s is another one when compressed: %v", name, err)
		}
		if w, _ := s.request(t, "GET", "/ui/assets/old/"+name, ""); strings.Contains(w.Header.Get("Cache-Control"),
			"immutable") {
			t.Errorf("%s: an old version may be kept for ever", name)
		}
	}
	if w, _ := s.request(t, "GET", "/ui/assets/x/go.mod", ""); w.StatusCode != 404 {
		t.Error(w.Status)
	}
}

// R57: a link of another site may lead to a page; nothing else of another site reads or follows one.
func TestR57OtherSitesMayLinkToTheConsoleAndNoMore(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	s.setView(viewOf("1.0.1"))
	for _, c := range []struct {
		path, site, mode, dest string
		status                 int
	}{
		{"/ui/", "cross-site", "navigate", "document", 200},
		{"/ui/cells/acme", "same-site", "navigate", "document", 200},
		{"/ui/", "cross-site", "navigate", "iframe", 403},
		{"/ui/", "cross-site", "navigate", "", 403},
		{"/ui/", "cross-site", "cors", "empty", 403},
		{"/ui/", "cross-site", "no-cors", "script", 403},
		{"/ui/wall", "cross-site", "navigate", "document", 403},
		{"/ui/live?at=/ui/", "cross-site", "no-cors", "empty", 403},
		{"/v1/status", "cross-site", "navigate", "document", 403},
		{"/ui/", "same-origin", "navigate", "document", 200},
	} {
		w, _ := s.request(t, "GET", c.path, "", "Sec-Fetch-Site", c.site, "Sec-Fetch-Mode", c.mode, "Sec-Fetch-Dest",
			c.dest)
		if w.StatusCode != c.status {
			t.Errorf("%+v: %s", c, w.Status)
		}
	}
	// A site that points its own name at this machine reads nothing.
	w, body := s.request(t, "GET", "/ui/", "", "Host", "evil.example")
	wantProblem(t, w, body, http.StatusMisdirectedRequest, "this machine")
}

// tab follows a page, as the script does.
type tab struct {
	t    *testing.T
	scan *bufio.Scanner
}

func (s *site) open(t *testing.T, at, have, version string) *tab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	query := url.Values{"at": {at}, "have": {have}, "version": {version}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/ui/live?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Body.Close() })
	if w.StatusCode != 200 {
		t.Fatal(w.Status)
	}
	scan := bufio.NewScanner(w.Body)
	scan.Buffer(nil, 1<<20)
	return &tab{t, scan}
}

// next returns the next event: its name, its id, and the regions in it.
func (b *tab) next() (event, id string, regions map[string]string) {
	b.t.Helper()
	for b.scan.Scan() {
		name, value, _ := strings.Cut(b.scan.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "event":
			event = value
		case name == "id":
			id = value
		case name == "data" && value != "":
			if err := json.Unmarshal([]byte(value), &regions); err != nil {
				b.t.Fatal(err)
			}
		case name == "" && event != "":
			return event, id, regions
		}
	}
	b.t.Fatalf("the stream ended: %v", b.scan.Err())
	return "", "", nil
}

// A tab gets the regions that changed since it was loaded, and afterwards only those that change.
func TestConsoleSendsWhatChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	s.setView(viewOf("1.0.1"))
	_, page := s.request(t, "GET", "/ui/", "")
	etag := regexp.MustCompile(`data-etag="([^"]+)"`).FindStringSubmatch(page)[1]

	fresh := s.open(t, "/ui/", etag, console.Version())
	stale := s.open(t, "/ui/", "older", console.Version())
	event, id, regions := stale.next()
	if event != "regions" || id != etag || regions["headline"] == "" || regions["navigation"] == "" {
		t.Errorf("a tab that is behind: %s %s %v", event, id, regions)
	}
	s.setView(viewOf("1.0.2"))
	for name, b := range map[string]*tab{"fresh": fresh, "stale": stale} {
		_, id, regions := b.next()
		if id == etag || !strings.Contains(regions["lanes"], "1.0.2") {
			t.Errorf("%s: %s %v", name, id, regions)
		}
		if _, sent := regions["navigation"]; sent && name == "stale" {
			t.Errorf("%s: what did not change was sent: %v", name, regions)
		}
	}
	if event, _, _ := s.open(t, "/ui/", etag, "another").next(); event != "reload" {
		t.Errorf("a tab with an older script: %s", event)
	}
	for _, at := range []string{"", "/v1/status", "http://evil.example/ui/nothing", "%zz", "/ui/cells"} {
		if w, _ := s.request(t, "GET", "/ui/live?"+url.Values{"at": {at}}.Encode(), ""); w.StatusCode != 404 {
			t.Errorf("%q is followed: %s", at, w.Status)
		}
	}
}

// The wall is JSON, and changes only with the cells' conditions.
func TestConsoleWall(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	s.setView(viewOf("1.0.1"))
	w, body := s.request(t, "GET", "/ui/wall?q=acme", "")
	var wall console.Wall
	if err := json.Unmarshal([]byte(body), &wall); err != nil || len(wall.Groups) != 1 ||
		wall.Groups[0].Cells[0] != "acme" {
		t.Errorf("%s %s", w.Status, body)
	}
	s.setView(viewOf("1.0.1"))
	if w, _ := s.request(t, "GET", "/ui/wall?q=acme", "", "If-None-Match", w.Header.Get("ETag")); w.StatusCode != 304 {
		t.Error(w.Status)
	}
}

// While everything changes all the time, tabs are brought up to date now and then, all from one rendering, and in the
// end they show the last state.
func TestConsoleKeepsPaceWithAFleetThatChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	s.setView(viewOf("1.0.1"))
	tabs := []*tab{s.open(t, "/ui/", "", console.Version()), s.open(t, "/ui/", "", console.Version())}
	for _, b := range tabs {
		b.next()
	}
	last := 0
	for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond; last++ {
		v := viewOf("1.0.1")
		v.Plan.Blocked[0].Reason = fmt.Sprintf("change %d.", last)
		s.setView(v)
	}
	end := fmt.Sprintf("change %d.", last-1)
	var seen [2][]string
	for i, b := range tabs {
		for len(seen[i]) == 0 || !strings.Contains(seen[i][len(seen[i])-1], end) {
			_, _, regions := b.next()
			seen[i] = append(seen[i], regions["lanes"])
		}
		if len(seen[i]) > 10 {
			t.Errorf("a tab was sent %d of %d changes", len(seen[i]), last)
		}
	}
}
