package controlplane

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/sluice-cd/sluice/cells/identity"
)

// peer remembers who the other side of a connection is, under one roster: while that is the newest, a request need not
// look the key up again.
type peer struct{ known atomic.Pointer[acquainted] }

type acquainted struct {
	roster Roster
	caller caller
}

type peerKey struct{}

func withPeer(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{})
}

// identifyPeer tells who asks at the cells' listener: whose the key is that the connection proved, by the newest roster.
func (s *Server) identifyPeer(r *http.Request) *caller {
	var roster Roster
	if s.opts.Members != nil {
		roster = s.opts.Members.Roster()
	}
	p, _ := r.Context().Value(peerKey{}).(*peer)
	if p == nil {
		p = &peer{}
	}
	if known := p.known.Load(); known != nil && known.roster == roster {
		c := known.caller
		return &c
	}
	c := caller{door: doorCells, from: r.RemoteAddr}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if key, ok := r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok {
			c.key = identity.FormatKey(key)
		}
	}
	if roster != nil && c.key != "" {
		c.cell, _ = roster.Cell(c.key)
		c.name, c.next = c.cell, c.cell != "" && roster.Next(c.key)
	}
	p.known.Store(&acquainted{roster, c})
	return &c
}
