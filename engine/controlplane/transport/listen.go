package transport

import (
	"crypto/tls"
	"fmt"
	"net"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

// tlsListener is a listener whose connections are to be served by TLS.
type tlsListener struct {
	net.Listener
	kind   api.Listener
	config *tls.Config
}

// ListenPeople listens on HOST:PORT for people and hooks, by TLS.
func ListenPeople(addr string, cert tls.Certificate) (net.Listener, error) {
	return listenTLS(addr, api.People, peopleTLS(cert))
}

// ListenCells listens on HOST:PORT for cells, by mutual TLS. TLS must end here: proxies must pass bytes on unchanged.
func ListenCells(addr string, keys *Keys) (net.Listener, error) {
	return listenTLS(addr, api.Cells, cellsTLS(keys.cert))
}

func listenTLS(addr string, at api.Listener, c *tls.Config) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("listen on %q: %w: give host:port, such as 0.0.0.0:7601", addr, err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return &tlsListener{Listener: l, kind: at, config: c}, nil
}

// ListenerURL returns a listener's URL, in the form of --server.
func ListenerURL(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix://" + l.Addr().String()
	}
	if _, ok := l.(*tlsListener); ok {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}
