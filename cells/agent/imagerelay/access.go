package imagerelay

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
)

// Access is how node parts reach the relay of their cell's agent. Whoever has it pulls what the cell may pull, and
// sends what programs measure, from where the address is reachable, and can do nothing else.
type Access struct {
	Address string `json:"address"` // IP:PORT of the agent
	Pin     string `json:"pin"`     // of its certificate
	Token   string `json:"token"`
}

// Door lets in who has its Access. It is made anew with each start of an agent.
type Door struct {
	access Access
	config *tls.Config
}

// NewDoor returns a door at an address.
func NewDoor(address string, now time.Time) (*Door, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("open a door for node parts: %w", err)
	}
	certificate, err := identity.SelfSignedCertificate(rand.Reader, key, "sluice-agent", now)
	if err != nil {
		return nil, fmt.Errorf("open a door for node parts: %w", err)
	}
	token, err := identity.NewSecret(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("open a door for node parts: %w", err)
	}
	return &Door{Access{address, identity.CertificatePin(certificate.Leaf), token},
		&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}}, nil
}

// Access returns what lets in.
func (d *Door) Access() Access { return d.access }

// ServeNodes passes on what comes to l through a door until ctx ends. OTLP that node parts pass on goes to telemetry.
func (r *Relay) ServeNodes(ctx context.Context, l net.Listener, d *Door, telemetry http.Handler) {
	want := []byte("Bearer " + d.access.Token)
	mux := http.NewServeMux()
	mux.Handle("POST /v1/metrics", telemetry)
	mux.Handle("POST /v1/logs", telemetry)
	mux.Handle("/", r.handler)
	r.serve(ctx, tls.NewListener(l, d.config), http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if subtle.ConstantTimeCompare([]byte(q.Header.Get("Authorization")), want) != 1 {
			writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "Only the cell's node parts come in here.")
			return
		}
		mux.ServeHTTP(w, q)
	}))
}

// Through sends requests to the agent of the Access that it took last. It is an http.RoundTripper.
type Through struct {
	mu        sync.Mutex
	access    Access
	transport *http.Transport // nil: it took none yet
}

// Take makes an Access the one in force.
func (t *Through) Take(a Access) error {
	if _, err := netip.ParseAddrPort(a.Address); err != nil || a.Pin == "" || a.Token == "" {
		return errors.New("what the agent says of its relay is incomplete")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.access == a {
		return nil
	}
	if t.transport != nil {
		t.transport.CloseIdleConnections()
	}
	check := func(s tls.ConnectionState) error {
		return identity.MatchPins([]string{a.Pin}, s.PeerCertificates, time.Now())
	}
	t.access, t.transport = a, &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // pinned
			VerifyConnection: check},
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: Connections,
		DisableCompression: true}
	return nil
}

const dialTimeout = 10 * time.Second

var errNoAgent = errors.New("the cell's agent has not said yet where node parts reach it")

// RoundTrip implements http.RoundTripper.
func (t *Through) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	a, transport := t.access, t.transport
	t.mu.Unlock()
	if transport == nil {
		return nil, errNoAgent
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "https", a.Address, ""
	r.Header.Set("Authorization", "Bearer "+a.Token)
	return transport.RoundTrip(r)
}
