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
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	dialTimeout = 10 * time.Second
	// handshakeTimeout is longer than a busy control plane lets handshakes queue (20 s) and compute (5 s): an agent
	// that gave up earlier would come back, and make the queue longer.
	handshakeTimeout = 30 * time.Second
	connectTimeout   = 2*dialTimeout + handshakeTimeout // possibly through a proxy
	// idleTimeout is how long a connection that no stream uses is kept idle. A shorter time would cost the control
	// plane handshakes, a longer one memory.
	idleTimeout       = 5 * time.Second
	maxResponseHeader = 64 << 10 // bytes
)

// link is the HTTP client of one key: one connection for the stream, and one for requests.
type link struct {
	base string             // without a trailing slash
	boot string             // sent with every request
	key  ed25519.PrivateKey // nil: plain
	http http.Client
	// transport is that of http, without what a test put around it.
	transport *http.Transport
	replaced  chan struct{} // closed once another link replaces this one
}

// plainLink returns a link to http://127.0.0.1:PORT on loopback or unix:///PATH, for trying things out.
func (c *Client) plainLink(base, socket string) *link {
	t := newTransport()
	if socket != "" {
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, "unix", socket) }
	} else {
		t.DialContext = (&net.Dialer{Timeout: dialTimeout, Control: identity.DialLocalOnly}).DialContext
	}
	return c.newLink(base, nil, t)
}

// mutualLink returns a link of a key over TLS 1.3, on which the peer must prove a pinned key. No authority is trusted,
// and a certificate's names and dates are ignored (R29).
func (c *Client) mutualLink(base string, seed []byte, pins func() []string) (*link, error) {
	key := ed25519.NewKeyFromSeed(seed)
	certificate, err := identity.SelfSignedCertificate(rand.Reader, key, c.cell, time.Now())
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
			return identity.MatchPins(pins(), s.PeerCertificates, time.Now())
		},
		// Sessions are not resumed: a session would rest on keys proved long ago, and saves little.
	}
	return c.newLink(base, key, t), nil
}

func (c *Client) newLink(base string, key ed25519.PrivateKey, t *http.Transport) *link {
	var transport http.RoundTripper = t
	if c.wrapTransport != nil {
		transport = c.wrapTransport(t)
	}
	return &link{base: base, boot: c.boot, key: key, replaced: make(chan struct{}), transport: t, http: http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// newTransport returns an HTTP/1.1 transport, through a proxy if the environment names one. Each call has its own time
// limit.
func newTransport() *http.Transport {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  proxyFromEnvironment,
		OnProxyConnectResponse: checkProxyAnswer,
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxIdleConns:           2,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true,
		Protocols:              protocols,
		ReadBufferSize:         4 << 10,
		WriteBufferSize:        4 << 10,
	}
}

// errProxy does not repeat the environment, which may contain a password.
var errProxy = errors.New("HTTPS_PROXY is not the address of a proxy: use http://[USER:PASSWORD@]HOST:PORT; " +
	"the traffic through the proxy is encrypted end to end")

// checkProxyAnswer names the proxy in its refusal, which would otherwise read as the control plane's.
func checkProxyAnswer(_ context.Context, proxy *url.URL, connect *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("the proxy %s refuses the way to %s (%d %s): allow it there, or name the host in NO_PROXY",
		proxy.Host, connect.Host, answer.StatusCode, http.StatusText(answer.StatusCode))
}

// proxyFromEnvironment applies HTTPS_PROXY, HTTP_PROXY and NO_PROXY. A proxy that is reached by TLS is refused: it
// would have to be authenticated by a name and an authority, and neither is trusted here.
func proxyFromEnvironment(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil || u != nil && (u.Scheme == "https" || u.Host == "") {
		return nil, errProxy
	}
	return u, nil
}

// parseServer parses http://127.0.0.1:PORT, https://HOST:PORT or unix:///PATH of a socket.
func parseServer(server string) (base, socket string, mutual bool, err error) {
	u, err := url.Parse(server)
	switch {
	case err != nil || u.User != nil: // not repeated: it may contain a password
		return "", "", false, errors.New("the control plane's address is invalid: use https://HOST:PORT")
	case u.Scheme == "unix" && u.Path != "":
		return "http://sluice", u.Path, false, nil
	case u.Scheme == "http" && !identity.IsLocalHost(u.Hostname()):
		return "", "", false, fmt.Errorf("control plane %q: plain http:// goes over the network, where others could "+
			"read and change what the cell runs: leave the address out and pass the token that sluice cell add prints, "+
			"or use https://HOST:PORT; http:// is for 127.0.0.1 and localhost only", words.Clip(server, 200))
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "":
		return strings.TrimRight(server, "/"), "", u.Scheme == "https", nil
	}
	return "", "", false, fmt.Errorf("control plane %q is not an address: use https://HOST:PORT, "+
		"or http://127.0.0.1:PORT or unix:///PATH for trying things out", server)
}
