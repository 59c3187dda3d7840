package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/store"
)

// desk is a Service at a hostile provider, with a real store and a clock that a test moves.
type desk struct {
	*Service
	provider *hostileProvider
	store    *store.Store
	mu       sync.Mutex // guards skew
	skew     time.Duration
	o        Options
}

func rules() *channels.Access {
	return &channels.Access{Groups: map[string][]string{"managers": {"operator", "approver"}},
		Emails: map[string][]string{"ada@example.com": {"admin"}}}
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	kept, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "sluice.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	d := &desk{provider: newHostileProvider(t), store: kept}
	granted := rules()
	d.o = Options{Records: kept.Records(), Recorder: kept, Key: Key{1}, Workloads: http.DefaultClient,
		Log:    zerolog.Nop(),
		Access: func() (*channels.Access, bool) { return granted, true },
		Now: func() time.Time {
			d.mu.Lock()
			defer d.mu.Unlock()
			return time.Now().Add(d.skew)
		},
		Provider: ProviderOptions{Issuer: d.provider.URL, ClientID: "sluice", ClientSecret: strings.Repeat("s", 32),
			Client: d.provider.Client()}}
	d.Service = New(d.o)
	if err := d.readAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.skew += by
}

const redirect = "https://sluice.example/auth/callback"

// begin begins a sign-in and returns what a browser brings back; the provider's next ID token has its nonce.
func (d *desk) start(t *testing.T) Callback {
	t.Helper()
	to, state, cookie, err := d.Start(t.Context(), redirect, "/ui")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || len(state) < 43 ||
		q.Get("state") != state ||
		q.Get("redirect_uri") != redirect || q.Get("response_type") != "code" ||
		q.Get("scope") != "openid email groups offline_access" {
		t.Fatalf("asked for %v", q)
	}
	d.provider.say(map[string]any{"nonce": q.Get("nonce")})
	return Callback{Cookie: cookie, Code: "c", State: q.Get("state"), From: "192.0.2.1:1"}
}

// signIn signs somebody in and returns the session's hash.
func (d *desk) signIn(t *testing.T) string {
	t.Helper()
	secret, to, err := d.Finish(t.Context(), d.start(t))
	if err != nil || to != "/ui" {
		t.Fatalf("%q (%v)", to, err)
	}
	return hashOf(secret)
}

func (d *desk) rolesOf(hash string) string {
	_, g, _, err := d.Session(hash, true)
	if err != nil {
		return err.Error()
	}
	return g.String()
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers", "x"}, "name": "Ada"})
	c := d.start(t)
	secret, _, err := d.Finish(t.Context(), c)
	if err != nil || !strings.HasPrefix(secret, access.SessionPrefix) || len(secret) < len(access.SessionPrefix)+43 {
		t.Fatalf("%q (%v)", secret, err)
	}
	who, g, ends, err := d.Session(hashOf(secret), true)
	if err != nil || who.Subject != "ada" || who.Name != "Ada" || g.String() != "operator,approver" ||
		time.Until(ends) < browserLifetime-time.Minute {
		t.Errorf("%+v %s until %s (%v)", who, g, ends, err)
	}
	form := d.provider.forms[0]
	if len(form.Get("code_verifier")) < 43 || form.Get("redirect_uri") != redirect {
		t.Errorf("the token endpoint was asked %v", form)
	}
	if kept := d.sessions.find(hashOf(secret)); strings.Contains(kept.Refresh, "rt1") || kept.Refresh == "" {
		t.Errorf("the refresh token is kept as %q", kept.Refresh)
	}
	if r, err := d.store.Records().Get(t.Context(), SessionsKind, hashOf(secret)); err != nil ||
		strings.Contains(string(r.Body), secret) || strings.Contains(string(r.Body), "rt1") {
		t.Errorf("the record is %s (%v)", r.Body, err)
	}
	if entries, err := d.store.AuditEntries(t.Context(), 1); err != nil || len(entries) != 1 ||
		entries[0].What != "sign in (browser) with operator,approver" || entries[0].From != "192.0.2.1:1" {
		t.Errorf("the audit has %+v (%v)", entries, err)
	}
	// A state is good for one answer, here and at another replica.
	other := New(d.o)
	for name, s := range map[string]*Service{"here": d.Service, "at another replica": other} {
		if _, _, err := s.Finish(t.Context(), c); err == nil || !strings.Contains(err.Error(), "used already") {
			t.Errorf("the same answer again, %s: %v", name, err)
		}
	}
}

