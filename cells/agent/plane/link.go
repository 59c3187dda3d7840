package plane

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
)

const (
	dialTimeout = 10 * time.Second
	// idleTimeout is how long a connection is kept when nothing is asked: beside the one of the stream, which carries news,
	// an idle one costs the control plane memory, and a handshake now and then costs it less.
	idleTimeout       = 5 * time.Second
	maxResponseHeader = 64 << 10 // bytes
)

// link is the connections of one key: one that carries the stream, and one for all that is asked and answered.
type link struct {
	base     string             // without a slash at its end
	key      ed25519.PrivateKey // nil: plain
	http     http.Client
	replaced chan struct{} // closed once another link took its place
}

// plainLink is the link to http://HOST:PORT or unix:///PATH, for trying things out.
func (c *Client) plainLink(base, socket string) *link {
	t := newTransport()
	if socket != "" {
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, "unix", socket) }
	}
	return c.newLink(base, nil, t)
}

// mutualLink is the link of a key: TLS 1.3, on which the other side proves to have a key that is pinned. Nothing else
// is trusted, and no name or date is looked at (R29).
func (c *Client) mutualLink(base string, seed []byte, pins func() []string) (*link, error) {
	key := ed25519.NewKeyFromSeed(seed)
	certificate, err := identity.Certificate(rand.Reader, key, c.cell, time.Now())
	if err != nil {
		return nil, err
	}
	t := newTransport()
	t.TLSClientConfig = &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &certificate, nil
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			return identity.Match(pins(), s.PeerCertificates, time.Now())
		},
		// No sessions are resumed: one would stand for keys that were shown long ago, and saves little.
	}
	return c.newLink(base, key, t), nil
}

func (c *Client) newLink(base string, key ed25519.PrivateKey, t *http.Transport) *link {
	var carrier http.RoundTripper = t
	if c.wrapTransport != nil {
		carrier = c.wrapTransport(t)
	}
	return &link{base: base, key: key, replaced: make(chan struct{}), http: http.Client{
		Transport:     carrier,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// newTransport is HTTP/1.1, by way of a proxy if the environment names one. Each call has a time limit of its own.
func newTransport() *http.Transport {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	only1 := new(http.Protocols)
	only1.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  proxyFromEnvironment,
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           2,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true,
		Protocols:              only1,
		ReadBufferSize:         4 << 10,
		WriteBufferSize:        4 << 10,
	}
}

// errProxy does not repeat what is in the environment: there may be a password in it.
var errProxy = errors.New("HTTPS_PROXY is not the address of a proxy: give http://[USER:PASSWORD@]HOST:PORT; " +
	"what passes through is encrypted from end to end")

// proxyFromEnvironment is HTTPS_PROXY, HTTP_PROXY and NO_PROXY. A proxy that is spoken to by TLS would have to be known by
// a name and an authority, and neither is trusted here.
func proxyFromEnvironment(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil || u != nil && (u.Scheme == "https" || u.Host == "") {
		return nil, errProxy
	}
	return u, nil
}

// parseServer takes http://HOST:PORT, https://HOST:PORT or unix:///PATH of a socket apart.
func parseServer(server string) (base, socket string, mutual bool, err error) {
	u, err := url.Parse(server)
	switch {
	case err != nil || u.User != nil: // not repeated: there may be a password in it
		return "", "", false, errors.New("the control plane's address can't be read: give https://HOST:PORT")
	case u.Scheme == "unix" && u.Path != "":
		return "http://sluice", u.Path, false, nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "":
		return strings.TrimRight(server, "/"), "", u.Scheme == "https", nil
	}
	return "", "", false, fmt.Errorf("control plane %q: give https://HOST:PORT; or http://HOST:PORT or unix:///PATH, for trying things out", server)
}
