package controlplane_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
)

// signedIn are the people of newSignInSite, by their group, with what it may do.
func signedIn() map[string]access.Grants {
	some := func(roles ...access.Role) access.Roles { return roles }
	return map[string]access.Grants{
		"nobody":   {},
		"viewer":   {Everywhere: some(access.Viewer)},
		"operator": {Everywhere: some(access.Operator)},
		"approver": {Everywhere: some(access.Approver)},
		"both":     {Everywhere: some(access.Operator, access.Approver)},
		"admin":    {Everywhere: some(access.Admin)},
		"staging":  {In: map[string]access.Roles{"staging": some(access.Operator)}},
		"chief":    {In: map[string]access.Roles{"dedicated": some(access.Admin)}},
		"mixed": {Everywhere: some(access.Viewer), In: map[string]access.Roles{
			"dedicated": some(access.Operator, access.Approver)}},
	}
}

// rulesFor returns access in sluice.yaml that gives each group of signedIn its grants.
func rulesFor(groups map[string]access.Grants) *channels.Access {
	names := func(roles access.Roles) (all []string) {
		for _, r := range roles {
			all = append(all, string(r))
		}
		return all
	}
	a := &channels.Access{Groups: map[string][]string{}, Channels: map[string]*channels.ChannelAccess{}}
	for group, g := range groups {
		a.Groups[group] = names(g.Everywhere)
		for channel, roles := range g.In {
			if a.Channels[channel] == nil {
				a.Channels[channel] = &channels.ChannelAccess{Groups: map[string][]string{}}
			}
			a.Channels[channel].Groups[group] = names(roles)
		}
	}
	return a
}