// Tabs of a browser that sign in at once don't disturb each other, though all bring the cookies of all.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	routes, people := NewAPI(d.Service, zerolog.Nop()), &api.Caller{Listener: api.People}
	jar := map[string]*http.Cookie{}
	visit := func(serve func(http.ResponseWriter, *http.Request, *api.Caller), address string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, address, nil)
		for _, c := range jar {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		serve(w, r, people)
		for _, c := range w.Result().Cookies() {
			if jar[c.Name] = c; c.MaxAge < 0 {
				delete(jar, c.Name)
			}
		}
		return w.Result()
	}
	var tabs []url.Values
	for len(jar) < 2 { // states are random, and the names of cookies few
		to, err := visit(routes.serveLogin, "https://sluice.example/auth/login").Location()
		if err != nil {
			t.Fatal(err)
		}
		if tabs = append(tabs, to.Query()); len(jar) == 1 {
			tabs = tabs[len(tabs)-1:]
		}
	}
	for _, q := range tabs {
		d.provider.say(map[string]any{"nonce": q.Get("nonce"), "groups": []string{"managers"}})
		answer := visit(routes.serveCallback, redirect+"?code=c&state="+q.Get("state"))
		if answer.StatusCode != http.StatusOK {
			t.Errorf("a tab signs in with %s", answer.Status)
		}
	}
	if len(jar) != 1 || jar[auth.SessionCookie] == nil {
		t.Errorf("the browser keeps %v", jar)
	}
}

