package plane

import (
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/url"
	"sync"
)

// Key returns the cell's present key; nil: it has none, or is not registered yet.
func (c *Client) Key() ed25519.PrivateKey {
	if l := c.link.Load(); l != nil {
		return l.key
	}
	return nil
}

// Transport returns a RoundTripper that sends requests to the control plane as this cell, over connections of its own:
// at most connections at once, so that what is large delays no report. Requests' hosts are ignored.
func (c *Client) Transport(connections int) http.RoundTripper {
	return &ownTransport{client: c, connections: connections}
}

type ownTransport struct {
	client      *Client
	connections int

	mu   sync.Mutex
	link *link           // the link that own has the key of
	own  *http.Transport // nil: there was no request yet
}

var errNotConnected = errors.New("the cell is not registered yet")

func (t *ownTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	l := t.client.link.Load()
	if l == nil {
		return nil, errNotConnected
	}
	base, err := url.Parse(l.base)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = base.Scheme, base.Host, ""
	r.Header.Set(bootHeader, l.boot)
	if l.key == nil { // where cells name themselves
		query := r.URL.Query()
		query.Set("cell", t.client.cell)
		r.URL.RawQuery = query.Encode()
	}
	return t.transport(l).RoundTrip(r)
}

// transport returns a transport with the key of the link.
func (t *ownTransport) transport(l *link) *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.link != l {
		if t.own != nil {
			t.own.CloseIdleConnections()
		}
		t.link, t.own = l, l.transport.Clone()
		t.own.MaxConnsPerHost, t.own.MaxIdleConns = t.connections, t.connections
		t.own.MaxIdleConnsPerHost = t.connections
		t.own.ReadBufferSize, t.own.WriteBufferSize = 64<<10, 4<<10
	}
	return t.own
}
