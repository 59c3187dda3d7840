package controlplane_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/internal/listen"
)

// editableMembers are members in memory whose identities a test changes.
type editableMembers struct {
	mu      sync.Mutex // guards what follows
	all     map[string]cells.Identity
	stale   error
	used    []string
	changed chan struct{} // closed after a change; nil: not requested
}

// Roster returns a new roster at each call.
func (m *editableMembers) Roster() *roster.Roster {
	m.mu.Lock()
	defer m.mu.Unlock()
	return roster.New(m.all)
}

func (m *editableMembers) RosterChanged() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

func (m *editableMembers) Identity(cell string) cells.Identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[cell]
}

func (m *editableMembers) CheckFresh() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stale
}

func (m *editableMembers) RegisterKey(context.Context, string, string, string, string) (cells.Identity, error) {
	return cells.Identity{}, plan.ErrDenied
}

func (m *editableMembers) ReplaceKey(_ context.Context, cell, key string) error {
	return m.ChangeIdentity(context.Background(), cell, "", func(id *cells.Identity) {
		id.Previous, id.PublicKey, id.Rotate = id.PublicKey, key, false
	})
}

func (m *editableMembers) RetirePreviousKey(_ context.Context, cell, key string) error {
	m.mu.Lock()
	m.used = append(m.used, key)
	m.mu.Unlock()
	return m.ChangeIdentity(context.Background(), cell, "", func(id *cells.Identity) { id.Previous = "" })
}

func (m *editableMembers) ChangeIdentity(_ context.Context, cell, _ string, change func(*cells.Identity)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.all[cell]
	change(&id)
	id.Serial++
	m.all[cell] = id
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
	return nil
}

// securedSite is a site with all kinds of listeners.
type securedSite struct {
	*site
	members   *editableMembers
	keys      *transport.Keys
	signers   map[string]crypto.Signer // by whose key
	tokens    map[string]string        // by role, and "expired"
	addresses map[string]string        // by kind of listener
	dir       string
	ca        *x509.CertPool // trusts the people's listener
	stop      func()         // ends serving, and waits for that
}

func newSecuredSite(t *testing.T, keyed bool) *securedSite { return newSecuredSiteWith(t, keyed, nil) }

func newSecuredSiteWith(t *testing.T, keyed bool, change func(*controlplane.Options)) *securedSite {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // socket paths are limited to about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &securedSite{members: &editableMembers{all: map[string]cells.Identity{}}, signers: map[string]crypto.Signer{},
		tokens: map[string]string{}, addresses: map[string]string{}, dir: dir}
	if h.keys, err = transport.OpenKeys(filepath.Join(dir, "tls")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme", "bolt", "revoked", "nobody"} {
		_, h.signers[name] = newKey(t)
	}
	h.signers["ecdsa"], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme", "bolt"} {
		h.members.all[name] = cells.Identity{Epoch: 1, Serial: 1,
			PublicKey: identity.FormatKey(h.signers[name].Public().(ed25519.PublicKey))}
	}
	h.members.all["crow"] = cells.Identity{Epoch: 1, Serial: 2, Revoked: true,
		PublicKey: identity.FormatKey(h.signers["revoked"].Public().(ed25519.PublicKey))}
	h.site = newSite(t, store.Options{}, func(o *controlplane.Options) {
		o.Members, o.Address = h.members, "sluice.example:7601"
		if change != nil {
			change(o)
		}
		if keyed {
			o.Keys = h.keys
		}
		o.Tokens = o.Journal.(controlplane.Tokens)
		for _, role := range append(access.AllRoles(), "expired") {
			as, lasts := role, ""
			if role == "expired" {
				as, lasts = access.Admin, "1ns"
			}
			kept, secret, err := peopleapi.NewToken(string(role), access.Roles{as}, lasts, time.Now())
			if err == nil {
				err = o.Tokens.AddToken(t.Context(), kept)
			}
			if err != nil {
				t.Fatal(err)
			}
			h.tokens[string(role)] = secret
		}
	})
	h.ca = x509.NewCertPool()
	h.ca.AddCert(h.keys.Certificate().Leaf)
	h.serveListeners(t, keyed)
	return h
}

