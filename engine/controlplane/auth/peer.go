package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
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
	guest      guest // nil: the connection is not counted
	identified atomic.Pointer[identifiedPeer]
}

// identifiedPeer is immutable: the requests of one boot share the caller, and their streams keep it, but no roster.
type identifiedPeer struct {
	roster *roster.Roster
	caller *api.Caller
	epoch  int64 // of the cell's identity; zero: the key is no cell's
}

// guest is a connection whose peer is a stranger until it is identified (R57).
type guest interface {
	Welcome()     // the peer is known
	AwaitAnswer() // the peer has sent its registration
}

type peerKey struct{}

// WithPeer returns the context of a connection's requests, in which the peer's identity is cached.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	p := &peer{}
	p.guest, _ = c.(guest)
	return context.WithValue(ctx, peerKey{}, p)
}

// peerOf returns the peer of a request's connection; a new one if none is known, as in tests.
func peerOf(ctx context.Context) *peer {
	if p, ok := ctx.Value(peerKey{}).(*peer); ok {
		return p
	}
	return &peer{}
}

func (p *peer) welcome() {
	if p.guest != nil {
		p.guest.Welcome()
	}
}

// NoteRegistration notes that a stranger has sent its registration: its connection may wait for the answer.
func NoteRegistration(ctx context.Context) {
	if p := peerOf(ctx); p.guest != nil {
		p.guest.AwaitAnswer()
	}
}

// identifyPeer returns the peer at the cells' listener: the cell that the newest roster maps the connection's key to.
func (a *Auth) identifyPeer(r *http.Request) *identifiedPeer {
	var roster *roster.Roster
	if a.members != nil {
		roster = a.members.Roster()
	}
	boot := r.Header.Get(BootHeader)
	boot = boot[:min(len(boot), maxBoot)]
	p := peerOf(r.Context())
	if known := p.identified.Load(); known != nil && known.roster == roster && known.caller.Boot == boot {
		return known
	}
	c := &api.Caller{Listener: api.Cells, RemoteAddr: r.RemoteAddr, Boot: boot}
	found := &identifiedPeer{roster: roster, caller: c}
	if r.TLS != nil {
		c.Key = provedKey(*r.TLS)
	}
	if roster != nil && c.Key != "" {
		c.Cell, _ = roster.CellOfKey(c.Key)
		c.Name, c.NewKey = c.Cell, c.Cell != "" && roster.IsNewKey(c.Key)
	}
	if c.Cell != "" {
		found.epoch = roster.Identity(c.Cell).Epoch
		p.welcome()
	}
	p.identified.Store(found)
	return found
}

// KnowsPeer reports whether the key that a connection proved is a cell's. Each request asks again (R29).
func (a *Auth) KnowsPeer(s tls.ConnectionState) bool {
	if a.members == nil {
		return false
	}
	_, known := a.members.Roster().CellOfKey(provedKey(s))
	return known
}

// provedKey returns the key that a connection proved, in identity.FormatKey's format, or "".
func provedKey(s tls.ConnectionState) string {
	if len(s.PeerCertificates) > 0 {
		if key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok {
			return identity.FormatKey(key)
		}
	}
	return ""
}
