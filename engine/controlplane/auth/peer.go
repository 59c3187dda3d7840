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

// peer remembers who the other side of a connection is, under one roster: while that is the newest, a request need not
// look the key up again.
type peer struct {
	identified atomic.Pointer[identifiedPeer]
}

type identifiedPeer struct {
	roster *roster.Roster
	caller api.Caller
}

type peerKey struct{}

// WithPeer is the context of a connection's requests: it remembers whose it is.
func WithPeer(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{})
}

// identifyPeer says who asks at the cells' listener: whose the key is that the connection proved, by the newest roster.
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
		c.Cell, _ = roster.Cell(c.Key)
		c.Name, c.NewKey = c.Cell, c.Cell != "" && roster.Next(c.Key)
	}
	p.identified.Store(&identifiedPeer{roster, c})
	return &c
}
