package auth

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/roster"
)

// peer caches the identity of a connection's peer under one roster. Requests look the key up again only after the
// roster changed.
type peer struct {
	identified atomic.Pointer[identifiedPeer]
}

type identifiedPeer struct {
	roster *roster.Roster
	caller api.Caller
}

type peerKey struct{}

// WithPeer returns the context of a connection's requests, in which the peer's identity is cached.
func WithPeer(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{})
}

// identifyPeer returns the caller at the cells' listener: the cell that the newest roster maps the connection's key to.
func (a *Auth) identifyPeer(r *http.Request) *api.Caller {
	var roster *roster.Roster
	if a.members != nil {
		roster = a.members.Roster()
	}
	p, _ := r.Context().Value(peerKey{}).(*peer)
	if p == nil {
		p = &peer{}
	}
	if known := p.identified.Load(); known != nil && known.roster == roster {
		c := known.caller
		return &c
	}
	c := api.Caller{Listener: api.Cells, RemoteAddr: r.RemoteAddr}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if key, ok := r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok {
			c.Key = identity.FormatKey(key)
		}
	}
	if roster != nil && c.Key != "" {
		c.Cell, _ = roster.CellOfKey(c.Key)
		c.Name, c.NewKey = c.Cell, c.Cell != "" && roster.IsNewKey(c.Key)
	}
	p.identified.Store(&identifiedPeer{roster, c})
	return &c
}
