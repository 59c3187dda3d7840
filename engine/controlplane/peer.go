package controlplane

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/sluice-cd/sluice/cells/identity"
)

// peer is what stays the same for all requests of a connection. What the key is good for is looked up for each.
type peer struct{ key atomic.Pointer[string] }

type peerKey struct{}

func withPeer(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{})
}

// keyOf is the key that a request's connection proved, as identity.FormatKey writes it; empty: none.
func keyOf(r *http.Request) string {
	p, _ := r.Context().Value(peerKey{}).(*peer)
	if p != nil {
		if known := p.key.Load(); known != nil {
			return *known
		}
	}
	text := ""
	if key, ok := r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok {
		text = identity.FormatKey(key)
	}
	if p != nil {
		p.key.Store(&text)
	}
	return text
}