// serveListeners serves all listeners until the test ends.
func (h *securedSite) serveListeners(t *testing.T, keyed bool) {
	t.Helper()
	all := map[string]func() (net.Listener, error){
		"loopback": func() (net.Listener, error) { return listen.Loopback("127.0.0.1:0") },
		"socket":   func() (net.Listener, error) { return listen.Unix(filepath.Join(h.dir, "s")) },
		"people":   func() (net.Listener, error) { return transport.ListenPeople("127.0.0.1:0", h.keys.Certificate()) },
	}
	if keyed {
		all["cells"] = func() (net.Listener, error) { return transport.ListenCells("127.0.0.1:0", h.keys) }
	}
	var listeners []net.Listener
	for name, listen := range all {
		l, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		h.addresses[name] = l.Addr().String()
		listeners = append(listeners, l)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, listeners...) }()
	h.stop = sync.OnceFunc(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
}

func newKey(t *testing.T) (string, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return identity.FormatKey(public), private
}

// client returns a client of a listener, with a key if one is given.
func (h *securedSite) client(t *testing.T, listener string, key crypto.Signer) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		network := "tcp"
		if listener == "socket" {
			network = "unix"
		}
		return new(net.Dialer).DialContext(ctx, network, h.addresses[listener])
	}, ForceAttemptHTTP2: true}
	if listener == "people" {
		transport.TLSClientConfig = &tls.Config{RootCAs: h.ca, ServerName: "sluice"}
	}
	if listener == "cells" {
		transport.TLSClientConfig = h.clientTLS(t, key)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (h *securedSite) clientTLS(t *testing.T, key crypto.Signer) *tls.Config {
	t.Helper()
	c := &tls.Config{InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error { //nolint:gosec // by pin
			return identity.MatchPins(h.keys.Pins, cs.PeerCertificates, time.Now())
		}}
	if key != nil {
		cert, err := identity.SelfSignedCertificate(rand.Reader, key, "cell", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

// request sends one request. headers holds names and values in turn.
func (h *securedSite) request(t *testing.T, c *http.Client, listener, method, path, body string,
	headers ...string) (*http.Response, string) {
	t.Helper()
	scheme := "http"
	if listener == "people" || listener == "cells" {
		scheme = "https"
	}
	host := "127.0.0.1"
	if listener == "people" {
		host = "sluice"
	}
	r, err := http.NewRequestWithContext(t.Context(), method, scheme+"://"+host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method != http.MethodGet {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s at %s: %v", method, path, listener, err)
	}
	defer w.Body.Close()
	said, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w, string(said)
}

// callerKind is a kind of caller.
type callerKind struct {
	name, listener string
	key            string // whose key
	token          string // a role, "expired", or "wrong" for an unknown token
	cell           string // that the caller names
	proxyHeader    string // header of a proxy
}

func callerKinds(keyed bool) []callerKind {
	all := []callerKind{
		{name: "loopback", listener: "loopback"},
		{name: "loopback, wrong token", listener: "loopback", token: "wrong"},
		{name: "loopback, admin", listener: "loopback", token: "admin"},
		{name: "loopback, by a proxy", listener: "loopback", proxyHeader: "X-Forwarded-For"},
		{name: "loopback, by another proxy", listener: "loopback", proxyHeader: "X-Real-Ip"},
		{name: "loopback, as a cell without key", listener: "loopback", cell: "dodo"},
		{name: "loopback, as a cell with a key", listener: "loopback", cell: "acme"},
		{name: "socket", listener: "socket"},
		{name: "socket, wrong token", listener: "socket", token: "wrong"},
		{name: "people", listener: "people"},
		{name: "people, wrong token", listener: "people", token: "wrong"},
		{name: "people, expired token", listener: "people", token: "expired"},
		{name: "people, as a cell", listener: "people", cell: "dodo"},
	}
	for _, role := range access.AllRoles() {
		all = append(all, callerKind{name: "people, " + string(role), listener: "people", token: string(role)})
	}
	if keyed {
		all = append(all,
			callerKind{name: "a cell", listener: "cells", key: "acme"},
			callerKind{name: "a cell, as another", listener: "cells", key: "acme", cell: "bolt"},
			callerKind{name: "a revoked cell", listener: "cells", key: "revoked"},
			callerKind{name: "an unknown key", listener: "cells", key: "nobody"},
			callerKind{name: "an unknown key, admin's token", listener: "cells", key: "nobody", token: "admin"},
		)
	}
	return all
}

// A request ends in one of these outcomes.
const (
	admitted     = "yes"
	unauthorized = "401"
	forbidden    = "403"
	noRoute      = "404" // the route does not exist at the listener
)

// expectedOutcome returns the outcome that a caller should have at a route. It is independent of package auth.
func expectedOutcome(v callerKind, r api.Route, keyed bool) string {
	public := r.Audience == api.Public || r.Audience == api.Hook
	forCells := r.Audience == api.Cell || r.Audience == api.AnyKey
	switch {
	case v.listener == "cells" && !forCells:
		return noRoute
	case v.listener == "cells" && r.Audience == api.AnyKey:
		return admitted
	case v.listener == "cells" && v.key != "acme":
		return unauthorized
	case v.listener == "cells" && v.cell == "bolt":
		return forbidden
	case v.listener == "cells":
		return admitted
	case r.Audience == api.AnyKey || r.Path == "/v1/key":
		return noRoute
	case forCells && (keyed || v.listener == "people" || v.proxyHeader != ""):
		return noRoute
	case public:
		return admitted
	case v.token == "wrong" || v.token == "expired":
		return unauthorized
	case forCells && v.cell == "acme":
		return forbidden
	case forCells:
		return admitted
	}
	has := v.token
	switch {
	case v.listener == "socket", has == "admin":
		return admitted
	case has == "" && v.listener == "loopback" && v.proxyHeader == "" && r.Audience == api.Viewer:
		return admitted
	case has == "":
		return unauthorized
	case r.Audience == api.Viewer, has == string(r.Audience):
		return admitted
	}
	return forbidden
}

// TestRoutes requests every route as every kind of caller.
func TestRoutes(t *testing.T) {
	t.Parallel()
	for _, keyed := range []bool{false, true} {
		h := newSecuredSite(t, keyed)
		for _, v := range callerKinds(keyed) {
			t.Run(fmt.Sprintf("keyed %t, %s", keyed, v.name), func(t *testing.T) {
				t.Parallel()
				client := h.client(t, v.listener, h.signers[v.key])
				for _, r := range h.server.Routes() {
					got := h.outcomeOf(t, client, v, r)
					if want := expectedOutcome(v, r, keyed); got != want {
						t.Errorf("%s %s (%s): %s, want %s", r.Method, r.Path, r.Audience, got, want)
					}
				}
			})
		}
	}
}

// outcomeOf requests a route and returns the outcome.
func (h *securedSite) outcomeOf(t *testing.T, client *http.Client, v callerKind, r api.Route) string {
	t.Helper()
	digest := string(digestOf("1.0.1"))
	path := strings.NewReplacer("{path...}", "app/referrers/"+digest, "{digest}", digest, "{name}", "dodo",
		"{key}", "dodo", "{id}", "dodo", "{$}", "").Replace(r.Path)
	body := "{}"
	if r.Method == http.MethodGet {
		body = ""
	}
	var headers []string
	switch v.token {
	case "":
	case "wrong":
		headers = append(headers, "Authorization", "Bearer sluice_nobody-has-this")
	default:
		headers = append(headers, "Authorization", "Bearer "+h.tokens[v.token])
	}
	if v.proxyHeader != "" {
		headers = append(headers, v.proxyHeader, "192.0.2.1")
	}
	if v.cell != "" {
		path += "?cell=" + v.cell
	}
	if r.Audience == api.AnyKey {
		body = `{"nothing":"of use"}` // the response to an invalid token is delayed
	}
	if r.Audience == api.Hook {
		mac := hmac.New(sha256.New, []byte("secret"))
		mac.Write([]byte(body))
		headers = append(headers, "X-Gitea-Signature", hex.EncodeToString(mac.Sum(nil)))
	}
	if r.Path == "/v1/reports" {
		name := v.cell
		if name == "" {
			name = "dodo"
		}
		if v.listener == "cells" && v.cell == "" {
			name = v.key
		}
		body = fmt.Sprintf(`{"cell":%q,"boot":"b","sent":"2026-11-24T12:00:00Z","state":"pending"}`, name)
	}
	w, said := h.request(t, client, v.listener, r.Method, path, body, headers...)
	switch {
	case w.StatusCode == http.StatusNotFound && strings.Contains(said, "nothing at this path"):
		return noRoute
	case w.StatusCode == http.StatusMethodNotAllowed:
		return noRoute
	case w.StatusCode == http.StatusUnauthorized:
		return unauthorized
	case w.StatusCode == http.StatusForbidden:
		return forbidden
	}
	return admitted
}

// TestRoutesDoc compares docs/access.md with the table: go test ./engine/controlplane -run RoutesDoc -update
func TestRoutesDoc(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	b.WriteString("# Who may do what\n\nThe table is the program's own, and a test walks it with every kind of " +
		"caller.\n\n| Route | Who |\n| --- | --- |\n")
	for _, r := range newSite(t, store.Options{}, nil).server.Routes() {
		who := string(r.Audience)
		if r.OfCell {
			who += ", of the cell's channel"
		}
		if r.OfChannel {
			who += ", of the channel"
		}
		fmt.Fprintf(&b, "| `%s %s` | %s |\n", r.Method, r.Path, who)
	}
	b.WriteString(`
- *public*: everyone who reaches the people's listeners. *hook*: everyone, with a good signature over the body.
- *key*: whoever proved to have an Ed25519 key, at the cells' listener. *cell*: the cell whose key it is, for itself only.
- *viewer, operator, approver, admin*: roles. Who asks may have several, and may do what any of them permits. Every role
  may read everything, and admin may do everything. *Of the cell's channel*: the role counts if it holds everywhere, or
  in the channel of the cell that {name}, or cell= in the query, names. *Of the channel*: everywhere, or in the channel
  that channel= in the query names. Everywhere else it must hold everywhere.

Roles come with an operator's token (` + "`sluice token add`" + `), or from ` + "`access:`" + ` in sluice.yaml, for who signed in and for
workloads ([signin.md](signin.md)):

| Who asks | How | Roles |
| --- | --- | --- |
| an operator, or a program | a bearer token of sluice token add | the token's |
| a person, with a browser | the cookie __Host-sluice, at https:// | by groups and verified e-mail address |
| a person, with sluice login | a bearer token of the session | by groups and verified e-mail address |
| a workload, such as CI | a bearer token of its issuer, for the audience | by its claims |

| Where | Without a token | With one |
| --- | --- | --- |
| unix socket, which only its owner can open | admin | its roles |
| plain loopback | viewer | its roles |
| plain loopback, the console, of serve --console-as | viewer, and what that address has | its roles |
| plain loopback or unix socket, passed on by a proxy | nobody | its roles |
| https:// | nobody | its roles |
| cells' listener, mutual TLS | a cell, by its key; the people's routes are not there | tokens are not looked at |

Where serve has no cells' listener, cells name themselves (` + "`?cell=`" +
		`) on plain loopback and the unix socket; not those that have a key. A token
that is shown decides, also where none is needed.

A request was passed on by a proxy if it is in HTTP/1.0, or has a header that proxies add, such as Forwarded, Via,
X-Forwarded-* or X-Real-IP. What a page of another site asks for (` + "`Sec-Fetch-Site: cross-site`" + `, or another Origin) is
refused, but for links to pages. No GET has an effect, but for ` + "`/auth/callback`" + `, which begins the session of the
browser that began to sign in.
`)
	file := filepath.Join("..", "..", "docs", "access.md")
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("docs/access.md is not what the code says (%v): "+
			"run go test ./engine/controlplane -run RoutesDoc -update", err)
	}
}

// A report for another cell is refused, whatever its query says (fault 40), and nothing of the report is stored.
func TestReportForAnotherCell(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	client := h.client(t, "cells", h.signers["acme"])
	report := `{"cell":%q,"boot":"b","sent":"2026-11-24T12:00:00Z","state":"pending"}`
	w, said := h.request(t, client, "cells", "POST", "/v1/reports", fmt.Sprintf(report, "bolt"))
	wantProblem(t, w, said, 403, "One cell can't ask or report for another")
	w, said = h.request(t, client, "cells", "POST", "/v1/reports", fmt.Sprintf(report, "acme"))
	if w.StatusCode != 200 || !strings.Contains(said, h.keys.Pins[1]) {
		t.Errorf("its own: %s %s", w.Status, said)
	}
	known, err := h.store.Cells(t.Context())
	if err != nil || known["bolt"] != nil || known["acme"] == nil {
		t.Errorf("kept %v (%v)", known, err)
	}
}

// A revoked cell is refused at its next request, on open connections and resumed sessions too (R29, fault 40).
func TestRevokedCellIsRefused(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	transport := h.client(t, "cells", h.signers["acme"]).Transport.(*http.Transport)
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	client := &http.Client{Transport: transport}
	status := func() (int, bool) {
		w, _ := h.request(t, client, "cells", "GET", "/v1/desired", "")
		return w.StatusCode, w.TLS.DidResume
	}
	if got, _ := status(); got != 200 {
		t.Fatal(got)
	}
	transport.CloseIdleConnections()
	if got, resumed := status(); got != 200 || !resumed {
		t.Errorf("%d, resumed: %t", got, resumed)
	}
	if err := h.members.ChangeIdentity(t.Context(), "acme", "ada",
		func(id *cells.Identity) { id.Revoked = true }); err != nil {
		t.Fatal(err)
	}
	if got, _ := status(); got != 401 {
		t.Errorf("on the old connection: %d", got)
	}
	transport.CloseIdleConnections()
	if got, resumed := status(); got != 401 || !resumed {
		t.Errorf("with the old session: %d, resumed: %t", got, resumed)
	}
}

// A replica that is cut off from its store answers cells 503, and people as before (R29).
func TestStaleReplicaAnswers503(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	h.members.mu.Lock()
	h.members.stale = fmt.Errorf("nothing heard for 6s")
	h.members.mu.Unlock()
	for _, who := range []string{"acme", "nobody", "revoked"} {
		w, said := h.request(t, h.client(t, "cells", h.signers[who]), "cells", "GET", "/v1/desired", "")
		wantProblem(t, w, said, 503, "has not heard of its store")
		if w.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if w, _ := h.request(t, h.client(t, "loopback", nil), "loopback", "GET", "/v1/plan", ""); w.StatusCode != 200 {
		t.Errorf("people: %s", w.Status)
	}
}

// Everyone may know whether a replica is ready, but only callers on its machine may know the reason.
func TestReadinessReasonsAreLocal(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	w, here := h.request(t, h.client(t, "loopback", nil), "loopback", "GET", "/readyz", "")
	wantProblem(t, w, here, 503, "store")
	w, there := h.request(t, h.client(t, "people", nil), "people", "GET", "/readyz", "", "Authorization",
		"Bearer "+h.tokens["admin"])
	wantProblem(t, w, there, 503, "the log of sluice serve says why")
	if strings.Contains(here, "the log of sluice serve says why") {
		t.Error(here)
	}
}

// The cells' listener requires TLS 1.3 and an Ed25519 key, uses the hybrid key exchange, and serves HTTP/1.1 and
// HTTP/2.
func TestCellsListener(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	for name, key := range map[string]crypto.Signer{"no key": nil, "ECDSA": h.signers["ecdsa"]} {
		if w, err := h.client(t, "cells", key).Get("https://127.0.0.1/v1/desired"); err == nil {
			w.Body.Close()
			t.Errorf("%s: %s", name, w.Status)
		}
	}
	old := h.clientTLS(t, h.signers["acme"])
	old.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", h.addresses["cells"], old); err == nil {
		c.Close()
		t.Error("TLS 1.2 is spoken")
	}
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := h.client(t, "cells", h.signers["acme"])
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = proto == "HTTP/2.0"
		w, _ := h.request(t, client, "cells", "GET", "/v1/desired", "")
		if w.Proto != proto || w.StatusCode != 200 || w.TLS.Version != tls.VersionTLS13 ||
			w.TLS.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: %s %s, %s, %s", proto, w.Proto, w.Status, tls.VersionName(w.TLS.Version), w.TLS.CurveID)
		}
	}
}

// The first use of a cell's next key, and nothing earlier, retires the previous key.
func TestNextKey(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	old := h.signers["acme"].(ed25519.PrivateKey)
	key, next := newKey(t)
	first, second := h.client(t, "cells", old), h.client(t, "cells", next)
	present := func(n identity.Next) (*http.Response, string) {
		return h.request(t, first, "cells", "POST", "/v1/key", mustJSON(t, n))
	}
	for name, bad := range map[string]identity.Next{
		"another cell's": identity.NewNextKey(next, "bolt", old.Public().(ed25519.PublicKey)),
		"after another":  identity.NewNextKey(next, "acme", next.Public().(ed25519.PublicKey)),
		"nobody's":       {Key: key},
		"no key":         {Key: "x"},
		"signed by before": {Key: key,
			Signature: identity.NewNextKey(old, "acme", old.Public().(ed25519.PublicKey)).Signature},
	} {
		if w, said := present(bad); w.StatusCode != 400 {
			t.Errorf("%s: %s %s", name, w.Status, said)
		}
	}
	if w, _ := h.request(t, second, "cells", "GET", "/v1/desired", ""); w.StatusCode != 401 {
		t.Errorf("before it was presented: %s", w.Status)
	}
	if w, said := present(identity.NewNextKey(next, "acme", old.Public().(ed25519.PublicKey))); w.StatusCode != 200 ||
		!strings.Contains(said, h.keys.Pins[0]) {
		t.Fatalf("%s %s", w.Status, said)
	}
	for _, c := range []struct {
		who    *http.Client
		status int
	}{{first, 200}, {second, 200}, {first, 401}, {second, 200}} {
		if w, _ := h.request(t, c.who, "cells", "GET", "/v1/desired", ""); w.StatusCode != c.status {
			t.Errorf("%s, want %d", w.Status, c.status)
		}
	}
	if got := h.members.used; !slices.Equal(got, []string{key}) {
		t.Errorf("used %q", got)
	}
}
