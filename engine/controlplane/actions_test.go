package controlplane_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/releases"
)

// kills are the kills that a test's control plane was asked for.
type kills struct {
	mu  sync.Mutex // guards all
	all []repository.Override
}

func (k *kills) Kill(_ context.Context, o repository.Override) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = append(k.all, o)
	return nil
}

// formSite is a site whose forms commit to a world.
type formSite struct {
	*securedSite
	world   *World
	secrets map[string]string // of sessions
	kills   *kills
}

func newFormSite(t *testing.T, more ...func(*controlplane.Options)) *formSite {
	t.Helper()
	f := &formSite{world: TwoChannels(t).ReportInstalled(), kills: &kills{}}
	f.world.Settle()
	f.world.Commit("bob", "cut", Release("1.1.0"))
	f.world.Settle()
	f.securedSite, f.secrets = newSignInSite(t, func(o *controlplane.Options) {
		o.Desk = f.world.Desk(func() { f.setView(viewOfWorld(f.world)) })
		o.Committer, o.Flags = releases.Person{Name: "Sluice", Email: "sluice@example.com"}, f.kills
		for _, change := range more {
			change(o)
		}
	})
	f.setView(viewOfWorld(f.world))
	return f
}

func viewOfWorld(w *World) *view.View {
	o := w.Obs
	return &view.View{Desired: w.Desired(), Observed: &o, Plan: w.Plan()}
}

// replaceServer has another replica serve from now on.
func (f *formSite) replaceServer(t *testing.T) {
	t.Helper()
	f.stop()
	var err error
	if f.server, err = controlplane.New(f.options); err != nil {
		t.Fatal(err)
	}
	f.serveListeners(t, true)
}

// ask requests a page as somebody of a group who is signed in; an empty group is nobody, on loopback.
func (f *formSite) ask(t *testing.T, group, method, path string, form url.Values, headers ...string) (*http.Response,
	string) {
	t.Helper()
	listener := "people"
	headers = append([]string{"Accept", "text/html"}, headers...)
	if group == "" {
		listener = "loopback"
	} else {
		headers = append(headers, "Cookie", "__Host-sluice="+f.secrets[group])
	}
	if form != nil {
		headers = append(headers, "Content-Type", "application/x-www-form-urlencoded")
	}
	return f.request(t, f.client(t, listener, nil), listener, method, path, form.Encode(), headers...)
}

var formPattern = regexp.MustCompile(`method="post" action="([^"]*)"`)

