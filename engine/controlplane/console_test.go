package controlplane_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/ui"
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
		w, plain := s.request(t, "GET", "/ui/assets/"+ui.Version()+"/"+name, "", "Accept-Encoding", "identity")
		if w.StatusCode != 200 || !strings.Contains(w.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s %v", name, w.Status, w.Header)
		}
		w, packed := s.request(t, "GET", "/ui/assets/"+ui.Version()+"/"+name, "", "Accept-Encoding",
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

	fresh := s.open(t, "/ui/", etag, ui.Version())
	stale := s.open(t, "/ui/", "older", ui.Version())
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
	tabs := []*tab{s.open(t, "/ui/", "", ui.Version()), s.open(t, "/ui/", "", ui.Version())}
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

// tryPolicy sends the form of What if.
func (s *site) tryPolicy(t *testing.T, channel string, fields url.Values, header ...string) (*http.Response, string) {
	t.Helper()
	header = append(header, "Content-Type", "application/x-www-form-urlencoded")
	return s.request(t, "POST", "/ui/whatif/"+channel, fields.Encode(), header...)
}

// A policy is tried in a form: judged as a file is, simulated, and bounded; another site's page can't send one.
func TestConsoleTriesAPolicy(t *testing.T) {
	t.Parallel()
	w := enginetest.TwoChannels(t).ReportInstalled()
	w.Settle()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) {
		o.History, o.Repository = w.CopyHistory, worldFiles{w}
	})
	observed := w.Obs
	s.setView(&view.View{Desired: w.Desired(), Observed: &observed, Plan: w.Plan()})
	_, form := s.request(t, "GET", "/ui/whatif/dedicated", "")
	if !strings.Contains(form, "soak: {for: 1h, cells: 2}") || !strings.Contains(form, "kind: Scenario") {
		t.Errorf("the form lacks the policy or a scenario:\n%s", form)
	}
	const head = "apiVersion: sluice/v1\nkind: Channel\nafter: [staging]\n"
	scenario := string(simulate.Suggest(w.Desired(), 7*24*time.Hour))
	longer := url.Values{"policy": {head + "gates: [{soak: {for: 9h, cells: 2}}]\n"}, "scenario": {scenario},
		"days": {"7"}}
	for name, c := range map[string]struct {
		channel, policy, scenario string
		status                    int
		says                      string
	}{
		"longer":     {"dedicated", longer.Get("policy"), scenario, 200, "later, 0 earlier"},
		"fault":      {"dedicated", head + "soak: 3\n", scenario, 200, "channel.yaml:4"},
		"scenario":   {"dedicated", head, scenario + "joins: [{at: 1d, channel: nowhere, cells: 1}]\n", 400, "nowhere"},
		"large":      {"dedicated", head + "# " + strings.Repeat("x", console.MaxTrialText), scenario, 413, "leave some out"},
		"much":       {"dedicated", head, "apiVersion: sluice/v1\nkind: Scenario\ncells: {add: {staging: 20001}}\n", 413, "20000"},
		"no channel": {"nowhere", head, scenario, 404, "nothing of this name"},
	} {
		w, body := s.tryPolicy(t, c.channel, url.Values{"policy": {c.policy}, "scenario": {c.scenario}, "days": {"7"}})
		if w.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %s\n%.3000s", name, w.Status, body)
		}
		if c.status == 200 && (w.Header.Get("Cache-Control") != "private, no-store" ||
			!strings.Contains(body, `data-at=""`)) {
			t.Errorf("%s: the answer is kept or followed: %v", name, w.Header)
		}
	}
	huge := url.Values{"policy": {strings.Repeat("x", 7*console.MaxTrialText)}}
	if w, body := s.tryPolicy(t, "dedicated", huge); w.StatusCode != 413 {
		t.Errorf("a large form: %s %.300s", w.Status, body)
	}
	for _, foreign := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"}} {
		if w, _ := s.tryPolicy(t, "dedicated", longer, foreign...); w.StatusCode != 403 {
			t.Errorf("%v: %s", foreign, w.Status)
		}
	}
	if w, _ := s.tryPolicy(t, "dedicated", longer, "Sec-Fetch-Site", "same-origin"); w.StatusCode != 200 {
		t.Errorf("from our own page: %s", w.Status)
	}
}

// worldFiles has the commits of a world.
type worldFiles struct{ *enginetest.World }

func (w worldFiles) FS(commit string) (fs.FS, error) { return w.Open(commit) }

// A trial ends when its page is left, and then another may begin; there are few at once.
func TestConsoleTrialEndsWithItsPage(t *testing.T) {
	t.Parallel()
	w := enginetest.TwoChannels(t).ReportInstalled()
	w.Settle()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) {
		o.History, o.Repository = w.CopyHistory, worldFiles{w}
	})
	observed := w.Obs
	s.setView(&view.View{Desired: w.Desired(), Observed: &observed, Plan: w.Plan()})
	form := url.Values{"policy": {"apiVersion: sluice/v1\nkind: Channel\n"}, "days": {"90"}, "scenario": {
		"apiVersion: sluice/v1\nkind: Scenario\ncells: {add: {staging: 200}}\noutages: [{every: 1h, for: 5m}]\n"}}
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		for { // a small one may be first
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/ui/whatif/staging",
				strings.NewReader(form.Encode()))
			if err != nil {
				left <- err
				return
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			answer, err := http.DefaultClient.Do(r)
			if err == nil {
				answer.Body.Close()
			}
			if err != nil || answer.StatusCode != http.StatusServiceUnavailable {
				left <- err
				return
			}
		}
	}()
	small := url.Values{"policy": {"kind: Channel\n"}, "scenario": {"kind: Scenario\n"}}
	want := func(status int, why string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if w, _ := s.tryPolicy(t, "dedicated", small); w.StatusCode == status {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: %s", why, w.Status)
			}
		}
	}
	want(503, "while one is tried, a second one is refused")
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the first one ended by itself: %v", err)
	}
	want(200, "after the page was left, another one is tried")
}