// What a provider, or who poses as one, may answer, and what comes of it.
func TestAnswersAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claims map[string]any
		change func(*desk, *Callback)
		want   string // part of the error; empty: signed in
	}{
		"all is well":       {},
		"no groups":         {map[string]any{"groups": nil}, nil, "neither groups nor a verified e-mail"},
		"other groups":      {map[string]any{"groups": []string{"strangers"}}, nil, "gives you no role"},
		"a group as text":   {map[string]any{"groups": "managers"}, nil, ""},
		"overage":           {map[string]any{"groups": nil, "_claim_names": map[string]string{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]string{"endpoint": "https://graph.example"}}}, nil, "left your groups out, for they are too many"},
		"overage, in short": {map[string]any{"groups": nil, "hasgroups": true}, nil, "left your groups out"},
		"overage, groups in userinfo": {map[string]any{"groups": nil, "hasgroups": true}, func(d *desk, _ *Callback) {
			d.provider.userInfo = map[string]any{"sub": "ada", "groups": []string{"managers"}}
		}, ""},
		"overage, a role by address": {map[string]any{"groups": nil, "hasgroups": true, "email": "ada@example.com",
			"email_verified": true}, nil, ""},
		"a verified address": {map[string]any{"groups": nil, "email": "Ada@Example.com",
			"email_verified": true}, nil, ""},
		"verified, as text": {map[string]any{"groups": nil, "email": "ada@example.com",
			"email_verified": "true"}, nil, ""},
		"an unverified address": {map[string]any{"groups": nil, "email": "ada@example.com",
			"email_verified": false}, nil, "neither groups nor a verified"},
		"an address, unsaid": {map[string]any{"groups": nil, "email": "ada@example.com"}, nil,
			"neither groups nor a verified"},
		"another issuer":         {map[string]any{"iss": "https://evil.example"}, nil, "issued by a different provider"},
		"another audience":       {map[string]any{"aud": "other"}, nil, "expected audience"},
		"two audiences":          {map[string]any{"aud": []string{"sluice", "other"}, "azp": "sluice"}, nil, ""},
		"two audiences, no azp":  {map[string]any{"aud": []string{"sluice", "other"}}, nil, "azp is"},
		"another azp":            {map[string]any{"azp": "other"}, nil, "azp is other"},
		"an azp that is no text": {map[string]any{"azp": []string{"sluice"}}, nil, "azp is"},
		"another nonce":          {map[string]any{"nonce": "n"}, nil, "nonce is another"},
		"no nonce":               {map[string]any{"nonce": nil}, nil, "nonce is another"},
		"no subject":             {map[string]any{"sub": nil}, nil, "sub is empty"},
		"another at_hash":        {map[string]any{"at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"}, nil, "access token hash"},
		"expired a minute ago":   {map[string]any{"exp": -10 * time.Second}, nil, ""},
		"expired":                {map[string]any{"exp": -3 * time.Minute}, nil, "token is expired"},
		"no expiry":              {map[string]any{"exp": nil}, nil, "token is expired"},
		"issued in a minute":     {map[string]any{"iat": 20 * time.Second}, nil, ""},
		"issued in an hour":      {map[string]any{"iat": time.Hour}, nil, "in the future"},
		"the clock 50 s ahead":   {nil, func(d *desk, _ *Callback) { d.pass(50 * time.Second) }, ""},
		"the clock 50 s behind":  {nil, func(d *desk, _ *Callback) { d.pass(-50 * time.Second) }, ""},
		"a short token, the clock 50 s ahead": {map[string]any{"exp": 20 * time.Second},
			func(d *desk, _ *Callback) { d.pass(50 * time.Second) }, ""},
		"the clock 9 min ahead":   {nil, func(d *desk, _ *Callback) { d.pass(9 * time.Minute) }, "token is expired"},
		"the clock 9 min behind":  {nil, func(d *desk, _ *Callback) { d.pass(-9 * time.Minute) }, "in the future"},
		"no ID token":             {nil, func(d *desk, _ *Callback) { d.provider.noID = true }, "no ID token"},
		"keys rotated":            {nil, func(d *desk, _ *Callback) { d.provider.rotate(t) }, ""},
		"another state":           {nil, func(_ *desk, c *Callback) { c.State += "x" }, "another sign-in"},
		"no state":                {nil, func(_ *desk, c *Callback) { c.State = "" }, "another sign-in"},
		"no cookie":               {nil, func(_ *desk, c *Callback) { c.Cookie = "" }, "did not begin"},
		"a cookie of another key": {nil, func(d *desk, c *Callback) { c.Cookie, _ = Key{9}.sealJSON(flowPurpose, flow{State: c.State}) }, "another key"},
		"a handle as the cookie":  {nil, func(d *desk, c *Callback) { c.Cookie, _ = d.key.sealJSON(devicePurpose, flow{State: c.State}) }, "another key"},
		"after 10 minutes":        {nil, func(d *desk, _ *Callback) { d.pass(10*time.Minute + time.Second) }, "longer than 10 minutes"},
		"its iss (RFC 9207)":      {nil, func(d *desk, c *Callback) { c.Issuer = d.provider.URL }, ""},
		"another iss (RFC 9207)":  {nil, func(_ *desk, c *Callback) { c.Issuer = "https://evil.example" }, "not of this identity provider"},
		"refused by the provider": {nil, func(_ *desk, c *Callback) { c.Error, c.Description = "access_denied", "no\x1b[31m" }, "says access_denied no"},
		"a wrong code":            {nil, func(d *desk, _ *Callback) { d.provider.refused = "invalid_grant" }, "did not accept"},
		"the provider is down":    {nil, func(d *desk, _ *Callback) { d.provider.down = true }, "can't be reached"},
		"another's userinfo": {map[string]any{"groups": nil}, func(d *desk, _ *Callback) {
			d.provider.userInfo = map[string]any{"sub": "eve", "groups": []string{"managers"}}
		}, "another subject"},
		"groups in userinfo": {map[string]any{"groups": nil}, func(d *desk, _ *Callback) {
			d.provider.userInfo = map[string]any{"sub": "ada", "groups": []string{"managers"}}
		}, ""},
		"1,000 groups":  {map[string]any{"groups": append(manyGroups(1000, 30), "managers")}, nil, ""},
		"50,000 groups": {map[string]any{"groups": append(manyGroups(5000, 30), "managers")}, nil, "sent 5001 groups"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.provider.say(map[string]any{"groups": []string{"managers"}})
			d.provider.userInfo = map[string]any{"sub": "ada"}
			callback := d.start(t)
			d.provider.say(c.claims)
			if c.change != nil {
				c.change(d, &callback)
			}
			secret, _, err := d.Finish(t.Context(), callback)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "" && d.rolesOf(hashOf(secret)) == "no role":
				t.Error("no role")
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || secret != ""):
				t.Errorf("%v, want %q", err, c.want)
			case c.want != "" && len(d.Sessions()) > 0:
				t.Error("there is a session")
			case err != nil && strings.ContainsRune(err.Error(), 0x1b):
				t.Errorf("%q is obeyed by terminals", err)
			}
		})
	}
}

