package ownerpage_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/ownerpage"
	"github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/export"
)

// site is a served Site, with a browser that follows its address.
type site struct {
	t       *testing.T
	folder  string
	host    string // HOST:PORT
	base    string // address of the first page
	address string // the one that works once
	browser *http.Client
}

// newSite serves the page of a state folder.
func newSite(t *testing.T, folder string, compare func() (*ownerpage.Difference, string, error)) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	page := ownerpage.New(ownerpage.Options{Folder: folder, Compare: func(context.Context, agent.Offer, owner.Candidate,
	) (*ownerpage.Difference, string, error) {
		return compare()
	}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- page.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, folder: folder, host: l.Addr().String(), address: page.Address(l.Addr().String()),
		browser: &http.Client{Jar: jar, Timeout: time.Minute}}
	s.base, _, _ = strings.Cut(s.address, "?")
	return s
}

// open opens the address that works once.
func (s *site) open() *site {
	s.t.Helper()
	if status, page := s.get(s.address); status != http.StatusOK {
		s.t.Fatalf("%d: %s", status, page)
	}
	return s
}

func (s *site) get(to string) (int, string) {
	s.t.Helper()
	return s.ask("GET", to, nil)
}

// ask sends a request with headers, names and values in turn.
func (s *site) ask(method, to string, form url.Values, headers ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, to, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := s.browser.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// confirmed returns the address and the fields of a preview's form.
func (s *site) confirmed(page string) (to string, fields url.Values) {
	s.t.Helper()
	_, form, ok := strings.Cut(page, `<form class="confirm" method="post" action="`)
	if !ok {
		s.t.Fatalf("there is nothing to confirm:\n%s", textOf(page))
	}
	to, form, _ = strings.Cut(form, `"`)
	fields = url.Values{}
	for _, m := range regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(form, -1) {
		fields.Set(m[1], html.UnescapeString(m[2]))
	}
	return "http://" + s.host + html.UnescapeString(to), fields
}

// decide shows what an action changes, and confirms it.
func (s *site) decide(action string, values ...string) string {
	s.t.Helper()
	query := url.Values{"step": {"preview"}}
	for i := 0; i < len(values); i += 2 {
		query.Set(values[i], values[i+1])
	}
	_, page := s.get(s.base + "do/" + action + "?" + query.Encode())
	to, fields := s.confirmed(page)
	status, page := s.ask("POST", to, fields)
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d: %s", action, status, textOf(page))
	}
	return page
}

func (s *site) owner() *cells.Owner {
	s.t.Helper()
	o, err := agent.LoadOwner(s.folder)
	if err != nil {
		s.t.Fatal(err)
	}
	if o == nil {
		o = &cells.Owner{}
	}
	return o
}

func textOf(page string) string {
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(text)), " ")
}

func wantSays(t *testing.T, page string, all ...string) {
	t.Helper()
	text := textOf(page)
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
}