// newSignInSite returns a site where somebody of each group is signed in, and the secrets of their sessions.
func newSignInSite(t *testing.T, more ...func(*controlplane.Options)) (*securedSite, map[string]string) {
	t.Helper()
	secrets := map[string]string{}
	rules := rulesFor(signedIn())
	h := newSecuredSiteWith(t, true, func(o *controlplane.Options) {
		for _, change := range more {
			change(o)
		}
		kept := o.Journal.(*store.Store)
		for group := range signedIn() {
			secrets[group] = access.SessionPrefix + "secret-of-" + group
			body := map[string]any{"id": group, "who": access.Person{Issuer: "https://idp.example", Subject: group,
				Groups: []string{group}}, "seen": time.Now().Add(-time.Hour), "ends": time.Now().Add(time.Hour)}
			data, err := json.Marshal(body)
			if err == nil {
				_, err = kept.Records().Put(t.Context(), records.Record{Kind: signin.SessionsKind,
					Key: identity.HashSecret(secrets[group]), Body: data})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		o.SignIn = signin.New(signin.Options{Records: kept.Records(), Recorder: kept, Workloads: http.DefaultClient,
			Access:   func() (*channels.Access, bool) { return rules, true },
			Provider: signin.ProviderOptions{Issuer: "https://idp.example", ClientID: "sluice", Client: http.DefaultClient}})
	})
	go func() { _ = h.options.SignIn.Run(t.Context()) }()
	for len(h.options.SignIn.Sessions()) < len(secrets) && t.Context().Err() == nil {
		runtime.Gosched() // it reads them all when it begins
	}
	return h, secrets
}

// TestRoutesByRoleAndChannel requests every people's route as everybody who is signed in, for a cell of each channel.
func TestRoutesByRoleAndChannel(t *testing.T) {
	t.Parallel()
	h, secrets := newSignInSite(t)
	client := h.client(t, "people", nil)
	for group, grants := range signedIn() {
		for cell, channel := range map[string]string{"acme": "staging", "crow": "dedicated", "dodo": ""} {
			for _, r := range h.server.Routes() {
				need := access.Role(r.Audience)
				if r.Audience == api.Cell || r.Audience == api.AnyKey || r.Audience == api.Public ||
					r.Audience == api.Hook {
					continue
				}
				want := forbidden // independent of Grants.Permits
				switch has := append(append(access.Roles{}, grants.Everywhere...), grants.In[inChannel(r,
					channel)]...); {
				case strings.Contains(has.String(), "admin"), strings.Contains(has.String(), string(need)),
					need == access.Viewer && group != "nobody":
					want = admitted
				}
				path := strings.NewReplacer("{name}", cell, "{key}", "dodo", "{id}", "none", "{$}", "").Replace(r.Path)
				body := ""
				if r.Method == http.MethodPost {
					body = "{}"
				}
				if strings.HasPrefix(path, "/ui/do/") {
					path += "?cell=" + cell + "&channel=" + channel
				}
				w, said := h.request(t, client, "people", r.Method, path, body, "Cookie",
					"__Host-sluice="+secrets[group])
				got := admitted
				if w.StatusCode == http.StatusForbidden || w.StatusCode == http.StatusUnauthorized {
					got = fmt.Sprint(w.StatusCode)
				}
				if got != want {
					t.Errorf("%s: %s %s: %s %s, want %s", group, r.Method, path, got, said, want)
				}
			}
		}
	}
}

// inChannel returns the channel for which a role counts at a route; empty: it must hold everywhere.
func inChannel(r api.Route, channel string) string {
	action, isAction := strings.CutPrefix(r.Path, "/ui/do/")
	everywhere := []string{"hold-all", "lift-all", "quarantine", "lift-quarantine", "move", "rename", "remove", "kill",
		"add-passkey", "unkill", "set-default", "publish", "hold-announcement", "lift-announcement",
		"cancel-announcement", "undo"}
	if strings.HasPrefix(r.Path, "/v1/cells/{name}/") || isAction && !slices.Contains(everywhere, action) {
		return channel
	}
	return ""
}

// A session counts as a cookie at https:// and as a bearer, nowhere else, and not from pages of other sites.
func TestSessionsAtListeners(t *testing.T) {
	t.Parallel()
	h, secrets := newSignInSite(t)
	cookie := []string{"Cookie", "__Host-sluice=" + secrets["admin"]}
	bearer := []string{"Authorization", "Bearer " + secrets["admin"]}
	for name, c := range map[string]struct {
		listener, method, path string
		headers                []string
		want                   int
	}{
		"cookie":             {"people", "GET", "/v1/tokens", cookie, 200},
		"bearer":             {"people", "GET", "/v1/tokens", bearer, 200},
		"bearer on loopback": {"loopback", "GET", "/v1/tokens", bearer, 200},
		"cookie on loopback": {"loopback", "GET", "/v1/tokens", cookie, 401},
		"cookie by a proxy": {"loopback", "GET", "/v1/tokens", append([]string{"X-Forwarded-For", "x"},
			cookie...), 401},
		"a token decides": {"people", "GET", "/v1/tokens", append([]string{"Authorization", "Bearer x"},
			cookie...), 401},
		"a wrong cookie": {"people", "GET", "/v1/tokens", []string{"Cookie",
			"__Host-sluice=" + secrets["admin"] + "x"}, 401},
		"a wrong session": {"people", "GET", "/v1/tokens", []string{"Authorization",
			"Bearer sluice_session_x"}, 401},
		"another site's page": {"people", "DELETE", "/v1/tokens/x", append([]string{"Sec-Fetch-Site",
			"cross-site"}, cookie...), 403},
		"a sister site's page": {"people", "DELETE", "/v1/tokens/x", append([]string{"Sec-Fetch-Site",
			"same-site"}, cookie...), 403},
		"another Origin": {"people", "DELETE", "/v1/tokens/x", append([]string{"Origin", "https://evil.example"}, cookie...), 403},
		"its own Origin": {"people", "DELETE", "/v1/tokens/x", append([]string{"Origin", "https://sluice"}, cookie...), 404},
		"no role": {"people", "GET", "/v1/status", []string{"Cookie",
			"__Host-sluice=" + secrets["nobody"]}, 403},
		"nobody":                 {"people", "GET", "/v1/me", nil, 401},
		"a page":                 {"people", "GET", "/ui/", []string{"Accept", "text/html,*/*"}, 302},
		"a page, of a program":   {"people", "GET", "/ui/", nil, 401},
		"a page, signed in":      {"people", "GET", "/ui/", append([]string{"Accept", "text/html"}, cookie...), 200},
		"sign in on loopback":    {"loopback", "GET", "/auth/login", nil, 404},
		"a callback of nobody's": {"people", "GET", "/auth/callback?code=x&state=y", nil, 400},
	} {
		w, said := h.request(t, h.client(t, c.listener, nil), c.listener, c.method, c.path, "", c.headers...)
		if w.StatusCode != c.want {
			t.Errorf("%s: %s %s", name, w.Status, said)
		}
	}
}

// A request of who is signed in reads no more of the store than one with a token: next to nothing.
func TestSignedInRequestsReadNoStore(t *testing.T) {
	t.Parallel()
	h, secrets := newSignInSite(t)
	client, kept := h.client(t, "people", nil), h.options.Journal.(*store.Store)
	const requests = 300
	before := kept.Reads()
	for range requests {
		w, said := h.request(t, client, "people", "GET", "/v1/me", "", "Cookie", "__Host-sluice="+secrets["viewer"])
		if w.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", w.Status, said)
		}
	}
	if n := kept.Reads() - before; n > requests/10 { // the site's own loops read too
		t.Errorf("%d reads for %d requests", n, requests)
	}
}

// A session idles while nothing but an open tab asks: what the page loads by itself is no use by its person.
func TestOpenTabsKeepNoSession(t *testing.T) {
	t.Parallel()
	h, secrets := newSignInSite(t)
	client := h.client(t, "people", nil)
	idleFor := func() time.Duration {
		for _, s := range h.options.SignIn.Sessions() {
			if s.ID == "viewer" {
				return time.Since(s.Seen)
			}
		}
		t.Fatal("the session ended")
		return 0
	}
	background := 0
	for _, r := range h.server.Routes() {
		if !r.Background {
			continue
		}
		background++
		path := r.Path + "?at=/ui/" // without the version of its assets, a stream ends by itself
		w, said := h.request(t, client, "people", r.Method, path, "", "Cookie", "__Host-sluice="+secrets["viewer"])
		if w.StatusCode != http.StatusOK || idleFor() < 50*time.Minute {
			t.Errorf("%s: %s %s; idle for %s", path, w.Status, said, idleFor())
		}
	}
	if background < 2 {
		t.Errorf("%d routes of open tabs", background)
	}
	w, said := h.request(t, client, "people", "GET", "/ui/?unasked=1", "", "Cookie", "__Host-sluice="+secrets["viewer"])
	if w.StatusCode != http.StatusOK || idleFor() < 50*time.Minute {
		t.Errorf("loaded again by its script: %s %s; idle for %s", w.Status, said, idleFor())
	}
	w, said = h.request(t, client, "people", "GET", "/ui/", "", "Cookie", "__Host-sluice="+secrets["viewer"])
	if w.StatusCode != http.StatusOK || idleFor() > 50*time.Minute {
		t.Errorf("%s %s; idle for %s", w.Status, said, idleFor())
	}
}

// An admin ends a session, and a person their own: the cookie is good for nothing afterwards.
func TestSessionsAreEnded(t *testing.T) {
	t.Parallel()
	h, secrets := newSignInSite(t)
	client := h.client(t, "people", nil)
	as := func(group, method, path string) (int, string) {
		w, said := h.request(t, client, "people", method, path, "", "Cookie", "__Host-sluice="+secrets[group])
		return w.StatusCode, said
	}
	if status, said := as("admin", "GET", "/v1/sessions"); status != 200 || !strings.Contains(said, `"id":"staging"`) ||
		strings.Contains(said, secrets["staging"]) || strings.Contains(said, identity.HashSecret(secrets["staging"])) {
		t.Errorf("%d %s", status, said)
	}
	if status, said := as("staging", "GET", "/v1/me"); status != 200 ||
		!strings.Contains(said, `"channels":{"staging":["operator"]}`) || !strings.Contains(said, `"subject":"staging"`) {
		t.Errorf("%d %s", status, said)
	}
	for _, end := range []struct{ by, method, path, who string }{
		{"admin", "DELETE", "/v1/sessions/staging", "staging"}, {"both", "POST", "/auth/logout", "both"},
	} {
		if status, said := as(end.by, end.method, end.path); status != 204 {
			t.Errorf("%s: %d %s", end.path, status, said)
		}
		if status, _ := as(end.who, "GET", "/v1/me"); status != 401 {
			t.Errorf("%s afterwards: %d", end.who, status)
		}
	}
	if status, said := as("admin", "DELETE", "/v1/sessions/staging"); status != 404 {
		t.Errorf("again: %d %s", status, said)
	}
	if _, said := as("admin", "GET", "/v1/audit"); !strings.Contains(said, "end the session staging of ") ||
		!strings.Contains(said, `"what":"sign out"`) {
		t.Error(said)
	}
}