func manyGroups(n, length int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%0*d", length, i)
	}
	return all
}

func TestForgedIDTokens(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"alg none", "alg None, with a signature", "HS256 with the public key",
		"HS256 with the client's secret", "another's key under the same id", "a changed payload", "no JWT"} {
		d := newDesk(t)
		c := d.start(t)
		d.provider.raw = d.provider.forge(t, how, d.provider.claims["nonce"].(string))
		if _, _, err := d.Finish(t.Context(), c); err == nil || !strings.Contains(err.Error(), "is not valid") {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// RFC 9207: where the provider says that it sends iss, an answer without it is another provider's.
func TestIssuerInTheAnswerIsRequiredWhereAnnounced(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.metadata["authorization_response_iss_parameter_supported"] = true
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	c := d.start(t)
	if _, _, err := d.Finish(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not of this identity") {
		t.Error(err)
	}
	c = d.start(t)
	c.Issuer = d.provider.URL
	if _, _, err := d.Finish(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestReturnStaysHere(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/ui?x=1#y": "/ui?x=1#y", "": "/ui/", "//evil.example": "/ui/", "/\\evil.example": "/ui/",
		"https://evil.example": "/ui/", "javascript:alert(1)": "/ui/", "/\t/evil.example": "/ui/",
		"/%0a/x": "/%0a/x", "ui": "/ui/", "/auth/login": "/ui/", "/a\nb": "/ui/", "/" + strings.Repeat("a",
			2000): "/ui/",
	} {
		if got := CleanReturn(path); got != want {
			t.Errorf("%q leads to %q", path, got)
		}
	}
}

// A session ends 12 h after its person's last request, whatever open tabs ask, and after 7 days; and at once when
// somebody signs out.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	idle, used, tab := d.signIn(t), d.signIn(t), d.signIn(t)
	for i := range 13 {
		d.pass(time.Hour)
		if _, _, _, err := d.Session(tab, false); (err == nil) != (i < 11) {
			t.Errorf("an open tab after %d h: %v", i+1, err)
		}
		if got := d.rolesOf(used); got != "operator,approver" {
			t.Fatal(got)
		}
	}
	if got := d.rolesOf(idle); got != access.ErrUnknown.Error() {
		t.Errorf("after 13 h without use: %s", got)
	}
	for range 7 * 24 / 11 {
		d.pass(11 * time.Hour)
		d.rolesOf(used)
	}
	if got := d.rolesOf(used); got != access.ErrUnknown.Error() {
		t.Errorf("after 7 days: %s", got)
	}
	d.provider.say(map[string]any{"exp": time.Now().Add(1000 * time.Hour).Unix()})
	stolen := d.signIn(t)
	if err := d.SignOut(t.Context(), stolen, "x"); err != nil || d.rolesOf(stolen) != access.ErrUnknown.Error() {
		t.Errorf("after signing out: %s (%v)", d.rolesOf(stolen), err)
	}
	d.keepUp(t.Context())
	if left := d.sessions.all(); len(left) != 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

// What was read of a session before it ended brings it back in no memory.
func TestEndedSessionStaysGone(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	hash := d.signIn(t)
	read, err := d.sessions.store.Get(t.Context(), SessionsKind, hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SignOut(t.Context(), hash, "x"); err != nil {
		t.Fatal(err)
	}
	d.sessions.take(read) // by a reader that was slow
	if got := d.rolesOf(hash); got != access.ErrUnknown.Error() {
		t.Errorf("after signing out: %s", got)
	}
}

// A stranger who hangs up while the provider is asked keeps nobody else from signing in.
func TestStrangerHangsUp(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	_, _, _, _ = d.Start(gone, redirect, "/ui") // nobody reads the answer
	d.signIn(t)
}

// Signing in makes a new session and ends the browser's one before: nobody can have chosen the secret.
func TestNoSessionFixation(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	before := d.signIn(t)
	c := d.start(t)
	c.Before = before
	secret, _, err := d.Finish(t.Context(), c)
	if err != nil || hashOf(secret) == before || d.rolesOf(before) != access.ErrUnknown.Error() ||
		d.rolesOf(hashOf(secret)) != "operator,approver" {
		t.Errorf("%v, before %s", err, d.rolesOf(before))
	}
}

// Groups are read again after an hour: who leaves is out, who lost a group loses its roles, and while the provider is
// down nothing changes.
func TestRenewal(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}, "email": "ada@example.com", "email_verified": true})
	hash := d.signIn(t)
	hour := func() {
		d.pass(renewInterval + time.Minute)
		d.rolesOf(hash)
		d.keepUp(t.Context())
	}
	if got := d.rolesOf(hash); got != "operator,approver,admin" {
		t.Fatal(got)
	}
	d.provider.say(map[string]any{"groups": []string{"others"}, "nonce": nil,
		"exp": time.Now().Add(100 * time.Hour).Unix()})
	hour()
	if got := d.rolesOf(hash); got != "admin" {
		t.Errorf("without the group: %s", got)
	}
	if got := d.provider.forms[1].Get("refresh_token"); got != "rt1" {
		t.Errorf("renewed by %q", got)
	}
	d.provider.down = true
	hour()
	if got := d.rolesOf(hash); got != "admin" {
		t.Errorf("while the provider is down: %s", got)
	}
	d.provider.down = false
	d.keepUp(t.Context())
	if n := len(d.provider.forms); n != 3 {
		t.Errorf("asked again at once after a failure: %d", n)
	}
	d.pass(renewRetry + time.Second)
	d.provider.noID, d.provider.userInfo = true, map[string]any{"sub": "ada", "email": "ada@example.com",
		"email_verified": true, "groups": "managers"}
	d.keepUp(t.Context())
	if got := d.rolesOf(hash); got != "operator,approver,admin" {
		t.Errorf("without an ID token, by userinfo: %s", got)
	}
	if got := d.provider.forms[3].Get("refresh_token"); got != "rt2" {
		t.Errorf("renewed by %q: the last answer had rt2", got)
	}
	d.provider.refused = "invalid_client" // our own secret was changed
	hour()
	if got := d.rolesOf(hash); got != "operator,approver,admin" {
		t.Errorf("with a wrong secret of the client: %s", got)
	}
	d.provider.refused = "invalid_grant"
	hour()
	if got := d.rolesOf(hash); got != access.ErrUnknown.Error() {
		t.Errorf("who left has %s", got)
	}
}

// Without a refresh token, groups can't be read again, and the session lasts an hour.
func TestNoRefreshToken(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.noRefresh = true
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	hash := d.signIn(t)
	d.pass(59 * time.Minute)
	if got := d.rolesOf(hash); got != "operator,approver" {
		t.Error(got)
	}
	d.pass(2 * time.Minute)
	if got := d.rolesOf(hash); got != access.ErrUnknown.Error() {
		t.Error(got)
	}
}

// Two replicas on one store: a session counts at both at once, its end too, and one of them renews it.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	other := New(d.o)
	if err := other.readAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	hash := d.signIn(t)
	if _, g, _, err := other.Session(hash, true); err != nil || g.String() != "operator,approver" {
		t.Errorf("at the other: %s (%v)", g, err)
	}
	d.provider.say(map[string]any{"nonce": nil})
	d.pass(renewInterval + time.Minute)
	var both sync.WaitGroup
	for _, s := range []*Service{d.Service, other} {
		both.Go(func() { s.keepUp(t.Context()) })
	}
	both.Wait()
	if n := len(d.provider.forms); n != 2 {
		t.Errorf("the provider was asked %d times", n)
	}
	if err := other.EndSession(t.Context(), hash[:16], "admin", "x"); err != nil {
		t.Fatal(err)
	}
	if err := d.sessions.read(t.Context(), hash); err != nil || d.rolesOf(hash) != access.ErrUnknown.Error() {
		t.Errorf("ended at the other: %s (%v)", d.rolesOf(hash), err)
	}
	if err := d.EndSession(t.Context(), hash[:16], "admin", "x"); !errors.Is(err, access.ErrUnknown) {
		t.Error(err)
	}
}

