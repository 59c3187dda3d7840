package agent

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
)

// keyedControlPlane is a control plane behind mutual TLS: it knows cells by their keys, and is known by its own.
type keyedControlPlane struct {
	*controlPlane
	address string

	mu            sync.Mutex
	keys          []tls.Certificate // active and standby; the first is presented
	cells         map[string]string // cells by key
	tokens        map[string]string // by hash: the key that used the token; empty: none yet
	tokenKeys     []string          // keys that came with a token, in order
	presentedKeys []string          // keys that were presented, in order
	dropsOldKey   bool              // the old key is out as soon as the next is known, and else once it is used
	keepsOldKeys  bool              // the old key is accepted for ever
	successors    map[string]string // keys that were replaced, by the key that replaced them
	denyAll       bool              // everyone gets 401
	denyTokens    bool              // each token gets 401
	keyStatus     int               // status for a presented key; 0: the key is accepted
}

func newKeyedControlPlane(t testing.TB) *keyedControlPlane {
	t.Helper()
	k := prepareKeyedControlPlane(t, newBareControlPlane())
	k.streams = true
	k.server = httptest.NewUnstartedServer(k)
	k.server.TLS = k.tlsConfig()
	k.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	k.server.StartTLS()
	k.address = strings.TrimPrefix(k.server.URL, "https://")
	t.Cleanup(k.close)
	return k
}

func newBareControlPlane() *controlPlane {
	return &controlPlane{changed: make(chan struct{}), tars: map[digest][]byte{}, fetched: map[digest]int{},
		events: map[int64]cells.Event{}, bundles: map[digest][]byte{}}
}

func prepareKeyedControlPlane(t testing.TB, p *controlPlane) *keyedControlPlane {
	t.Helper()
	return &keyedControlPlane{controlPlane: p, cells: map[string]string{}, tokens: map[string]string{},
		successors: map[string]string{},
		keys:       []tls.Certificate{newServerKey(t), newServerKey(t)}}
}

func newServerKey(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c, err := identity.SelfSignedCertificate(rand.Reader, key, "sluice", time.Now())
	must(t, err)
	return c
}

func (k *keyedControlPlane) tlsConfig() *tls.Config {
	shown := func() *tls.Config {
		k.mu.Lock()
		defer k.mu.Unlock()
		return &tls.Config{
			MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"http/1.1"},
			Certificates: k.keys[:1:1],
		}
	}
	c := shown()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return shown(), nil }
	return c
}

// currentPins returns the pins of the present keys.
func (k *keyedControlPlane) currentPins() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var pins []string
	for _, c := range k.keys {
		pins = append(pins, identity.CertificatePin(c.Leaf))
	}
	return pins
}

// newToken returns a new token for a cell.
func (k *keyedControlPlane) newToken(t testing.TB, cell string) identity.Token {
	t.Helper()
	secret, err := identity.NewSecret(rand.Reader)
	must(t, err)
	pins := k.currentPins()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tokens[identity.HashSecret(secret)] = ""
	return identity.Token{Cell: cell, Address: k.address, Pins: pins, Secret: secret}
}

func (k *keyedControlPlane) newSettings(t testing.TB, token identity.Token) settings {
	t.Helper()
	s := newSettings(t, k.controlPlane)
	s.Server, s.Cell, s.Join = "", token.Cell, token.String()
	return s
}

func (k *keyedControlPlane) updateKeys(f func()) {
	k.mu.Lock()
	f()
	k.mu.Unlock()
}

func (k *keyedControlPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	public, ok := r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		http.Error(w, "no key", http.StatusUnauthorized)
		return
	}
	key := identity.FormatKey(public)
	k.controlPlane.mu.Lock()
	refuse := k.refuse
	k.controlPlane.mu.Unlock()
	if refuse != nil && refuse(w, r) {
		return
	}
	if r.URL.Path == registerPath {
		k.serveRegister(w, r, key)
		return
	}
	k.mu.Lock()
	cell, known := k.cells[key]
	known = known && !k.denyAll
	if known && !k.keepsOldKeys {
		delete(k.cells, k.successors[key])
	}
	k.mu.Unlock()
	switch {
	case !known:
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == keyPath:
		k.serveKey(w, r, cell, key)
	case r.URL.Query().Get("cell") != "" && r.URL.Query().Get("cell") != cell:
		w.WriteHeader(http.StatusForbidden)
	default:
		k.controlPlane.mux().ServeHTTP(w, r)
	}
}

func (k *keyedControlPlane) serveRegister(w http.ResponseWriter, r *http.Request, key string) {
	var j identity.Join
	_ = json.NewDecoder(r.Body).Decode(&j)
	hash := identity.HashSecret(j.Secret)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tokenKeys = append(k.tokenKeys, key)
	by, known := k.tokens[hash]
	if !known || by != "" && by != key || k.denyTokens {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	k.tokens[hash], k.cells[key] = key, j.Cell
	_ = json.NewEncoder(w).Encode(identity.Joined{Cell: j.Cell, Epoch: 1})
}

func (k *keyedControlPlane) serveKey(w http.ResponseWriter, r *http.Request, cell, key string) {
	var n identity.Next
	_ = json.NewDecoder(r.Body).Decode(&n)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.presentedKeys = append(k.presentedKeys, n.Key)
	switch {
	case k.keyStatus != 0:
		w.WriteHeader(k.keyStatus)
	case n.Verify(cell, key) != nil:
		w.WriteHeader(http.StatusBadRequest)
	default:
		k.cells[n.Key], k.successors[n.Key] = cell, key
		if k.dropsOldKey {
			delete(k.cells, key)
		}
		_ = json.NewEncoder(w).Encode(identity.Joined{Cell: cell, Epoch: 1})
	}
}

// tcpLink forwards connections from an agent to a control plane and can cut them.
type tcpLink struct {
	listener net.Listener
	upstream string

	mu    sync.Mutex
	conns []net.Conn
}

func newTCPLink(t testing.TB, to string) *tcpLink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	link := &tcpLink{listener: l, upstream: to}
	go link.acceptAll()
	t.Cleanup(func() { _ = l.Close(); link.cutAll() })
	return link
}

func (l *tcpLink) acceptAll() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.upstream)
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, near, far)
		l.mu.Unlock()
		go l.copyAndClose(near, far)
		go l.copyAndClose(far, near)
	}
}

func (l *tcpLink) copyAndClose(to, from net.Conn) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	_, _ = io.Copy(to, from)
}

// cutAll ends all connections.
func (l *tcpLink) cutAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}
