package controlplane_test

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/access"
)

// R57: plain loopback and the socket give nothing to what a proxy passed on, whichever mark the proxy leaves.
func TestR57ProxiesGetNothing(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	for _, listener := range []string{"loopback", "socket"} {
		client := h.client(t, listener, nil)
		if w, _ := h.request(t, client, listener, "GET", "/v1/status", ""); w.StatusCode != 200 {
			t.Errorf("%s, without a proxy: %s", listener, w.Status)
		}
		for _, header := range []string{
			"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
			"X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded", "X-Real-IP", "X-Client-IP",
			"X-Cluster-Client-IP", "CF-Connecting-IP", "CF-Ray", "True-Client-IP", "Fastly-Client-IP",
			"X-Original-Forwarded-For", "X-Original-URL", "X-Envoy-External-Address", "X-Azure-ClientIP", "X-Scheme",
		} {
			for _, path := range []string{"/v1/status", "/v1/cells/acme", "/metrics"} {
				w, _ := h.request(t, client, listener, "GET", path, "", header, "203.0.113.9")
				if w.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s, %s with %s: %s", listener, path, header, w.Status)
				}
			}
			w, _ := h.request(t, client, listener, "GET", "/v1/status", "", header, "", "Authorization",
				"Bearer "+h.tokens["viewer"])
			if w.StatusCode != 200 {
				t.Errorf("%s, a token with %s: %s", listener, header, w.Status)
			}
		}
	}
	c, err := net.Dial("tcp", h.addresses["loopback"]) // as nginx does by default
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /v1/status HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n", h.addresses["loopback"])
	w, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Body.Close()
	if w.StatusCode != http.StatusUnauthorized {
		t.Errorf("HTTP/1.0: %s", w.Status)
	}
}

// R57: a page of another site gets nothing, but may link to what is public.
func TestR57ForeignPages(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, false)
	for _, c := range []struct {
		listener, path, site, mode string
		status                     int
	}{
		{"loopback", "/v1/status", "cross-site", "no-cors", 403},
		{"loopback", "/v1/status", "cross-site", "navigate", 403},
		{"loopback", "/v1/status", "same-site", "cors", 403}, // another port of localhost
		{"loopback", "/v1/status", "same-origin", "cors", 200},
		{"loopback", "/v1/status", "none", "navigate", 200},
		{"loopback", "/v1/desired?cell=acme", "cross-site", "no-cors", 403},
		{"loopback", "/readyz", "cross-site", "no-cors", 403},
		{"loopback", "/announcements", "cross-site", "navigate", 200},
		{"people", "/v1/status", "cross-site", "cors", 403},
		{"people", "/v1/status", "same-site", "cors", 401},
		{"people", "/announcements", "cross-site", "navigate", 200},
		{"people", "/announcements", "cross-site", "no-cors", 403},
		{"socket", "/v1/status", "cross-site", "no-cors", 403},
	} {
		w, _ := h.request(t, h.client(t, c.listener, nil), c.listener, "GET", c.path, "", "Sec-Fetch-Site", c.site,
			"Sec-Fetch-Mode", c.mode)
		if w.StatusCode != c.status {
			t.Errorf("%s at %s, %s, %s: %s, not %d", c.path, c.listener, c.site, c.mode, w.Status, c.status)
		}
	}
	w, _ := h.request(t, h.client(t, "people", nil), "people", "POST", "/v1/cells/acme/revoke", "", "Sec-Fetch-Site",
		"cross-site", "Authorization", "Bearer "+h.tokens["admin"])
	if w.StatusCode != 403 {
		t.Errorf("a POST with a token: %s", w.Status)
	}
}

// R57: no GET has an effect, of whatever route and for whatever name.
func TestR57GetsHaveNoEffect(t *testing.T) {
	t.Parallel()
	for _, keyed := range []bool{false, true} {
		h := newSecuredSite(t, keyed)
		before := maps.Clone(h.members.all)
		asked := 0
		for _, v := range callerKinds(keyed) {
			client := h.client(t, v.listener, h.signers[v.key])
			for _, r := range h.server.Routes() {
				if r.Method != http.MethodGet {
					continue
				}
				for _, name := range []string{"acme", "nobody", "x%2f..%2fy"} {
					path := strings.NewReplacer("{digest}", string(digestOf("1.0.1")), "{name}", name, "{key}", name,
						"{id}", name).Replace(r.Path)
					headers := []string{"If-None-Match", `"x"`}
					if v.token != "" {
						headers = append(headers, "Authorization", "Bearer "+h.tokens[v.token])
					}
					w, _ := h.request(t, client, v.listener, "GET", path, "", headers...)
					if w.StatusCode/100 == 2 {
						asked++
					}
				}
			}
		}
		audit, err := h.store.AuditEntries(t.Context(), 1000)
		audit = slices.DeleteFunc(audit, func(e access.Entry) bool { return strings.HasPrefix(e.What, "was refused") })
		if err != nil || len(audit) != 0 {
			t.Errorf("keyed %t: audit %v (%v)", keyed, audit, err)
		}
		h.site.mu.Lock()
		pushes := h.site.pushes
		h.site.mu.Unlock()
		if pushes != 0 || asked == 0 {
			t.Errorf("keyed %t: the branch was polled %d times; %d requests were answered", keyed, pushes, asked)
		}
		if !maps.Equal(before, h.members.all) || len(h.members.used) > 0 {
			t.Errorf("keyed %t: identities were changed", keyed)
		}
	}
	// A person who asks for a token has the branch polled.
	h := newSecuredSite(t, true)
	w, _ := h.request(t, h.client(t, "socket", nil), "socket", "POST", "/v1/cells/nobody/tokens", "{}")
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	if w.StatusCode != 404 || h.site.pushes != 1 {
		t.Errorf("%s, %d polls of the branch", w.Status, h.site.pushes)
	}
}