// After a restore from a backup, no session is left.
func TestEndAll(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	hash := d.signIn(t)
	d.signIn(t)
	if n, err := EndAll(t.Context(), d.store.Records()); n != 2 || err != nil {
		t.Errorf("%d (%v)", n, err)
	}
	if err := d.readAll(t.Context()); err != nil || d.rolesOf(hash) != access.ErrUnknown.Error() {
		t.Errorf("%s (%v)", d.rolesOf(hash), err)
	}
}

// A request reads no store; 10,000 sessions take at most 20 MB.
func TestSessionsAreInMemory(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	hash := d.signIn(t)
	reads := d.store.Reads()
	for range 1000 {
		if got := d.rolesOf(hash); got != "operator,approver" {
			t.Fatal(got)
		}
	}
	if n := d.store.Reads() - reads; n != 0 {
		t.Errorf("%d reads", n)
	}
}

func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	started, err := d.StartDevice(t.Context())
	if err != nil || started.UserCode != "ABCD" || started.Interval != 5 || strings.Contains(started.Handle, "dc") {
		t.Fatalf("%+v (%v)", started, err)
	}
	for code, want := range map[string]error{"authorization_pending": ErrPending, "slow_down": ErrSlowDown} {
		d.provider.refused = code
		if _, _, err := d.FinishDevice(t.Context(), started.Handle, "x"); !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	for _, code := range []string{"access_denied", "expired_token", "invalid_grant"} {
		d.provider.refused = code
		refusal := new(Refusal)
		if _, _, err := d.FinishDevice(t.Context(), started.Handle, "x"); !errors.As(err, &refusal) {
			t.Errorf("%s: %v", code, err)
		}
	}
	d.provider.refused = ""
	secret, ends, err := d.FinishDevice(t.Context(), started.Handle, "x")
	if err != nil || d.rolesOf(hashOf(secret)) != "operator,approver" || time.Until(ends) > commandLifetime {
		t.Errorf("until %s (%v)", ends, err)
	}
	form := d.provider.forms[len(d.provider.forms)-1]
	if form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" || form.Get("device_code") != "dc" {
		t.Errorf("asked %v", form)
	}
	d.pass(11 * time.Minute)
	for _, handle := range []string{started.Handle, "x", ""} {
		if _, _, err := d.FinishDevice(t.Context(), handle, "x"); err == nil {
			t.Errorf("the handle %.20q is good", handle)
		}
	}
}