// confirmation returns where a page's form of the second step leads to, and what it sends.
func confirmation(page string) (to string, form url.Values) {
	m := formPattern.FindStringSubmatch(page)
	if m == nil {
		return "", nil
	}
	form = url.Values{}
	for _, input := range regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`).
		FindAllStringSubmatch(page, -1) {
		form.Set(input[1], html.UnescapeString(input[2]))
	}
	return html.UnescapeString(m[1]), form
}

// preview returns the page that shows the commit of an action, and what confirms it.
func (f *formSite) preview(t *testing.T, group, path string) (page, to string, form url.Values) {
	t.Helper()
	w, page := f.ask(t, group, "GET", path, nil)
	if w.StatusCode != 200 {
		t.Fatalf("%s: %s\n%s", path, w.Status, page)
	}
	to, form = confirmation(page)
	return page, to, form
}

func preview(action string, pairs ...string) string {
	v := url.Values{console.StepParam: {console.PreviewStep}}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return console.ActionBase + action + "?" + v.Encode()
}

// What somebody asks for in a form is shown as a commit, and made as it was shown: in their name, by the control plane,
// with a page that can be loaded again, two rows in the audit, and a way back.
func TestActionInTwoSteps(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	before := f.world.Tip
	if w, page := f.ask(t, "operator", "GET", "/ui/do/hold?channel=staging", nil); w.StatusCode != 200 ||
		!strings.Contains(page, `<option value="staging" selected="">`) || strings.Contains(page, "is required") {
		t.Errorf("the form: %s\n%s", w.Status, page)
	}
	w, page := f.ask(t, "operator", "GET", preview("hold", "channel", "staging"), nil)
	if w.StatusCode != 422 || !strings.Contains(page, "is required") {
		t.Errorf("without a reason: %s\n%s", w.Status, page)
	}
	page, to, form := f.preview(t, "operator", preview("hold", "channel", "staging", "reason", "incident 512"))
	for _, want := range []string{"hold staging", "reason: incident 512", "operator of https://idp.example",
		"Sluice &lt;sluice@example.com&gt;", "sluice hold staging --reason &#39;incident 512&#39;",
		"staging is at 1.1.0", "Commit this", "Asked-By: "} {
		if !strings.Contains(page, want) {
			t.Errorf("the commit is not shown with %q:\n%s", want, page)
		}
	}
	if f.world.Tip != before {
		t.Fatal("a page committed")
	}
	w, page = f.ask(t, "operator", "POST", to, form)
	made := w.Header.Get("Location")
	if w.StatusCode != 303 || !strings.HasPrefix(made, "/ui/commits/releases/") || f.world.Tip == before {
		t.Fatalf("%s %s\n%s", w.Status, made, page)
	}
	tip := f.world.Tip
	_, page = f.ask(t, "operator", "GET", made, nil)
	for _, want := range []string{"Done", "hold staging", "Asked-By: operator of https://idp.example (oidc " +
		"https://idp.example operator)", "Asked-From: 127.0.0.1", "reason: incident 512", "Undo it"} {
		if !strings.Contains(page, want) {
			t.Errorf("the commit's page lacks %q:\n%s", want, page)
		}
	}
	_, rows := f.ask(t, "admin", "GET", "/v1/audit", nil)
	for _, want := range []string{"in the console: sluice hold staging --reason 'incident 512'",
		"commit " + tip + " of the releases repository"} {
		if !strings.Contains(rows, want) {
			t.Errorf("the audit lacks %q: %s", want, rows)
		}
	}
	// Sent again, it makes no second commit.
	if w, page := f.ask(t, "operator", "POST", to, form); w.StatusCode != 409 || f.world.Tip != tip ||
		!strings.Contains(page, "changed meanwhile") {
		t.Errorf("again: %s\n%s", w.Status, page)
	}
	// Back: a commit that restores what was.
	_, to, form = f.preview(t, "operator", preview("undo", "repository", "releases", "commit", tip))
	if w, page := f.ask(t, "operator", "POST", to, form); w.StatusCode != 303 || len(f.holds("staging")) != 0 {
		t.Errorf("undo: %s\n%s", w.Status, page)
	}
	// Only what was asked for here is undone here.
	if w, page := f.ask(t, "operator", "GET", preview("undo", "repository", "releases", "commit",
		f.world.Changes[1].Commit), nil); w.StatusCode != 422 || !strings.Contains(page, "git revert") {
		t.Errorf("undo of a commit of others: %s\n%s", w.Status, page)
	}
}

func (f *formSite) holds(channel string) (ids []string) {
	for _, h := range f.View().Desired.Channels[channel].Holds {
		ids = append(ids, h.ID)
	}
	return ids
}

// Whoever is slower sees the commit as it is now, and nothing is overwritten; also with two replicas.
func TestActionThatLostARace(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	page, to, form := f.preview(t, "operator", preview("halt", "channel", "staging", "reason", "slow starts"))
	if !strings.Contains(page, "staging is at 1.1.0") {
		t.Error(page)
	}
	f.replaceServer(t)
	f.world.Wait(25*time.Hour, "staging", "dedicated")
	f.world.Commit("bob", "cut", Release("1.2.0"))
	f.world.Settle() // the head moves
	f.setView(viewOfWorld(f.world))
	tip := f.world.Tip
	w, page := f.ask(t, "operator", "POST", to, form)
	if w.StatusCode != 409 || f.world.Tip != tip || !strings.Contains(page, "staging is at 1.2.0") ||
		!strings.Contains(page, "changed meanwhile") {
		t.Fatalf("%s\n%s", w.Status, page)
	}
	to, form = confirmation(page)
	if w, page := f.ask(t, "operator", "POST", to, form); w.StatusCode != 303 || len(f.holds("staging")) != 1 {
		t.Errorf("confirmed anew: %s\n%s", w.Status, page)
	}
	// Something else is no race.
	_, to, form = f.preview(t, "operator", preview("pause-cell", "cell", "acme", "paused", "they move"))
	f.world.Commit("bob", "cut", Release("1.3.0"))
	f.setView(viewOfWorld(f.world))
	if w, page := f.ask(t, "operator", "POST", to, form); w.StatusCode != 303 ||
		f.View().Desired.Cells["acme"].Paused != "they move" {
		t.Errorf("%s\n%s", w.Status, page)
	}
	// What was shown too long ago, or never, is shown again.
	for name, change := range map[string]func(url.Values){
		"long ago":   func(v url.Values) { v.Set(console.SinceParam, "1") },
		"never":      func(v url.Values) { v.Del(console.ShownParam) },
		"the future": func(v url.Values) { v.Set(console.SinceParam, fmt.Sprint(time.Now().Add(9*time.Hour).Unix())) },
		"another":    func(v url.Values) { v.Set(console.ShownParam, strings.Repeat("0", 64)) },
	} {
		_, to, form := f.preview(t, "operator", preview("hold", "channel", "dedicated", "reason", "x"))
		change(form)
		if w, page := f.ask(t, "operator", "POST", to, form); w.StatusCode != 409 || len(f.holds("dedicated")) != 0 ||
			!strings.Contains(page, "Commit this") {
			t.Errorf("%s: %s\n%s", name, w.Status, page)
		}
	}
}

// The page says who may not, and why; the route refuses it whatever the page said.
func TestActionsOfWhoMayNot(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	before := f.world.Tip
	_, to, form := f.preview(t, "operator", preview("hold", "channel", "dedicated", "reason", "x"))
	for group, says := range map[string]string{"viewer": "and you have viewer",
		"staging":  "and you have operator in staging",
		"approver": "and you have approver", "": "nobody is known"} {
		page, _, none := f.preview(t, group, preview("hold", "channel", "dedicated", "reason", "x"))
		if none != nil && none.Has(console.ShownParam) || !strings.Contains(page, says) ||
			!strings.Contains(page, "sluice hold dedicated") {
			t.Errorf("%s: %s", group, page)
		}
		w, said := f.ask(t, group, "POST", to, form)
		want := http.StatusForbidden
		if group == "" {
			want = http.StatusUnauthorized
		}
		if w.StatusCode != want {
			t.Errorf("%s: %s %s", group, w.Status, said)
		}
	}
	if f.world.Tip != before {
		t.Error("somebody who may not committed")
	}
	// In their channel they may; the channel in the address is the one that is changed.
	for _, c := range []struct{ group, channel, more string }{{"staging", "staging", ""},
		{"staging", "staging", "&channel=dedicated"}} {
		_, to, form := f.preview(t, c.group, preview("freeze", "channel", c.channel, "until", "2h", "reason",
			"x"+c.more))
		if w, page := f.ask(t, c.group, "POST", to+c.more, form); w.StatusCode != 303 {
			t.Errorf("%+v: %s\n%s", c, w.Status, page)
		}
	}
	if n := len(f.View().Desired.Channels["dedicated"].Policy.Freezes); n != 0 {
		t.Errorf("dedicated has %d freezes", n)
	}
}

// A session that ends while a form is open loses nothing, and does nothing.
func TestActionAfterTheSessionEnded(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	before := f.world.Tip
	_, to, form := f.preview(t, "both", preview("hold", "channel", "staging", "reason", "incident 512"))
	if w, said := f.ask(t, "both", "POST", "/auth/logout", url.Values{}); w.StatusCode != 204 {
		t.Fatal(w.Status, said)
	}
	w, _ := f.ask(t, "both", "POST", to, form)
	login, err := url.Parse(w.Header.Get("Location"))
	if err != nil || w.StatusCode != 302 || login.Path != "/auth/login" {
		t.Fatalf("%s %s %v", w.Status, login, err)
	}
	back := login.Query().Get("return")
	page, _, _ := f.preview(t, "operator", back) // signed in again
	if !strings.Contains(page, "signed out meanwhile") || !strings.Contains(page, "incident 512") ||
		f.world.Tip != before {
		t.Errorf("%s: %s", back, page)
	}
}

// R57: no page of another site does anything, whichever action it asks for, and however it asks.
func TestR57OtherSitesDoNothing(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	before := f.world.Tip
	_, _, form := f.preview(t, "admin", preview("hold", "channel", "staging", "reason", "x"))
	foreign := map[string][]string{
		"cross-site": {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest",
			"document"},
		"cross-site, fetch": {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "empty"},
		"same-site": {"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest",
			"document"},
		"an Origin":    {"Origin", "https://evil.example"},
		"no Origin":    {"Origin", "null"},
		"another port": {"Origin", "https://sluice:444"},
		"plain":        {"Origin", "http://sluice.evil.example"},
		"both":         {"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"},
	}
	token := []string{"Authorization", "Bearer " + f.tokens["admin"]}
	for _, a := range actions.All() {
		if a.CommandOnly() {
			continue
		}
		path := preview(a.Name, "channel", "staging", "cell", "acme", "release", "1.0.0", "reason", "x")
		for name, headers := range foreign {
			if w, said := f.ask(t, "admin", "POST", path, form, headers...); w.StatusCode != 403 {
				t.Errorf("%s, %s: %s %s", a.Name, name, w.Status, said)
			}
			if w, said := f.ask(t, "", "POST", path, form, append(headers, token...)...); w.StatusCode != 403 {
				t.Errorf("%s, %s, on loopback: %s %s", a.Name, name, w.Status, said)
			}
		}
		// A name that leads to this machine, of whoever owns the name (DNS rebinding).
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1"+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "evil.example"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Bearer "+f.tokens["admin"])
		w, err := f.client(t, "loopback", nil).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		w.Body.Close()
		if w.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s by another name: %s", a.Name, w.Status)
		}
	}
	if f.world.Tip != before || len(f.kills.all) > 0 {
		t.Error("another site did something")
	}
}

// A kill reaches cells before it is a commit, and the page of the flag counts them.
func TestKillByForm(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	path := preview("kill", "flag", "new-editor", "reason", "loses text", "until", "48h")
	if w, page := f.ask(t, "operator", "GET", path, nil); w.StatusCode != 422 ||
		!strings.Contains(page, "no flags repository") {
		t.Errorf("%s\n%s", w.Status, page)
	}
	w, said := f.ask(t, "operator", "POST", path, url.Values{console.ShownParam: {"x"},
		console.SinceParam: {fmt.Sprint(time.Now().Unix())}})
	if w.StatusCode != 303 || w.Header.Get("Location") != "/ui/flags/new-editor" {
		t.Fatalf("%s %s", w.Status, said)
	}
	f.kills.mu.Lock()
	defer f.kills.mu.Unlock()
	if k := f.kills.all; len(k) != 1 || k[0].Flag != "new-editor" || k[0].Reason != "loses text" ||
		k[0].By != "operator of https://idp.example" || time.Until(k[0].Until) < 47*time.Hour {
		t.Errorf("%+v", k)
	}
}

// R54: hostile text in any field of any form stays text.
func TestR54HostileForms(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	raw := []string{"<evil", "<script>ran", "<img src=x", "\u202e", "\x1b", "\x00"}
	for _, a := range actions.All() {
		for _, step := range []string{"", console.PreviewStep} {
			v := url.Values{console.StepParam: {step}}
			for _, field := range a.Fields {
				v.Set(field.Name, HostileText)
			}
			_, page := f.ask(t, "admin", "GET", console.ActionBase+a.Name+"?"+v.Encode(), nil)
			if i := slices.IndexFunc(raw, func(bad string) bool { return strings.Contains(page, bad) }); i >= 0 {
				t.Errorf("%s has %q:\n%s", a.Name, raw[i], page)
			}
		}
	}
	// In the commit and on its page too.
	_, to, form := f.preview(t, "operator", preview("hold", "channel", "staging", "reason", HostileText))
	w, said := f.ask(t, "operator", "POST", to, form)
	if w.StatusCode != 303 {
		t.Fatal(w.Status, said)
	}
	_, page := f.ask(t, "viewer", "GET", w.Header.Get("Location"), nil)
	if i := slices.IndexFunc(raw, func(bad string) bool { return strings.Contains(page, bad) }); i >= 0 {
		t.Errorf("the commit's page has %q:\n%s", raw[i], page)
	}
	for _, path := range []string{"/ui/do/" + url.PathEscape(HostileText), "/ui/commits/releases/" +
		url.PathEscape(HostileText), "/ui/commits/" + url.PathEscape(HostileText) + "/x"} {
		if w, page := f.ask(t, "viewer", "GET", path, nil); w.StatusCode != 404 || strings.Contains(page, "<evil") {
			t.Errorf("%s: %s\n%s", path, w.Status, page)
		}
	}
}

// A token names who asked, by an address that nobody has.
func TestActionByToken(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	token := []string{"Authorization", "Bearer " + f.tokens[string(access.Operator)]}
	_, page := f.ask(t, "", "GET", preview("hold", "channel", "staging", "reason", "x"), nil, token...)
	to, form := confirmation(page)
	if w, said := f.ask(t, "", "POST", to, form, token...); w.StatusCode != 303 ||
		!strings.Contains(page, "operator &lt;operator@token.invalid&gt;") {
		t.Errorf("%s %s\n%s", w.Status, said, page)
	}
	if last := f.world.Changes[len(f.world.Changes)-1]; !strings.Contains(last.Message, "Asked-By: operator (token)") {
		t.Error(last.Message)
	}
}

// The audit's page and export are for administrators, and find what was removed.
func TestAuditPage(t *testing.T) {
	t.Parallel()
	f := newFormSite(t)
	_, to, form := f.preview(t, "operator", preview("hold", "channel", "staging", "reason", "incident 512"))
	if w, said := f.ask(t, "operator", "POST", to, form); w.StatusCode != 303 {
		t.Fatal(w.Status, said)
	}
	for _, path := range []string{"/ui/audit", "/ui/audit?verify=1", "/ui/audit.jsonl"} {
		for group, want := range map[string]int{"operator": 403, "viewer": 403, "chief": 403, "": 401} {
			if w, said := f.ask(t, group, "GET", path, nil); w.StatusCode != want {
				t.Errorf("%s, %s: %s %s", group, path, w.Status, said)
			}
		}
	}
	_, page := f.ask(t, "admin", "GET", "/ui/audit?q=INCIDENT+in+the+console", nil)
	if !strings.Contains(page, "in the console: sluice hold staging") || strings.Contains(page, "see it") {
		t.Error(page)
	}
	_, page = f.ask(t, "admin", "GET", "/ui/audit?verify=1", nil)
	if !strings.Contains(page, "The chain is whole") || !strings.Contains(page, "/ui/commits/releases/"+f.world.Tip) {
		t.Error(page)
	}
	w, export := f.ask(t, "admin", "GET", "/ui/audit.jsonl", nil)
	report, err := audit.Verify(strings.NewReader(export), nil)
	if err != nil || len(report.Findings) > 0 || report.Rows < 2 ||
		!strings.HasPrefix(w.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("%s %+v %v", w.Status, report, err)
	}
	lines := strings.SplitAfter(export, "\n")
	if report, err = audit.Verify(strings.NewReader(lines[0]+strings.Join(lines[2:], "")), nil); err != nil ||
		len(report.Findings) == 0 {
		t.Errorf("%+v %v", report, err)
	}
}
