package controlplane_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
)

// passkeySite is a site where ada and bob, approvers whom sluice.yaml lists, are signed in. dedicated waits for one
// approval of 1.1.0, which bob cut, and authors are trusted, so that only a wrong commit of the site would be believed.
type passkeySite struct {
	*formSite
	ada, bob *Authenticator
	landed   func() // is called when a commit landed; nil: nothing is
}

// approval is the form that approves 1.1.0 for dedicated.
const approval = console.ActionBase + "approve?" + console.StepParam + "=" + console.PreviewStep +
	"&channel=dedicated&release=1.1.0"

// siteOrigin is where the tests' browsers see the site.
const siteOrigin = "https://sluice"

func newPasskeySite(t *testing.T) *passkeySite {
	t.Helper()
	f := &passkeySite{formSite: &formSite{kills: &kills{}}, ada: NewAuthenticator(t, "ada", siteOrigin),
		bob: NewAuthenticator(t, "bob", siteOrigin)}
	bobs := f.bob.Key(t)
	f.world = TwoChannels(t, Policy("dedicated", "after: [staging]\ngates: [{approval: {from: [chiefs], count: 1}}]\n"),
		map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\ntrustAuthors: true\npeople:\n" +
			"  ada: {email: ada@example.com, roles: [chiefs]}\n" +
			"  bob: {email: bob@example.com, roles: [chiefs], passkeys: [{id: " + bobs.ID + ", publicKey: " + bobs.PublicKey +
			", origin: '" + siteOrigin + "'}]}\n"}).ReportInstalled()
	f.world.Settle()
	f.world.Commit("bob", "cut", Release("1.1.0"))
	f.world.Settle()
	f.world.Wait(25*time.Hour, "staging", "dedicated")
	f.securedSite, f.secrets = newSignInSite(t, func(o *controlplane.Options) {
		o.Desk = f.world.Desk(func() {
			if f.landed != nil {
				f.landed()
			}
			f.setView(viewOfWorld(f.world))
		})
		o.Committer, o.Flags = releases.Person{Name: "Sluice", Email: "sluice@example.com"}, f.kills
		for _, name := range []string{"ada", "bob"} {
			data, err := json.Marshal(map[string]any{"id": name, "seen": time.Now(), "ends": time.Now().Add(time.Hour),
				"who": access.Person{Issuer: "https://idp.example", Subject: name, Email: name + "@example.com", Name: name,
					Groups: []string{"approver"}}})
			if err == nil {
				_, err = o.Journal.(*store.Store).Records().Put(t.Context(), records.Record{Kind: signin.SessionsKind,
					Key: identity.HashSecret(access.SessionPrefix + "of-" + name), Body: data})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	f.secrets["ada"], f.secrets["bob"] = access.SessionPrefix+"of-ada", access.SessionPrefix+"of-bob"
	f.setView(viewOfWorld(f.world))
	return f
}

// adding is where the form that adds a passkey is sent to.
const adding = console.ActionBase + "add-passkey"

// added returns what the form that adds a passkey sends.
func added(k passkey.Key) url.Values {
	return url.Values{console.StepParam: {console.PreviewStep}, "id": {k.ID}, "public-key": {k.PublicKey},
		"origin": {k.Origin}}
}

// previewAdas returns what confirms that ada's passkey is added.
func (f *passkeySite) previewAdas(t *testing.T) (to string, form url.Values) {
	t.Helper()
	w, page := f.ask(t, "ada", "POST", adding, added(f.ada.Key(t)))
	to, form = confirmation(page)
	if w.StatusCode != 200 || to != adding {
		t.Fatalf("%s\n%s", w.Status, page)
	}
	return to, form
}

func (f *passkeySite) addAdas(t *testing.T) {
	t.Helper()
	to, form := f.previewAdas(t)
	if w, page := f.ask(t, "ada", "POST", to, form); w.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s\n%s", w.Status, page)
	}
}

var askPattern = regexp.MustCompile(`data-nonce="([^"]*)" data-challenge="([^"]*)" data-rp="([^"]*)" data-has="([^"]*)"`)

// asked returns what the page asks a passkey for, and where the answer goes.
func (f *passkeySite) asked(t *testing.T, group string) (nonce string, challenge []byte, to string, form url.Values) {
	t.Helper()
	page, to, form := f.preview(t, group, approval)
	m := askPattern.FindStringSubmatch(page)
	if m == nil || m[3] != "sluice" || !strings.Contains(page, string(f.world.Digest("1.1.0"))) ||
		!strings.Contains(page, "<noscript>") || !strings.Contains(page, "sluice approve dedicated 1.1.0") {
		t.Fatalf("%q\n%s", m, page)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(html.UnescapeString(m[2]))
	if err != nil {
		t.Fatal(err)
	}
	return m[1], challenge, to, form
}

// said returns an assertion as the page's script sends it.
func said(a passkey.Assertion) string {
	return fmt.Sprintf(`{"nonce":%q,"credential":{"id":%q,"response":{"clientDataJSON":%q,"authenticatorData":%q,"signature":%q}}}`,
		a.Nonce, a.ID, a.ClientData, a.AuthenticatorData, a.Signature)
}

// R22, R52: a passkey is added and approves by forms; its person's name is on both commits, and the engine promotes.
func TestR52ApproveByPasskey(t *testing.T) {
	t.Parallel()
	f := newPasskeySite(t)
	if _, page := f.ask(t, "ada", "GET", "/ui/do/add-passkey", nil); !strings.Contains(page,
		`data-passkey="make" data-person="ada" data-has=""`) || !strings.Contains(page, "<noscript>") {
		t.Error(page)
	}
	if _, page := f.ask(t, "ada", "GET", approval, nil); !strings.Contains(page, "no passkey for ada at https://sluice") || !strings.Contains(page, "/ui/do/add-passkey") {
		t.Error(page)
	}
	f.addAdas(t)
	if last := f.world.Changes[len(f.world.Changes)-1]; last.Author.Email != "ada@example.com" ||
		!strings.Contains(last.Message, "add a passkey") || len(f.View().Desired.Pipeline.People["ada"].Passkeys) != 1 {
		t.Fatalf("%+v", last)
	}
	f.world.WantBlocked("dedicated", "approval", "0 of 1")
	nonce, challenge, to, form := f.asked(t, "ada")
	form.Set(console.SignedParam, said(f.ada.Sign(t, challenge, nonce)))
	w, page := f.ask(t, "ada", "POST", to, form)
	if w.StatusCode != http.StatusSeeOther || !strings.HasPrefix(w.Header.Get("Location"), "/ui/commits/releases/") {
		t.Fatalf("%s\n%s", w.Status, page)
	}
	if last := f.world.Changes[len(f.world.Changes)-1]; last.Author.Email != "ada@example.com" ||
		!strings.Contains(last.Message, "Asked-By: ada@example.com (oidc https://idp.example ada)") {
		t.Errorf("%+v", last)
	}
	f.world.WantActions("promote 1.1.0 dedicated")
	if _, page := f.ask(t, "ada", "GET", approval, nil); !strings.Contains(page, "ada has approved it already") {
		t.Error(page)
	}
	// What was withdrawn does not come back by the same form, nor by a copy of the authenticator.
	f.world.Commit("ada", "withdraw it", map[string]string{"channels/dedicated/approvals/1.1.0/ada.yaml": ""})
	f.setView(viewOfWorld(f.world))
	tip := f.world.Tip
	if w, page := f.ask(t, "ada", "POST", to, form); w.StatusCode != 422 || !strings.Contains(page, "used before") {
		t.Errorf("replayed: %s\n%s", w.Status, page)
	}
	f.ada.Counter = 0
	nonce, challenge, to, form = f.asked(t, "ada")
	form.Set(console.SignedParam, said(f.ada.Sign(t, challenge, nonce)))
	if w, page := f.ask(t, "ada", "POST", to, form); w.StatusCode != 422 || !strings.Contains(page, "counter is 1 after 1") {
		t.Errorf("by a copy: %s\n%s", w.Status, page)
	}
	if f.world.Tip != tip {
		t.Error("it was committed")
	}
}

// R52: the site commits no approval that the person's own passkey did not sign for this release, whoever asks and
// although sluice.yaml trusts authors.
func TestR52ApprovalsThatNoPasskeySigned(t *testing.T) {
	t.Parallel()
	f := newPasskeySite(t)
	f.addAdas(t)
	tip := f.world.Tip
	statement := passkey.Statement{Channel: "dedicated", Version: "1.1.0", Digest: string(f.world.Digest("1.1.0"))}
	over := func(change func(s *passkey.Statement)) func([]byte, string) string {
		return func(_ []byte, nonce string) string {
			s := statement
			s.Nonce = nonce
			change(&s)
			return said(f.ada.Sign(t, s.Challenge(), nonce))
		}
	}
	as := func(change func(a *Authenticator)) func([]byte, string) string {
		return func(challenge []byte, nonce string) string {
			a := *f.ada
			change(&a)
			return said(a.Sign(t, challenge, nonce))
		}
	}
	for name, c := range map[string]struct {
		make func(challenge []byte, nonce string) string
		want string
	}{
		"nothing":  {func([]byte, string) string { return "" }, "no passkey of yours signed it"},
		"no JSON":  {func([]byte, string) string { return "<b>" }, "can&#39;t be read"},
		"an array": {func([]byte, string) string { return "[]" }, "can&#39;t be read"},
		"bob's":    {func(c []byte, nonce string) string { return said(f.bob.Sign(t, c, nonce)) }, "does not list for ada"},
		"bob's, under ada's id": {func(c []byte, nonce string) string {
			a := f.bob.Sign(t, c, nonce)
			a.ID = f.ada.Key(t).ID
			return said(a)
		}, "the signature is not the passkey&#39;s"},
		"another digest":   {over(func(s *passkey.Statement) { s.Digest = string(f.world.Digest("1.0.0")) }), "approves something else"},
		"another channel":  {over(func(s *passkey.Statement) { s.Channel = "staging" }), "approves something else"},
		"another version":  {over(func(s *passkey.Statement) { s.Version = "1.0.0" }), "approves something else"},
		"another nonce":    {over(func(s *passkey.Statement) { s.Nonce = "x" }), "approves something else"},
		"another origin":   {as(func(a *Authenticator) { a.Origin = "https://evil.example" }), "another origin"},
		"another port":     {as(func(a *Authenticator) { a.Origin = "https://sluice:444" }), "another origin"},
		"not verified":     {as(func(a *Authenticator) { a.Flags = 0x01 }), "did not verify the user"},
		"nobody was there": {as(func(a *Authenticator) { a.Flags = 0x04 }), "nobody touched"},
		"too long":         {func([]byte, string) string { return strings.Repeat("x", 20<<10) }, "can't be read"},
	} {
		nonce, challenge, to, form := f.asked(t, "ada")
		form.Set(console.SignedParam, c.make(challenge, nonce))
		w, page := f.ask(t, "ada", "POST", to, form)
		if w.StatusCode/100 != 4 || !strings.Contains(page, c.want) || f.world.Tip != tip {
			t.Errorf("%s: %s\n%s", name, w.Status, page)
		}
	}
	// Whoever signed in as somebody else can't approve for ada, nor can bob, who wrote the release.
	nonce, challenge, to, form := f.asked(t, "ada")
	form.Set(console.SignedParam, said(f.ada.Sign(t, challenge, nonce)))
	for group, want := range map[string]string{"bob": "is an author of 1.1.0", "approver": "no person with the address",
		"both": "no person with the address"} {
		if w, page := f.ask(t, group, "POST", to, form); w.StatusCode != 422 || !strings.Contains(page, want) {
			t.Errorf("%s: %s\n%s", group, w.Status, page)
		}
	}
	for _, group := range []string{"operator", "viewer", "nobody", "chief"} {
		w, said := f.ask(t, group, "POST", to, form)
		if want := http.StatusForbidden; group != "chief" && w.StatusCode != want || w.StatusCode/100 != 4 {
			t.Errorf("%s: %s %s", group, w.Status, said)
		}
	}
	token := []string{"Authorization", "Bearer " + f.tokens["approver"]}
	if w, page := f.ask(t, "", "POST", to, form, token...); w.StatusCode != 422 ||
		!strings.Contains(page, "sluice approve dedicated 1.1.0") {
		t.Errorf("by a token: %s\n%s", w.Status, page)
	}
	if f.world.Tip != tip {
		t.Error("it was committed")
	}
}

// R52: a passkey is added by its person alone, for this site, and not where owners guard sluice.yaml.
func TestR52PasskeysOfOthersAreNotAdded(t *testing.T) {
	t.Parallel()
	f := newPasskeySite(t)
	tip := f.world.Tip
	mine, bobs, evil := f.ada.Key(t), f.bob.Key(t), NewAuthenticator(t, "ada", "https://evil.example").Key(t)
	to, form := f.previewAdas(t)
	for name, c := range map[string]struct {
		group string
		form  url.Values
		want  string
	}{
		"bob's":           {"ada", added(bobs), "bob has this passkey already"},
		"of another site": {"ada", added(evil), "is not the address of this page, which is https://sluice"},
		"no key": {"ada", added(passkey.Key{ID: "YQ", PublicKey: "AAAA", Origin: siteOrigin}),
			"publicKey is no"},
		"nothing":            {"ada", added(passkey.Key{}), "is required"},
		"of who is unlisted": {"approver", added(mine), "sluice.yaml has no person with the address"},
	} {
		w, page := f.ask(t, c.group, "POST", adding, c.form)
		if w.StatusCode != 422 || !strings.Contains(page, c.want) {
			t.Errorf("%s: %s\n%s", name, w.Status, page)
		}
	}
	token := []string{"Authorization", "Bearer " + f.tokens["admin"]}
	for name, c := range map[string]struct {
		group   string
		headers []string
		status  int
	}{
		"by a token": {"", token, 409}, "by nobody": {"", nil, 409}, "by who has no role": {"nobody", nil, 403},
		"by a page of another site": {"ada", []string{"Origin", "https://evil.example"}, 403},
		"by who is unlisted":        {"approver", nil, 422},
	} {
		if w, page := f.ask(t, c.group, "POST", to, form, c.headers...); w.StatusCode != c.status {
			t.Errorf("%s: %s\n%s", name, w.Status, page)
		}
	}
	if f.world.Tip != tip {
		t.Error("it was committed")
	}
	guarded := newPasskeySite(t)
	guarded.world.Commit("ada", "owners", map[string]string{"sluice.yaml": strings.Replace(
		guarded.world.Files["sluice.yaml"], "people:\n", "owners: [carl]\npeople:\n  carl: {email: carl@example.com, keys: ["+
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbQgs9NiZHNzT2UplYCSxVYLQnw66oFtV4UEeAy3fGy]}\n", 1)})
	guarded.setView(viewOfWorld(guarded.world))
	w, page := guarded.ask(t, "ada", "POST", adding, added(mine))
	if w.StatusCode != 422 || !strings.Contains(page, "only owners change sluice.yaml") ||
		!strings.Contains(page, "sluice passkey add --id "+mine.ID) || !strings.Contains(page, " --as ada<") {
		t.Errorf("%s\n%s", w.Status, page)
	}
}

// R22, R57: an approval that landed and does not count, here since somebody withdrew it at once, is told as that, with
// its commit, which the audit has too.
func TestR22ApprovalsThatLandAndDoNotCount(t *testing.T) {
	t.Parallel()
	f := newPasskeySite(t)
	f.addAdas(t)
	nonce, challenge, to, form := f.asked(t, "ada")
	form.Set(console.SignedParam, said(f.ada.Sign(t, challenge, nonce)))
	landed := ""
	f.landed = func() {
		landed = f.world.Tip
		f.world.Commit("bob", "withdraw it", map[string]string{"channels/dedicated/approvals/1.1.0/ada.yaml": ""})
	}
	w, page := f.ask(t, "ada", "POST", to, form)
	if w.StatusCode != 422 || landed == "" || !strings.Contains(page, "It is committed, and does not count") ||
		!strings.Contains(page, `href="`+console.CommitAddress("releases", landed)+`"`) ||
		strings.Contains(page, "It can&#39;t be done") {
		t.Errorf("%s\n%s", w.Status, page)
	}
	if _, rows := f.ask(t, "admin", "GET", "/v1/audit", nil); !strings.Contains(rows, "commit "+landed+
		" of the releases repository") {
		t.Errorf("the audit lacks it: %s", rows)
	}
}

// A passkey of another address neither works here nor keeps its authenticator from making one for this address.
func TestPasskeysOfThisAddressAreExcluded(t *testing.T) {
	t.Parallel()
	f := newPasskeySite(t)
	there, here := NewAuthenticator(t, "there", "https://sluice:444").Key(t), f.ada.Key(t)
	listed := ""
	for _, k := range []passkey.Key{there, here} {
		listed += "{id: " + k.ID + ", publicKey: " + k.PublicKey + ", origin: '" + k.Origin + "'}, "
	}
	f.world.Commit("ada", "two passkeys", map[string]string{"sluice.yaml": strings.Replace(f.world.Files["sluice.yaml"],
		"ada: {email: ada@example.com, roles: [chiefs]", "ada: {email: ada@example.com, roles: [chiefs], passkeys: ["+
			strings.TrimSuffix(listed, ", ")+"]", 1)})
	f.setView(viewOfWorld(f.world))
	if _, page := f.ask(t, "ada", "GET", adding, nil); !strings.Contains(page, ` data-has="`+here.ID+`"`) {
		t.Error(page)
	}
}

// R52, R57: whoever follows a link gets the empty form, whatever passkey the link has: only what the form itself sends
// is shown, and made.
func TestR52LinksAddNoPasskey(t *testing.T) {
	t.Parallel()
	f := newPasskeySite(t)
	tip, evil := f.world.Tip, NewAuthenticator(t, "ada", siteOrigin).Key(t)
	of := func(change func(v url.Values)) string {
		v := added(evil)
		change(v)
		return adding + "?" + v.Encode()
	}
	links := map[string]string{"to the commit": of(func(url.Values) {}),
		"to the fields":    of(func(v url.Values) { v.Del(console.StepParam) }),
		"after signing in": of(func(v url.Values) { v.Set(console.AgainParam, "1") }),
		"of a part":        of(func(v url.Values) { v.Del("origin") })}
	for name, link := range links {
		w, page := f.ask(t, "ada", "GET", link, nil)
		if w.StatusCode != 200 || !strings.Contains(page, `data-passkey="make"`) || strings.Contains(page, evil.ID) ||
			strings.Contains(page, "Commit this") || strings.Contains(page, "is required") {
			t.Errorf("%s: %s\n%s", name, w.Status, page)
		}
	}
	to, form := f.previewAdas(t)
	for name, link := range links {
		w, page := f.ask(t, "ada", "POST", link, url.Values{console.StepParam: {console.PreviewStep}})
		if w.StatusCode != 422 || strings.Contains(page, evil.ID) {
			t.Errorf("%s, sent: %s\n%s", name, w.Status, page)
		}
		shown := url.Values{console.ShownParam: form[console.ShownParam], console.SinceParam: form[console.SinceParam]}
		if w, page := f.ask(t, "ada", "POST", link, shown); w.StatusCode != 422 || strings.Contains(page, evil.ID) {
			t.Errorf("%s, confirmed: %s\n%s", name, w.Status, page)
		}
	}
	if f.world.Tip != tip {
		t.Error("it was committed")
	}
	if w, page := f.ask(t, "ada", "POST", to+"?"+added(evil).Encode(), form); w.StatusCode != http.StatusSeeOther {
		t.Errorf("%s\n%s", w.Status, page)
	}
	keys := f.View().Desired.Pipeline.People["ada"].Passkeys
	if len(keys) != 1 || keys[0].ID != f.ada.Key(t).ID {
		t.Errorf("the address counts beside the form: %+v", keys)
	}
}