// The key is made once, whoever comes first.
func TestKeyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tls", "signin.key")
	keys := make([]Key, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateKey(file); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, k := range keys {
		if k != keys[0] || k == (Key{}) {
			t.Error("two keys")
		}
	}
	if _, err := keys[0].open("b", keys[0].seal("a", []byte("x"))); err == nil {
		t.Error("opened for another purpose")
	}
}

// Tokens of workloads: whatever is not signed by a listed issuer, for the audience, and with the claims, is unknown.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	listed := &channels.Access{Workloads: []channels.Workload{{Issuer: d.provider.URL, Audience: "sluice",
		Claims: map[string]string{"repository": "acme/shop"}, Roles: []string{"operator"}}}}
	d.o.Access = func() (*channels.Access, bool) { return listed, true }
	d.o.Workloads = d.provider.Client()
	s := New(d.o)
	ci := map[string]any{"sub": "repo:acme/shop", "repository": "acme/shop"}
	for name, c := range map[string]struct {
		claims map[string]any
		want   bool
	}{
		"good":                 {nil, true},
		"two audiences":        {map[string]any{"aud": []string{"x", "sluice"}}, true},
		"another audience":     {map[string]any{"aud": "other"}, false},
		"no audience":          {map[string]any{"aud": nil}, false},
		"another repository":   {map[string]any{"repository": "evil/shop"}, false},
		"another issuer":       {map[string]any{"iss": "https://evil.example"}, false},
		"expired":              {map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, false},
		"no expiry":            {map[string]any{"exp": nil}, false},
		"not yet":              {map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}, false},
		"issued in the future": {map[string]any{"iat": time.Now().Add(time.Hour).Unix()}, false},
		"no subject":           {map[string]any{"sub": nil}, false},
	} {
		clear(d.provider.claims)
		d.provider.say(ci)
		d.provider.say(c.claims)
		who, g, until, err := s.Workload(t.Context(), d.provider.idToken(t))
		if c.want != (err == nil) || err != nil && !errors.Is(err, access.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want && (g.String() != "operator" || who.Subject != "repo:acme/shop" || until.IsZero()) {
			t.Errorf("%s: %+v %s", name, who, g)
		}
	}
	for _, how := range []string{"alg none", "HS256 with the public key", "another's key under the same id", "no JWT"} {
		if _, _, _, err := s.Workload(t.Context(), d.provider.forge(t, how, "")); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("%s: %v", how, err)
		}
	}
	clear(d.provider.claims)
	d.provider.say(ci)
	d.provider.rotate(t)
	good := d.provider.idToken(t)
	if _, _, _, err := s.Workload(t.Context(), good); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	before := d.provider.keyReads
	for range 200 { // a stranger's tokens that name unknown keys
		d.provider.kid = "unknown"
		_, _, _, _ = s.Workload(t.Context(), d.provider.idToken(t)+"x")
	}
	if n := d.provider.keyReads - before; n > 60 {
		t.Errorf("the issuer was asked %d times", n)
	}
	d.provider.down = true
	if _, _, _, err := s.Workload(t.Context(), good); err != nil {
		t.Errorf("a token that is known, while the issuer is down: %v", err)
	}
	listed.Workloads = nil
	if _, _, _, err := s.Workload(t.Context(), good); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("no longer listed: %v", err)
	}
}

// Before sluice.yaml has been read, nobody is refused for good.
func TestNotReady(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.provider.say(map[string]any{"groups": []string{"managers"}})
	hash := d.signIn(t)
	d.o.Access = func() (*channels.Access, bool) { return nil, false }
	s := New(d.o)
	if _, _, _, err := s.Session(hash, true); !errors.Is(err, errNotReady) {
		t.Error(err)
	}
	if _, _, _, err := s.Workload(context.Background(), "a.b.c"); !errors.Is(err, errNotReady) {
		t.Error(err)
	}
	unread := New(Options{Records: d.o.Records, Access: d.Service.access, Recorder: d.store, Now: d.o.Now, Log: d.log})
	if _, _, _, err := unread.Session(hashOf("x"), true); !errors.Is(err, errNotReady) {
		t.Errorf("before the sessions were read: %v", err)
	}
}
