package ui_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/releases"
)

// newFormSite returns a site whose forms commit to a busy world, and a browser of an administrator.
func newFormSite(t *testing.T) (*World, *site, *browser) {
	t.Helper()
	w, v := busyView(t)
	token, secret, err := peopleapi.NewToken("ada", access.Roles{access.Admin}, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var s *site
	s = newSite(t, v, func(o *controlplane.Options) {
		o.Tokens, o.Committer = operators{token}, releases.Person{Name: "Sluice", Email: "sluice@example.com"}
		o.Desk = w.Desk(func() { s.setView(viewOf(w)) })
	})
	b := open(t, 1280, 900)
	b.do(network.Enable(), network.SetExtraHTTPHeaders(network.Headers{"Authorization": "Bearer " + secret}))
	return w, s, b
}

// operators are the tokens of a control plane that keeps nothing.
type operators []access.Token

func (o operators) Tokens(context.Context) ([]access.Token, error)  { return o, nil }
func (o operators) RecordAudit(context.Context, access.Entry) error { return nil }
func (o operators) AddToken(context.Context, access.Token) error    { return access.ErrTaken }
func (o operators) RemoveToken(context.Context, string) error       { return access.ErrUnknown }
func (o operators) AddJoin(context.Context, access.Join) error      { return access.ErrTaken }
func (o operators) AuditEntries(context.Context, int) ([]access.Entry, error) {
	return []access.Entry{{At: Start, Who: "ada", From: "192.0.2.1", What: "commit " + strings.Repeat("a", 40) +
		" of the releases repository: sluice hold staging"}, {At: Start, Who: HostileText, What: HostileText}}, nil
}
func (o operators) ExportAudit(_ context.Context, begin func(audit.Header) error, _ func(audit.Sealed) error) error {
	return begin(audit.Header{})
}

// formPaths are pages of forms in all their states.
func formPaths() []string {
	with := func(action string, pairs ...string) string {
		v := url.Values{console.StepParam: {console.PreviewStep}}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return console.ActionBase + action + "?" + v.Encode()
	}
	return []string{"/ui/do/hold?channel=staging", with("hold", "channel", "staging"),
		with("hold", "channel", "staging", "reason", "incident 512"),
		with("freeze", "channel", "dedicated", "until", "48h", "reason", "a trade fair"),
		with("approve", "channel", "dedicated", "release", "1.2.0"), with("rollback", "channel", "nowhere", "reason",
			"x"),
		"/ui/do/hotfix", "/ui/do/nothing", "/ui/audit", "/ui/audit?verify=1"}
}

// No form has a fault that axe-core finds, in any of its states, in light, dark and forced colours.
func TestFormsAreAccessible(t *testing.T) {
	_, s, b := newFormSite(t)
	for _, appearance := range []string{"light", "dark", "forced"} {
		b.appearance(appearance)
		for _, path := range formPaths() {
			b.visit(s.URL + path)
			for _, found := range b.violations() {
				for _, n := range found.Nodes[:min(len(found.Nodes), 2)] {
					t.Errorf("%s in %s: %s: %s\n%s\n%s", path, appearance, found.ID, found.Help, n.HTML, n.Summary)
				}
			}
		}
	}
	b.wantNoProblems("a form")
}

// Each action is filled in, looked at and left by keys alone; one is confirmed and undone by keys alone.
func TestFormsByKeysAlone(t *testing.T) {
	w, s, b := newFormSite(t)
	values := map[string]string{"release": "1.1.0", "channel": "staging", "cell": "acme", "reason": "by keys",
		"paused": "by keys",
		"until":  "48h", "wave": "2", "to": "1.0.0", "delivered": "by mail", "default": "on", "flag": "x",
		"announcement": "x"}
	for _, a := range actions.All() {
		if a.Undo || a.Own { // a passkey's form is filled in by the browser
			continue
		}
		b.visit(s.URL + console.ActionBase + a.Name)
		b.do(chromedp.Focus(".ask :is(input:not([type=hidden]), select)", chromedp.ByQuery))
		for i, field := range a.Fields {
			if i > 0 {
				b.do(chromedp.KeyEvent(kb.Tab))
			}
			b.await(fmt.Sprintf(`document.activeElement.name === %q`, field.Name))
			if value := values[field.Name]; field.Required && value != "" {
				b.do(chromedp.KeyEvent(value)) // in a list, the letters choose
			}
		}
		b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
		b.await(`location.search.includes("step=preview") && document.readyState === "complete" &&
			document.querySelector("#region-confirm, #region-error, #region-command, #region-preview")`)
	}
	b.visit(s.URL + "/ui/")
	b.await(`document.querySelector("#live").textContent === "live"`)
	b.do(chromedp.KeyEvent("k", chromedp.KeyModifiers(2)), chromedp.WaitVisible("dialog[open] input"),
		chromedp.SendKeys("dialog[open] input", "hold a channel"))
	b.await(`document.querySelector("dialog [aria-selected=true]")?.textContent.includes("Hold a channel")`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await(`location.pathname === "/ui/do/hold" && document.readyState === "complete"`)
	b.do(chromedp.Focus("#field-channel", chromedp.ByQuery), chromedp.KeyEvent("staging"), chromedp.KeyEvent(kb.Tab),
		chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("incident 512"), chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelector(".confirm button")`)
	b.do(chromedp.Focus(".confirm button", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`location.pathname.startsWith("/ui/commits/releases/") && document.querySelector(".alert.passed")`)
	if last := w.Changes[len(w.Changes)-1]; !strings.Contains(last.Message,
		"hold staging\n\nincident 512\n\nAsked-By: ") {
		t.Errorf("%q", last.Message)
	}
	b.do(chromedp.Focus("#region-next .button", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`location.pathname === "/ui/do/undo" && document.readyState === "complete"`)
	b.do(chromedp.Focus("#field-reason", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelector(".confirm button")`)
	b.do(chromedp.Focus(".confirm button", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelector("h1").textContent.includes('undo "hold staging"')`)
	b.wantNoProblems("a form")
}

// R54, R57: hostile values stay text in a browser, and a page of another site that sends a form does nothing.
func TestFormsOfOthers(t *testing.T) {
	w, s, b := newFormSite(t)
	for _, a := range actions.All() {
		v := url.Values{console.StepParam: {console.PreviewStep}}
		for _, field := range a.Fields {
			v.Set(field.Name, HostileText)
		}
		b.visit(s.URL + console.ActionBase + a.Name + "?" + v.Encode())
		if ran := value[string](b, `String(globalThis.ran)`); ran != "undefined" {
			t.Errorf("%s: something ran: %s", a.Name, ran)
		}
		if n := value[int](b, `document.scripts.length + document.images.length + document.querySelectorAll("evil").length`); n != 1 {
			t.Errorf("%s has %d scripts and images, want one script", a.Name, n)
		}
	}
	tip := w.Tip
	other := newSite(t, s.View()) // another port is another site
	for _, a := range actions.All() {
		if a.CommandOnly() {
			continue
		}
		b.do(chromedp.Navigate(other.URL+"/announcements"), chromedp.Evaluate(fmt.Sprintf(`(() => {
			const f = document.createElement("form");
			f.method = "post"; f.action = %q;
			document.documentElement.append(f); f.submit(); return true; })()`, s.URL+console.ActionBase+a.Name+
			"?channel=staging&cell=acme&release=1.0.0&reason=x"), nil))
		b.await(fmt.Sprintf(`location.href.startsWith(%q) ? document.body.innerText.includes("403") :
			!location.pathname.startsWith("/ui/do")`, s.URL))
	}
	if w.Tip != tip {
		t.Error("another site's page committed")
	}
}

// At 320 px and 200 % zoom, forms are no wider than the window.
func TestFormsReflow(t *testing.T) {
	_, s, b := newFormSite(t)
	b.wantFits(s.URL, formPaths())
}