// pack puts a release into a state folder as the agent keeps it.
func pack(t *testing.T, folder, notes string) releases.Digest {
	t.Helper()
	var tar bytes.Buffer
	files := fstest.MapFS{"r/release.yaml": {Data: []byte("apiVersion: sluice/v1\nkind: Release\n")},
		"r/notes.md": {Data: []byte(notes)}}
	if err := releases.Pack(&tar, files, "r"); err != nil {
		t.Fatal(err)
	}
	d := releases.DigestBytes(tar.Bytes())
	write(t, filepath.Join(folder, "releases", d.Hex()+".tar"), tar.Bytes())
	return d
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeChecked writes a file as the agent does what it can't afford to misread.
func writeChecked(t *testing.T, name string, content any) {
	t.Helper()
	text, err := json.Marshal(content)
	if err == nil {
		err = disk.WriteChecksummed(name, text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t *testing.T, name string, content any) {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, text)
}

// offering returns a state folder in which 1.0.0 runs and 1.1.0 is offered.
func offering(t *testing.T) (folder string, next releases.Digest) {
	t.Helper()
	folder = t.TempDir()
	next = pack(t, folder, "# New editor\n\nIt *saves* by itself.\n")
	runs := &cells.Assignment{Release: "1.0.0", Digest: releases.DigestBytes([]byte("1.0.0")), Channel: "stable"}
	writeJSON(t, filepath.Join(folder, "offered.json"), agent.Offer{Running: runs,
		Head: &cells.Head{Channel: "stable", Release: "1.1.0", Digest: next},
		Hold: &cells.Hold{Gate: "window", Reason: "shut until Monday",
			Until: time.Date(2026, 12, 7, 8, 0, 0, 0, time.UTC)},
		Notices: []cells.Notice{{Code: cells.NoticeInfrastructure,
			Text: "infrastructure update 7 is due at 2026-12-24T00:00:00Z: execute it before"}}})
	writeJSON(t, filepath.Join(folder, "reported.json"), agent.Reported{State: cells.StateHealthy, Running: runs,
		Infrastructure: cells.ActualInfrastructure{Number: 6}, Events: []cells.Event{{Kind: "healthy",
			Release: "1.0.0"}}})
	return folder, next
}

func unused() (*ownerpage.Difference, string, error) {
	return nil, "", errors.New("nobody asked for this")
}

// R18: what the owner decides on the page is what the verbs would have written, and each page says which.
func TestR18TheOwnerDecidesOnThePage(t *testing.T) {
	folder, next := offering(t)
	s := newSite(t, folder, unused).open()
	_, first := s.get(s.base)
	wantSays(t, first, "1.0.0 runs; 1.1.0 is offered, and the vendor does not let it start yet", string(next),
		"New editor", "It saves by itself", "the vendor: window shut until Monday until 7 Dec 08:00 UTC",
		"infrastructure update 7 is due", "update 6", "operations are accepted", "has received no flags",
		"sluice cell approve "+string(next)+" --state "+folder)
	if done := s.decide("pause", "reason", "quarter end"); s.owner().Paused != "quarter end" {
		t.Errorf("%+v", s.owner())
	} else {
		wantSays(t, done, "paused: nothing new starts", "sluice cell pause --reason 'quarter end' --state "+folder)
	}
	s.decide("unpause")
	s.decide("require-approval")
	_, first = s.get(s.base)
	wantSays(t, first, "waits for your approval")
	s.decide("approve", "digest", string(next))
	s.decide("pin", "release", "1.1.0")
	s.decide("add-window", "opens", "0 22 * * SAT", "for", "4h", "zone", "Europe/Berlin")
	o := s.owner()
	if o.Paused != "" || !o.Approval || len(o.Approved) != 1 || o.Approved[0] != next || o.Pin != "1.1.0" ||
		o.PinDigest != next || len(o.Windows) != 1 || o.Windows[0].Zone != "Europe/Berlin" {
		t.Errorf("decided %+v", o)
	}
	_, first = s.get(s.base)
	wantSays(t, first, "approved by you", "to: 1.1.0 "+string(next), "0 22 * * SAT", "Europe/Berlin")
	s.decide("remove-window", "number", "1")
	s.decide("unpin")
	s.decide("approval-off")
	if o = s.owner(); o.Pin != "" || o.PinDigest != "" || o.Approval || len(o.Windows) != 0 {
		t.Errorf("decided %+v", o)
	}
}

// The owner agrees on the page to what a release asks for, reads what waits, and stops all of it.
func TestTheOwnerDecidesOnExports(t *testing.T) {
	folder, _ := offering(t)
	writeJSON(t, filepath.Join(folder, "export", "wish.json"), map[string]any{"release": "1.0.0", "list": export.List{
		Metrics: []export.Metric{{Name: "workspaces", Type: export.Gauge}}}})
	const file = "20261130T001200Z"
	write(t, filepath.Join(folder, "export", file+".jsonl"), []byte(`{"metric":"workspaces","value":12}`+"\n"))
	s := newSite(t, folder, unused).open()
	_, first := s.get(s.base)
	wantSays(t, first, "nothing leaves", "Asked for, and stays here until you agree + metric workspaces", file,
		"Agree to what is asked for…")
	if _, page := s.get(s.base + "do/approve-export?step=preview&release=0.9.0"); !strings.Contains(page,
		"does not run here") {
		t.Errorf("another release's list: %s", textOf(page))
	}
	for hold, want := range map[string]string{"soon": "no length of time", "10s": "from 1m to 48h",
		"3d": "from 1m to 48h"} {
		if _, page := s.get(s.base + "do/hold-export?step=preview&hold=" + hold); !strings.Contains(page, want) {
			t.Errorf("a hold of %s: %s", hold, textOf(page))
		}
	}
	s.decide("approve-export", "release", "1.0.0")
	s.decide("hold-export", "hold", "1h")
	if o := s.owner(); o.Export == nil || o.Export.Hold != time.Hour || len(o.Export.Allowed.Metrics) != 1 {
		t.Errorf("decided %+v", o.Export)
	}
	_, first = s.get(s.base)
	wantSays(t, first, "leaves 1h after it was measured", "May leave metric workspaces")
	if strings.Contains(first, "Agree to what is asked for…") {
		t.Error("what was agreed to is asked for again")
	}
	_, page := s.get(s.base + "export/" + file)
	wantSays(t, page, `{"metric":"workspaces","value":12}`, "sluice cell export show "+file)
	s.decide("export-off")
	_, first = s.get(s.base)
	wantSays(t, first, "off: nothing leaves", "No file waits to leave")
	if status, page := s.get(s.base + "export/" + file); status != http.StatusNotFound {
		t.Errorf("a file that was removed: %d: %s", status, textOf(page))
	}
}

// What was not shown is not done: decisions that changed meanwhile, offers that were withdrawn, and bad values.
func TestWhatWasNotShownIsNotDone(t *testing.T) {
	folder, next := offering(t)
	s := newSite(t, folder, unused).open()
	_, page := s.get(s.base + "do/pause?step=preview&reason=audit")
	to, fields := s.confirmed(page)
	if _, err := agent.ChangeOwner(folder, func(o *cells.Owner) error {
		o.Approval = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, page = s.ask("POST", to, fields)
	wantSays(t, page, "Your decisions changed since this was shown")
	if s.owner().Paused != "" {
		t.Error("it was done nevertheless")
	}
	to, fields = s.confirmed(page)
	if s.ask("POST", to, fields); s.owner().Paused != "audit" || !s.owner().Approval {
		t.Errorf("what was shown then was not done: %+v", s.owner())
	}
	for query, why := range map[string]string{
		"pause?step=preview":                                           "It is missing",
		"pause?step=preview&reason=+++":                                "It is missing",
		"pin?step=preview&release=latest":                              "latest",
		"add-window?step=preview&opens=x&for=4h":                       "five",
		"add-window?step=preview&opens=0+9+*+*+*&for=soon":             "no length of time",
		"add-window?step=preview&opens=0+9+30+2+*&for=1h":              "never opens",
		"add-window?step=preview&opens=0+9+*+*+*&for=1h&zone=Mars/One": "zone",
		"remove-window?step=preview&number=7":                          `no window "7"`,
		"approve?step=preview&digest=sha256:00":                        "not offered",
		"pause?step=preview&reason=" + strings.Repeat("x", 1100):       "longer than",
	} {
		_, page := s.get(s.base + "do/" + query)
		wantSays(t, page, why)
		if strings.Contains(page, `class="confirm"`) {
			t.Errorf("%.80s can be confirmed", query)
		}
	}
	_, page = s.get(s.base + "do/approve?step=preview&digest=" + string(next))
	to, fields = s.confirmed(page)
	writeJSON(t, filepath.Join(folder, "offered.json"), agent.Offer{})
	_, page = s.ask("POST", to, fields)
	wantSays(t, page, "not offered, or no longer")
	if len(s.owner().Approved) != 0 {
		t.Error("what was withdrawn was approved")
	}
}

// A page of another site, another name of this machine and a browser without the address can neither read nor decide.
func TestForeignPagesNeitherReadNorDecide(t *testing.T) {
	folder, _ := offering(t)
	s := newSite(t, folder, unused)
	if status, page := s.get(s.base); status != http.StatusForbidden || strings.Contains(page, "1.1.0") {
		t.Errorf("without a permission: %d", status)
	}
	if status, _ := s.ask("GET", s.address, nil, "Sec-Purpose", "prefetch"); status != http.StatusForbidden {
		t.Errorf("a browser that looks ahead: %d", status)
	}
	if status, _ := s.ask("GET", strings.Replace(s.address, s.base, "http://"+s.host+"/", 1), nil); status != 403 {
		t.Errorf("a token at another path: %d", status)
	}
	s.open()
	_, page := s.get(s.base + "do/pause?step=preview&reason=audit")
	to, fields := s.confirmed(page)
	for name, headers := range map[string][]string{
		"a name that leads here": {"Host", "evil.example"}, "its port": {"Host", "evil.example:80"},
		"an address outside": {"Host", "192.0.2.1:80"}, "a name like it": {"Host", "localhost.evil.example"},
		"a foreign form": {"Origin", "https://evil.example"}, "a frame without origin": {"Origin", "null"},
		"another port": {"Origin", "http://127.0.0.1:1"}, "a foreign script": {"Sec-Fetch-Site", "cross-site"},
		"a script of another port": {"Sec-Fetch-Site", "same-site"},
	} {
		if status, page := s.ask("POST", to, fields, headers...); status < 400 || s.owner().Paused != "" {
			t.Errorf("%s: %d: %s", name, status, textOf(page))
		}
		if headers[0] == "Origin" { // browsers send none with what they only read
			continue
		}
		for _, path := range []string{"", "live?version=x", "do/pause"} {
			if status, page := s.ask("GET", s.base+path, nil, headers...); status < 400 || strings.Contains(page,
				"1.1.0") {
				t.Errorf("%s reads /%s: %d", name, path, status)
			}
		}
	}
	for _, host := range []string{"localhost:8420", "[::1]:8420", "127.0.0.1"} { // a forwarded port
		other := newSite(t, folder, unused)
		other.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if status, _ := other.ask("GET", other.address, nil, "Host", host); status != http.StatusSeeOther {
			t.Errorf("%s: %d", host, status)
		}
	}
	link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	if status, _ := s.ask("GET", s.base, nil, link...); status != http.StatusOK {
		t.Errorf("a link: %d", status)
	}
	link[5] = "iframe"
	if status, _ := s.ask("GET", s.base, nil, link...); status != http.StatusForbidden {
		t.Errorf("a frame: %d", status)
	}
	s.browser.Jar = nil
	if status, page := s.get(s.address); status != http.StatusForbidden {
		t.Errorf("the address a second time: %d", status)
	} else {
		wantSays(t, page, "used already", "sluice cell ui")
	}
}

// R54: whatever the vendor, a release, an event or the owner wrote, it stays text.
func TestR54HostileTextStaysText(t *testing.T) {
	const hostile = enginetest.HostileText
	folder := t.TempDir()
	d := pack(t, folder, hostile+"\n\n[x](javascript:alert(1)) <img src=x onerror=ran=4>\n")
	if _, err := agent.ChangeOwner(folder, func(o *cells.Owner) error {
		o.Paused, o.Features, o.Reasons = hostile, []string{"f"}, map[string]string{"f": "<evil>\u202e"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	failed := cells.Failure{Assignment: cells.Assignment{Release: hostile}, Reason: hostile}
	writeJSON(t, filepath.Join(folder, "offered.json"), agent.Offer{Waits: hostile,
		Running: &cells.Assignment{Release: hostile, Digest: "sha256:1"},
		Head:    &cells.Head{Channel: hostile, Release: hostile, Digest: d},
		Hold:    &cells.Hold{Gate: hostile, Reason: hostile},
		Notices: []cells.Notice{{Code: hostile, Text: hostile}}})
	writeJSON(t, filepath.Join(folder, "reported.json"), agent.Reported{State: cells.State(hostile), Message: hostile,
		Applying: &cells.Assignment{Release: hostile}, Failures: []cells.Failure{failed},
		Events: []cells.Event{{Kind: hostile, Release: hostile, Detail: hostile}}})
	writeJSON(t, filepath.Join(folder, "maintenance.json"), map[string]any{"phase": "announced", "reason": hostile,
		"release": hostile, "refused": []string{hostile}})
	writeChecked(t, filepath.Join(folder, "inforce.json"), map[string]any{"fault": hostile,
		"killed":        []map[string]string{{"flag": hostile, "reason": hostile}},
		"announcements": []map[string]any{{"id": hostile, "state": hostile, "features": []string{hostile}}}})
	s := newSite(t, folder, func() (*ownerpage.Difference, string, error) {
		return &ownerpage.Difference{From: hostile, Problems: []string{hostile}, Objects: []ownerpage.Object{
			{Name: hostile, Change: hostile, Reason: hostile, Diff: "+" + hostile}}}, "", nil
	}).open()
	for _, path := range []string{"", "difference/" + string(d), "do/pin", "do/approve",
		"do/pause?step=preview&reason=" + url.QueryEscape("<evil>\u202e"), "do/pin?release=" + url.QueryEscape(hostile),
		"do/" + url.PathEscape(hostile), "nowhere"} {
		_, page := s.get(s.base + path)
		if path == "" {
			wantSays(t, page, "killed", "announced")
		}
		if n := strings.Count(page, "<script"); n != 1 {
			t.Errorf("/%s has %d scripts", path, n)
		}
		for _, bad := range []string{"<evil", "onerror=ran=4>", "<img", "href=\"javascript:", "\u202e", "\x1b",
			"\x00"} {
			if strings.Contains(page, bad) {
				t.Errorf("/%s obeys %q", path, bad)
			}
		}
	}
}

// R47: a damaged part of the state folder is said where it would stand, and hides no other; an empty one is a page too.
func TestR47DamagedStateFolder(t *testing.T) {
	s := newSite(t, t.TempDir(), unused).open()
	_, page := s.get(s.base)
	wantSays(t, page, "A cell without a name yet", "Nothing runs here yet, and nothing is offered",
		"nothing reported yet")
	for _, file := range []string{"reported.json", "maintenance.json", "inforce.json", "owner.yaml", "identity.json"} {
		for kind, content := range map[string][]byte{"cut": []byte(`{"state": "hea`),
			"long": bytes.Repeat([]byte(" x"), 1<<20)} {
			folder, _ := offering(t)
			write(t, filepath.Join(folder, file), content)
			s := newSite(t, folder, unused).open()
			status, page := s.get(s.base)
			if status != http.StatusOK || !strings.Contains(page, "can&#39;t be read") && file != "identity.json" {
				t.Errorf("%s %s: %d: %s", kind, file, status, textOf(page))
			}
			wantSays(t, page, "New editor")
			if file == "owner.yaml" {
				_, page = s.get(s.base + "do/unpause?step=preview")
				wantSays(t, page, "Fix the file, or remove it")
			}
		}
	}
	folder, next := offering(t)
	write(t, filepath.Join(folder, "releases", next.Hex()+".tar"), []byte("damaged"))
	s = newSite(t, folder, unused).open()
	_, page = s.get(s.base)
	wantSays(t, page, "The notes can't be read", string(next))
	folder, _ = offering(t)
	s = newSite(t, folder, unused).open()
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	_, page = s.get(s.base)
	wantSays(t, page, "nothing is offered")
	_, page = s.get(s.base + "do/pause?step=preview&reason=x")
	to, fields := s.confirmed(page)
	if status, _ := s.ask("POST", to, fields); status != http.StatusConflict {
		t.Errorf("a decision without a folder: %d", status)
	}
}

// What a release would change is compared when it is asked for, and a failure says what to do next.
func TestDifference(t *testing.T) {
	folder, next := offering(t)
	var found *ownerpage.Difference
	s := newSite(t, folder, func() (*ownerpage.Difference, string, error) {
		if found == nil {
			return nil, "try again then", errors.New("the agent has not got 1.1.0 yet")
		}
		return found, "", nil
	}).open()
	_, page := s.get(s.base + "difference/" + string(next))
	wantSays(t, page, "It can't be compared", "the agent has not got 1.1.0 yet", "try again then")
	found = &ownerpage.Difference{From: "1.0.0", Unchanged: 3, Objects: []ownerpage.Object{
		{Name: "Deployment web", Change: "changed", Diff: "@@ -1 +1 @@\n-replicas: 1\n+replicas: 2\n"},
		{Name: "Job migrate", Change: "refused", Reason: "it is immutable"}}}
	_, page = s.get(s.base + "difference/" + string(next))
	wantSays(t, page, "What 1.1.0 would change", "Differ 2 objects", "+replicas: 2",
		"refused Job migrate: it is immutable",
		"sluice cell diff "+string(next)+" --state "+folder)
	if status, _ := s.get(s.base + "difference/sha256:00"); status != http.StatusNotFound {
		t.Errorf("what is not offered: %d", status)
	}
}

// A tab sees what changes in the state folder, and only the regions that do.
func TestTabsAreLive(t *testing.T) {
	folder, _ := offering(t)
	s := newSite(t, folder, unused).open()
	_, page := s.get(s.base)
	data := func(name string) string {
		return regexp.MustCompile(`data-` + name + `="([^"]*)"`).FindStringSubmatch(page)[1]
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.base+"live?version="+data("version")+"&have="+data("etag"), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := agent.ChangeOwner(folder, func(o *cells.Owner) error {
		o.Paused = "quarter end"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if event, ok := strings.CutPrefix(lines.Text(), "data: "); ok && strings.Contains(event, "quarter end") {
			if strings.Contains(event, `"offered":`) {
				t.Error("what did not change was sent too")
			}
			return
		}
	}
	t.Error("the tab did not see the pause")
}
