// Package auth judges callers: who asks, by what they showed, and whether they may. No other package does.
//
// Cells are their keys, which connections prove at a listener of their own; whose key it is the newest roster says, for
// every request. People and programs show tokens with roles. A unix socket is the machine's administrator's, and plain
// loopback may be read by all on the machine. Where cells have no listener they name themselves, on this machine only. A
// way to sign in is added here: it ends in an api.Caller with a role.
//
// It keeps no sessions: a token or key that was removed is not good any more within seconds, for streams too (Still,
// StillMay). Whoever is turned away is not told why; the log is. All methods may be called from any goroutine.
package auth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2/queryparam"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/roster"
)

// Members is who is which cell.
type Members interface {
	Roster() *roster.Roster
	RosterChanged() <-chan struct{} // closed when there is another roster than Roster gave before
	// Fresh is nil if the roster is as new as it has to be (R29).
	Fresh() error
	// Used ends the time of the key before, once it was told of this one.
	Used(ctx context.Context, cell, key string) error
}

// Tokens keeps operators' tokens by the hash of their secrets, and the audit.
type Tokens interface {
	Tokens(ctx context.Context) ([]access.Token, error) // all, those that ran out too
	Audit(ctx context.Context, e access.Entry) error    // durable when it returns
}

// Options of Auth. Metrics is required.
type Options struct {
	Members Members // nil: cells have no keys
	Tokens  Tokens  // nil: nobody has a token
	Keyed   bool    // cells are served by key, at a listener of their own
	Log     zerolog.Logger
	Metrics *metrics.Metrics
}

// Auth judges callers.
type Auth struct {
	members    Members
	tokens     Tokens
	keyed      bool
	log        zerolog.Logger
	metrics    *metrics.Metrics
	tokenCache tokenCache
}

// New makes one. It starts nothing.
func New(o Options) *Auth {
	return &Auth{members: o.Members, tokens: o.Tokens, keyed: o.Keyed, log: o.Log, metrics: o.Metrics, tokenCache: tokenCache{tokens: o.Tokens, clockStart: time.Now()}}
}

// Serves reports whether a route exists at a listener.
func (a *Auth) Serves(at api.Listener, r *api.Route) bool {
	switch r.Audience {
	case api.AnyKey:
		return at == api.Cells
	case api.Cell:
		return at == api.Cells || !a.keyed && !r.RequiresKey && (at == api.Loopback || at == api.Socket)
	default:
		return at != api.Cells
	}
}

// Admit decides whether a request to a route that Serves may go on, and says who asks. If it may not, Admit has answered.
func (a *Auth) Admit(w http.ResponseWriter, r *http.Request, route *api.Route, at api.Listener) (*api.Caller, bool) {
	if route.Audience == api.Cell || route.Audience == api.AnyKey {
		// Before it is looked who asks: between the two a replica that begins could come to know the cell that it did not find.
		switch err := a.CheckFresh(); {
		case errors.Is(err, engine.ErrNotReady):
			api.WriteNotReady(w)
			return nil, false
		case err != nil:
			api.SetRetryAfter(w, 5)
			api.WriteProblem(w, http.StatusServiceUnavailable, "This replica has not heard of its store for a while, and can't know who was shut out: ask again, another one may answer.")
			return nil, false
		}
	}
	c, err := &api.Caller{Listener: at, RemoteAddr: r.RemoteAddr}, error(nil)
	if route.Audience != api.Public && route.Audience != api.Hook { // those must not wait for the store
		c, err = a.identifyCaller(r, at)
	}
	switch {
	case errors.Is(err, access.ErrUnknown):
		WriteUnauthorized(w, at)
		return c, false
	case errors.Is(err, errTooManyUnknown):
		a.metrics.CountShed("tokens")
		api.SetRetryAfter(w, 2)
		api.WriteProblem(w, http.StatusTooManyRequests, "So many wrong tokens are tried that new ones have to wait: ask again as Retry-After says.")
		return c, false
	case err != nil:
		api.WriteError(w, err)
		return c, false
	}
	switch status := refusalStatus(c, route.Audience); {
	case status == http.StatusUnauthorized:
		if at == api.Cells && a.members != nil { // the log is told what the peer is not
			a.log.Debug().Str("key", c.Key).Str("from", c.RemoteAddr).Msg("shut out: " + a.members.Roster().Why(c.Key))
		}
		WriteUnauthorized(w, at)
	case status == http.StatusForbidden:
		api.WriteProblem(w, status, "This takes the role "+string(route.Audience)+": ask for a token that has it.")
	case route.Audience == api.Cell && !a.namesOwnCell(c, r):
		WriteForbidden(w)
	default:
		a.retirePreviousKey(r.Context(), c)
		return c, true
	}
	return c, false
}

// retirePreviousKey ends the time of a cell's key before, once it has shown that it has the new one.
func (a *Auth) retirePreviousKey(ctx context.Context, c *api.Caller) {
	if !c.NewKey {
		return
	}
	if err := a.members.Used(ctx, c.Cell, c.Key); err != nil { // the old one is good for a while longer
		a.log.Warn().Err(err).Str("cell", c.Cell).Msg("the key before is still good")
	}
}

