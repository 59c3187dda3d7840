package ui_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/releases"
)

// newPasskeySite returns a site where ada, whom sluice.yaml lists without a passkey, is signed in, her browser, and the
// address at which passkeys work: localhost. dedicated waits for her approval of 1.1.0.
func newPasskeySite(t *testing.T) (*World, *browser, string) {
	t.Helper()
	w := TwoChannels(t, Policy("dedicated", "after: [staging]\ngates: [{approval: {from: [chiefs], count: 1}}]\n"),
		map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\ntrustAuthors: true\npeople:\n" +
			"  ada: {email: ada@example.com, roles: [chiefs]}\n"}).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(time.Hour, "staging", "dedicated")
	const secret = access.SessionPrefix + "of-ada"
	rules := &channels.Access{Emails: map[string][]string{"ada@example.com": {"approver"}}}
	var s *site
	s = newSite(t, plainView(w), func(o *controlplane.Options) {
		o.Committer = releases.Person{Name: "Sluice", Email: "sluice@example.com"}
		o.Desk = w.Desk(func() { s.setView(plainView(w)) })
		body, err := json.Marshal(map[string]any{"id": "ada", "seen": time.Now(), "ends": time.Now().Add(time.Hour),
			"who": access.Person{Issuer: "https://idp.example", Subject: "ada", Name: "Ada", Email: "ada@example.com"}})
		if err == nil {
			_, err = o.Records.Put(t.Context(), records.Record{Kind: signin.SessionsKind,
				Key: identity.HashSecret(secret), Body: body})
		}
		if err != nil {
			t.Fatal(err)
		}
		o.SignIn = signin.New(signin.Options{Records: o.Records, Recorder: operators{}, Workloads: http.DefaultClient,
			Access:   func() (*channels.Access, bool) { return rules, true },
			Provider: signin.ProviderOptions{Issuer: "https://idp.example", ClientID: "sluice", Client: http.DefaultClient}})
	})
	b := open(t, 1280, 900)
	b.do(network.Enable(), network.SetExtraHTTPHeaders(network.Headers{"Authorization": "Bearer " + secret}))
	return w, b, strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
}

// addAuthenticator gives the browser an authenticator, as those that are built into machines.
func (b *browser) addAuthenticator() (id webauthn.AuthenticatorID) {
	b.t.Helper()
	b.do(webauthn.Enable(), chromedp.ActionFunc(func(ctx context.Context) (err error) {
		id, err = webauthn.AddVirtualAuthenticator(&webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true,
			AutomaticPresenceSimulation: true}).Do(ctx)
		return err
	}))
	return id
}

// submitByKeys focuses a form's button and presses Enter.
func (b *browser) submitByKeys(form string) {
	b.t.Helper()
	b.do(chromedp.Focus(form+" button", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
}

// R22, R52: Chromium's authenticator makes a passkey, which becomes a commit of ada's; it approves the release, and the
// engine promotes. All of it is done by keys alone.
func TestPasskeys(t *testing.T) {
	w, b, base := newPasskeySite(t)
	id := b.addAuthenticator()
	const approve = "/ui/do/approve?step=preview&channel=dedicated&release=1.1.0"
	b.visit(base + approve)
	b.await(`document.querySelector("#region-error").textContent.includes("no passkey for ada at " + location.origin)`)
	b.wantAccessible("an approval without a passkey")
	b.do(chromedp.Click(`#region-command a[href="/ui/do/add-passkey"]`, chromedp.ByQuery))
	b.await(`document.querySelector(".ask button")?.textContent === "Make a passkey"`)
	b.wantAccessible("a passkey to be made")
	b.submitByKeys(".ask")
	b.await(`location.search === "" && document.querySelector(".confirm button")`)
	b.submitByKeys(".confirm")
	b.await(`location.pathname.startsWith("/ui/commits/releases/") && document.querySelector(".alert.passed")`)
	keys := w.Desired().Pipeline.People["ada"].Passkeys
	if last := w.Changes[len(w.Changes)-1]; len(keys) != 1 || keys[0].Origin != base ||
		last.Author.Email != "ada@example.com" {
		t.Fatalf("%+v %+v", keys, last)
	}
	w.WantBlocked("dedicated", "approval", "0 of 1")
	tip := w.Tip

	b.visit(base + approve)
	b.await(`document.querySelector(".confirm button").textContent === "Approve with your passkey"`)
	b.wantAccessible("an approval to be signed")
	b.do(webauthn.SetUserVerified(id, false))
	b.submitByKeys(".confirm")
	b.await(`document.querySelector(".confirm [role=alert]")?.textContent.includes("Your passkey was not used")`)
	b.wantAccessible("an approval that was not signed")
	b.do(webauthn.SetUserVerified(id, true))
	if w.Tip != tip {
		t.Error("an approval without its person's verification was committed")
	}
	b.submitByKeys(".confirm")
	b.await(`location.pathname.startsWith("/ui/commits/releases/") && document.querySelector(".alert.passed")`)
	w.WantActions("promote 1.1.0 dedicated")

	// The same authenticator makes no second passkey for her here.
	b.visit(base + "/ui/do/add-passkey")
	b.await(`document.querySelector(".ask button").textContent === "Make a passkey"`)
	b.submitByKeys(".ask")
	b.await(`document.querySelector(".ask [role=alert]")?.textContent.includes("Your passkey was not used")`)
	b.wantNoProblems("a passkey's form")
}

// Without scripts the pages say what to do instead, and a form that is sent all the same commits nothing.
func TestPasskeysWithoutScripts(t *testing.T) {
	w, b, base := newPasskeySite(t)
	b.do(noScripts())
	text := ""
	b.do(chromedp.Navigate(base+"/ui/do/add-passkey"), chromedp.Text("main", &text, chromedp.ByQuery))
	if !strings.Contains(text, "runs no scripts") {
		t.Error(text)
	}
	k := NewAuthenticator(t, "ada", base).Key(t)
	w.Commit("ada", "a passkey", map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\npeople:\n  ada: " +
		"{email: ada@example.com, roles: [chiefs], passkeys: [{id: " + k.ID + ", publicKey: " + k.PublicKey + ", origin: '" +
		k.Origin + "'}]}\n"})
	tip := w.Tip
	b.do(chromedp.Navigate(base+"/ui/do/approve?step=preview&channel=dedicated&release=1.1.0"),
		chromedp.Text("main", &text, chromedp.ByQuery))
	if !strings.Contains(text, "runs no scripts") || !strings.Contains(text, "sluice approve dedicated 1.1.0") {
		t.Error(text)
	}
	b.do(chromedp.Submit(".confirm", chromedp.ByQuery), chromedp.WaitReady("#region-error", chromedp.ByQuery),
		chromedp.Text("main", &text, chromedp.ByQuery))
	if !strings.Contains(text, "no passkey of yours signed it") || w.Tip != tip {
		t.Error(text)
	}
}
