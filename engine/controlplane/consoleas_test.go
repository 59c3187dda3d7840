package controlplane_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/releases"
)

// newConsoleAs returns a site whose console takes everyone at plain loopback for Ada, who may do to staging what an
// operator may.
func newConsoleAs(t *testing.T) *formSite {
	t.Helper()
	f := newFormSite(t, func(o *controlplane.Options) {
		o.ConsoleAs = &access.Person{Name: "Ada", Email: "Ada@example.com"}
	})
	f.world.Commit("ada", "who may", map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\n" +
		"access: {channels: {staging: {emails: {ada@example.com: [operator]}}}}\n"})
	f.setView(viewOfWorld(f.world))
	return f
}

// Everyone at plain loopback acts in the console as the person that serve was told, with that person's roles: each page
// says so, commits are theirs, and the audit has them.
func TestConsoleAs(t *testing.T) {
	t.Parallel()
	f := newConsoleAs(t)
	const says = "Everyone on this machine acts here as"
	for _, path := range []string{"/ui/", "/ui/fleet", "/ui/cells/nobody", "/ui/do/hold", "/ui/whatif/staging"} {
		if _, page := f.ask(t, "", "GET", path, nil); !strings.Contains(page, says) ||
			!strings.Contains(page, "Ada@example.com") {
			t.Errorf("%s does not say who acts:\n%s", path, page)
		}
	}
	if _, page := newFormSite(t).ask(t, "", "GET", "/ui/", nil); strings.Contains(page, says) {
		t.Error("without the option, somebody acts")
	}
	_, to, form := f.preview(t, "", preview("hold", "channel", "staging", "reason", "incident 512"))
	w, page := f.ask(t, "", "POST", to, form)
	if w.StatusCode != 303 || len(f.holds("staging")) != 1 {
		t.Fatalf("%s\n%s", w.Status, page)
	}
	last := f.world.Changes[len(f.world.Changes)-1]
	if last.Author != (releases.Person{Name: "Ada", Email: "Ada@example.com"}) || !strings.Contains(last.Message,
		"Asked-By: Ada@example.com (serve --console-as)\nAsked-From: 127.0.0.1") {
		t.Errorf("%+v", last)
	}
	if _, rows := f.ask(t, "admin", "GET", "/v1/audit", nil); !strings.Contains(rows, `"who":"Ada@example.com"`) {
		t.Errorf("the audit: %s", rows)
	}
	// Roles bind that person too, and are git's.
	page, _, none := f.preview(t, "", preview("hold", "channel", "dedicated", "reason", "x"))
	if none != nil && none.Has("shown") || !strings.Contains(page, "you have operator in staging") {
		t.Error(page)
	}
	if w, _ := f.ask(t, "", "POST", preview("hold", "channel", "dedicated", "reason", "x"), form); w.StatusCode != 403 {
		t.Errorf("in another channel: %s", w.Status)
	}
}

// R57: the person of --console-as is known in the console alone, at plain loopback alone, and to this site's pages
// alone.
func TestR57ConsoleAsIsForThisMachine(t *testing.T) {
	t.Parallel()
	f := newConsoleAs(t)
	before := f.world.Tip
	_, to, form := f.preview(t, "", preview("hold", "channel", "staging", "reason", "x"))
	send := func(listener, host string, headers ...string) int {
		t.Helper()
		scheme := "http://"
		if listener == "people" {
			scheme = "https://"
		}
		r, err := http.NewRequestWithContext(t.Context(), "POST", scheme+host+to, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w, err := f.client(t, listener, nil).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		w.Body.Close()
		return w.StatusCode
	}
	for name, c := range map[string]struct {
		listener, host string
		headers        []string
		want           int
	}{
		"another origin":     {"loopback", "127.0.0.1", []string{"Origin", "https://evil.example"}, 403},
		"another port":       {"loopback", "127.0.0.1", []string{"Sec-Fetch-Site", "same-site"}, 403},
		"cross-site":         {"loopback", "127.0.0.1", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"rebinding":          {"loopback", "evil.example", nil, 421},
		"rebinding, a port":  {"loopback", "evil.example:7600", nil, 421},
		"through a proxy":    {"loopback", "127.0.0.1", []string{"X-Forwarded-For", "192.0.2.1"}, 401},
		"through a proxy, 2": {"loopback", "127.0.0.1", []string{"Via", "1.1 proxy"}, 401},
		"a wrong token":      {"loopback", "127.0.0.1", []string{"Authorization", "Bearer wrong"}, 401},
		"a token's roles":    {"loopback", "127.0.0.1", []string{"Authorization", "Bearer " + f.tokens["viewer"]}, 403},
		"https":              {"people", "sluice", nil, 401},
	} {
		if got := send(c.listener, c.host, c.headers...); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	for _, path := range []string{"/v1/cells/s1/rotate", "/v1/cells/s1/revoke", "/v1/flags/x/kill"} {
		if w, said := f.ask(t, "", "POST", path, url.Values{}); w.StatusCode != 401 {
			t.Errorf("%s: %s %s", path, w.Status, said)
		}
	}
	if f.world.Tip != before {
		t.Error("somebody else committed")
	}
}