// identifyCaller says who asks, as far as it can be known before a body is read. access.ErrUnknown: the token that was shown is not good.
func (a *Auth) identifyCaller(r *http.Request, at api.Listener) (*api.Caller, error) {
	if at == api.Cells {
		return a.identifyPeer(r), nil
	}
	c := &api.Caller{Listener: at, RemoteAddr: r.RemoteAddr}
	if at == api.Socket || at == api.Loopback {
		c.Cell = queryparam.Get(r.URL.RawQuery, "cell")
	}
	given := r.Header.Get("Authorization")
	switch {
	case given != "":
		return c, a.authenticateToken(r.Context(), c, access.Bearer(given))
	case at == api.Socket:
		c.Role, c.Name = access.Admin, "administrator of this machine"
	case at == api.Loopback:
		c.Role = access.Viewer
	}
	return c, nil
}

// authenticateToken takes the token's word for who c is. A token that was shown decides, also where none is needed.
func (a *Auth) authenticateToken(ctx context.Context, c *api.Caller, secret string) error {
	if secret == "" {
		return access.ErrUnknown
	}
	c.TokenHash = identity.HashSecret(secret)
	t, err := a.tokenCache.lookUp(ctx, c.TokenHash)
	if err == nil {
		c.Role, c.Name = t.Role, t.Name
	}
	return err
}

// StillAllowsRole reports whether who asked once may still use a route of people: their token may have been removed since.
func (a *Auth) StillAllowsRole(ctx context.Context, c *api.Caller, who api.Audience) bool {
	if c.TokenHash == "" {
		return true
	}
	t, err := a.tokenCache.lookUp(ctx, c.TokenHash)
	return err == nil && t.Role.May(access.Role(who))
}

// refusalStatus is why c may not use a route of who: a status, or 0 if it may. Pure.
func refusalStatus(c *api.Caller, who api.Audience) int {
	switch who {
	case api.Public, api.Hook:
		return 0
	case api.AnyKey:
		if c.Key != "" {
			return 0
		}
	case api.Cell:
		if c.Listener != api.Cells || c.Key != "" && c.Cell != "" {
			return 0
		}
	default:
		if c.Role.May(access.Role(who)) {
			return 0
		}
		if c.Name != "" {
			return http.StatusForbidden
		}
	}
	return http.StatusUnauthorized
}

// namesOwnCell reports whether a request names no other cell than the one that asks.
func (a *Auth) namesOwnCell(c *api.Caller, r *http.Request) bool {
	named := queryparam.Get(r.URL.RawQuery, "cell")
	return named == "" || a.MaySpeakFor(c, named)
}

// MaySpeakFor reports whether c may say something as a cell: as itself; at a plain listener, as any that has no key.
func (a *Auth) MaySpeakFor(c *api.Caller, cell string) bool {
	if c.Listener == api.Cells {
		return c.Cell == cell
	}
	return a.members == nil || !a.members.Roster().Keyed(cell)
}

// CheckFresh is nil if it is known who was shut out (R29).
func (a *Auth) CheckFresh() error {
	if a.members == nil {
		return nil
	}
	return a.members.Fresh()
}

// WriteUnauthorized is the one answer to everyone who is not known: it does not tell what was wrong (fault 39).
func WriteUnauthorized(w http.ResponseWriter, at api.Listener) {
	if at == api.Cells {
		w.Header().Set("Connection", "close") // anyone can make a key, and must not keep a connection for having one
		api.WriteProblem(w, http.StatusUnauthorized, "This is nobody's key or token: have the cell's administrator make a new token with sluice cell add.")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
	api.WriteProblem(w, http.StatusUnauthorized, "Show a token that is good, in the header Authorization: Bearer …; sluice token add makes one, and a unix socket needs none.")
}

// WriteForbidden answers a cell that speaks for another.
func WriteForbidden(w http.ResponseWriter) {
	api.WriteProblem(w, http.StatusForbidden, "One cell can't ask or report for another, and one that has a key only with it.")
}

// RosterChanged is closed when other keys speak for cells; nil: none ever do.
func (a *Auth) RosterChanged() <-chan struct{} {
	if a.members == nil {
		return nil
	}
	return a.members.RosterChanged()
}

// StillAllowsCell reports whether who asked once may still speak as that cell.
func (a *Auth) StillAllowsCell(c *api.Caller) bool {
	if a.members == nil {
		return true
	}
	if c.Listener != api.Cells {
		return !a.members.Roster().Keyed(c.Cell)
	}
	name, ok := a.members.Roster().Cell(c.Key)
	return ok && name == c.Cell
}

// InvalidateTokens has tokens read again before the next one is judged, for they were changed here.
func (a *Auth) InvalidateTokens() { a.tokenCache.invalidate() }

// Audit writes down, durably, what a caller is about to do. What can't be written down must not be done.
func (a *Auth) Audit(ctx context.Context, c *api.Caller, what string) error {
	if a.tokens == nil {
		return nil
	}
	a.log.Info().Str("by", c.Name).Str("from", c.RemoteAddr).Msg(what)
	return a.tokens.Audit(ctx, access.Entry{At: time.Now(), Who: c.Name, What: what, From: c.RemoteAddr})
}
