package controlplane

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2/queryparam"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
)

// caller is who asks.
type caller struct {
	door door
	cell string      // known by its key; behind a plain door, as named, if it was
	key  string      // that the connection proved, as identity.FormatKey writes it
	next bool        // the key is the cell's new one, and the one before is still good
	role access.Role // of a person or a program; empty: not known
	from string      // the peer's address
	name string      // of the person or program, for the audit; empty: nobody showed who they are

	token string // the hash of what was shown; empty: nothing was
}

type callerKey struct{}

// callerOf tells who asks. Every handler has one: nothing comes past Server.admit.
func callerOf(ctx context.Context) *caller {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c
	}
	return &caller{door: doorElse}
}

// cellOf names the cell that asks; behind a plain door empty, if it was not named.
func cellOf(r *http.Request) string { return callerOf(r.Context()).cell }

// asking tells who asks, from what is noted beside the answer; where that is not ours, from the context.
func asking(w http.ResponseWriter, r *http.Request) *caller {
	if a, ok := w.(*answer); ok && a.who != nil {
		return a.who
	}
	return callerOf(r.Context())
}

// admit is the one place where it is decided whether a request may go on. If not, it has answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, row Route) (*caller, bool) {
	d := doorElse
	a, ok := w.(*answer)
	if ok {
		d = a.door
	}
	if !row.behind(d, s.opts.Keys != nil) {
		s.unmatched(w, r)
		return nil, false
	}
	if row.Who == whoCell || row.Who == whoKey {
		// Before it is looked who asks: between the two a replica that begins could come to know the cell that it did not find.
		switch err := s.fresh(); {
		case errors.Is(err, engine.ErrNotReady):
			notYet(w)
			return nil, false
		case err != nil:
			retryAfter(w, 5)
			problem(w, http.StatusServiceUnavailable, "This replica has not heard of its store for a while, and can't know who was shut out: ask again, another one may answer.")
			return nil, false
		}
	}
	c, err := &caller{door: d, from: r.RemoteAddr}, error(nil)
	if row.Who != whoPublic && row.Who != whoHook { // those must not wait for the store
		c, err = s.identify(r, d)
	}
	if a != nil {
		a.who = c
	}
	if err != nil {
		switch {
		case errors.Is(err, access.ErrUnknown):
			unauthorized(w, d)
		case errors.Is(err, errStrangers):
			s.metrics.turnedAway("tokens")
			retryAfter(w, 2)
			problem(w, http.StatusTooManyRequests, "So many wrong tokens are tried that new ones have to wait: ask again as Retry-After says.")
		default:
			failed(w, err)
		}
		return c, false
	}
	switch status := c.may(row); {
	case status == http.StatusUnauthorized:
		if d == doorCells && s.opts.Members != nil { // the log is told what the peer is not
			s.log.Debug().Str("key", c.key).Str("from", c.from).Msg("shut out: " + s.opts.Members.Roster().Why(c.key))
		}
		unauthorized(w, d)
	case status == http.StatusForbidden:
		problem(w, status, "This takes the role "+row.Who+": ask for a token that has it.")
	case row.Who == whoCell && !s.itself(c, r):
		forbidden(w)
	default:
		s.used(r.Context(), c)
		return c, true
	}
	return c, false
}

// used ends the time of a cell's key before, once it has shown that it has the new one.
func (s *Server) used(ctx context.Context, c *caller) {
	if !c.next {
		return
	}
	if err := s.opts.Members.Used(ctx, c.cell, c.key); err != nil { // the old one is good for a while longer
		s.log.Warn().Err(err).Str("cell", c.cell).Msg("the key before is still good")
	}
}

// identify tells who asks, as far as it can be known before a body is read. access.ErrUnknown: the token that was shown is not good.
func (s *Server) identify(r *http.Request, d door) (*caller, error) {
	if d == doorCells {
		return s.identifyPeer(r), nil
	}
	c := &caller{door: d, from: r.RemoteAddr}
	if d == doorSocket || d == doorLoopback {
		c.cell = queryparam.Get(r.URL.RawQuery, "cell")
	}
	given := r.Header.Get("Authorization")
	switch {
	case given != "":
		return c, s.bearer(r.Context(), c, access.Bearer(given))
	case d == doorSocket:
		c.role, c.name = access.Admin, "administrator of this machine"
	case d == doorLoopback:
		c.role = access.Viewer
	}
	return c, nil
}

// bearer takes the token's word for who c is. A token that was shown decides, also where none is needed.
func (s *Server) bearer(ctx context.Context, c *caller, secret string) error {
	if secret == "" {
		return access.ErrUnknown
	}
	c.token = identity.HashSecret(secret)
	t, err := s.bearers.find(ctx, c.token)
	if err == nil {
		c.role, c.name = t.Role, t.Name
	}
	return err
}

// stillMay tells whether who asked once may still use a route of people: their token may have been removed since.
func (s *Server) stillMay(ctx context.Context, c *caller, row Route) bool {
	if c.token == "" {
		return true
	}
	t, err := s.bearers.find(ctx, c.token)
	return err == nil && t.Role.May(access.Role(row.Who))
}

// may tells whether c may use a route that exists behind its door: 0, or the status that says why not. Pure.
func (c *caller) may(row Route) int {
	switch row.Who {
	case whoPublic, whoHook:
		return 0
	case whoKey:
		if c.key != "" {
			return 0
		}
	case whoCell:
		if c.door != doorCells || c.key != "" && c.cell != "" {
			return 0
		}
	default:
		if c.role.May(access.Role(row.Who)) {
			return 0
		}
		if c.name != "" {
			return http.StatusForbidden
		}
	}
	return http.StatusUnauthorized
}

// itself tells whether a request names no other cell than the one that asks.
func (s *Server) itself(c *caller, r *http.Request) bool {
	named := queryparam.Get(r.URL.RawQuery, "cell")
	return named == "" || s.speaksFor(c, named)
}

// speaksFor tells whether c may say something as a cell: as itself; behind a plain door, as any that has no key.
func (s *Server) speaksFor(c *caller, cell string) bool {
	if c.door == doorCells {
		return c.cell == cell
	}
	return s.opts.Members == nil || !s.opts.Members.Roster().Keyed(cell)
}

func (s *Server) fresh() error {
	if s.opts.Members == nil {
		return nil
	}
	return s.opts.Members.Fresh()
}

// unauthorized is the one answer to everyone who is not known: it does not tell what was wrong (fault 39).
func unauthorized(w http.ResponseWriter, d door) {
	if d == doorCells {
		w.Header().Set("Connection", "close") // anyone can make a key, and must not keep a connection for having one
		problem(w, http.StatusUnauthorized, "This is nobody's key or token: have the cell's administrator make a new token with sluice cell add.")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
	problem(w, http.StatusUnauthorized, "Show a token that is good, in the header Authorization: Bearer …; sluice token add makes one, and a unix socket needs none.")
}

func forbidden(w http.ResponseWriter) {
	problem(w, http.StatusForbidden, "One cell can't ask or report for another, and one that has a key only with it.")
}
