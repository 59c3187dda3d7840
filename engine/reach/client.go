package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	maxHeaderBytes = 16 << 10 // limit of a response's header
	dialTimeout    = 30 * time.Second
)

// Options says how a client connects. The zero value is usable.
type Options struct {
	Timeout time.Duration // of a whole request; zero: none but its context's
	// Proxy returns the proxy for a request; default: that of the environment. A proxy resolves names by itself, so
	// that through one only hosts are asked that the list has by themselves.
	Proxy func(*http.Request) (*url.URL, error)
}

// Client returns a client that connects only to where the list allows. It follows no redirect, which may lead
// elsewhere, and decompresses nothing.
func (l List) Client(o Options) *http.Client {
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	r := &roundTripper{list: l, proxy: o.Proxy, direct: newTransport(l.DialContext),
		proxied: newTransport((&net.Dialer{Timeout: dialTimeout}).DialContext)}
	r.proxied.Proxy = o.Proxy
	return &http.Client{Timeout: o.Timeout, Transport: r,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func newTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext: dial, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DisableCompression: true, MaxResponseHeaderBytes: maxHeaderBytes, MaxIdleConnsPerHost: 1,
		IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: dialTimeout,
	}
}

// roundTripper sends each request directly or through a proxy.
type roundTripper struct {
	list            List
	proxy           func(*http.Request) (*url.URL, error)
	direct, proxied *http.Transport
}

func (r *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	proxy, err := r.proxy(req)
	switch {
	case err != nil:
		closeBody(req)
		return nil, errors.New("the proxy in the environment is no URL") // its cause would show the proxy's password
	case proxy == nil:
		return r.direct.RoundTrip(req)
	}
	host := req.URL.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil { // the proxy can't resolve it to another
		if err := r.list.Check(host, addr); err != nil {
			closeBody(req)
			return nil, err
		}
	} else if !r.list.Lists(host) {
		closeBody(req)
		return nil, fmt.Errorf("%s %w through a proxy, which resolves the name by itself, unless it is listed", host,
			ErrOutside)
	}
	return r.proxied.RoundTrip(req)
}

// closeBody closes a request's body, as http.RoundTripper must also on errors.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// DialContext connects to an address that the list allows. Control sees each address that a name resolved to, just
// before the connection.
func (l List) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout, Control: func(_, to string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(to)
		if err != nil {
			return fmt.Errorf("dial %s: %w", to, err)
		}
		return l.Check(host, at.Addr())
	}}
	return d.DialContext(ctx, network, address)
}
