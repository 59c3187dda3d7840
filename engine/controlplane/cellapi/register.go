package cellapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
)

const (
	maxJoin = 4 << 10 // bytes
	maxKeys = 4096    // keys that are counted one by one
)

// deniedAfter is when a registration is refused, counted from its beginning. A cell that nobody knows yet is waited for
// meanwhile, and the time does not tell whether there is such a cell.
const deniedAfter = 4 * time.Second

// Anyone can make keys and ask with each, so that registrations are bounded in all too. A thousand cells that
// are added at once come through.
func joinRates() (each, all limit.Rate) {
	return limit.Rate{PerSecond: 1, Burst: 10}, limit.Rate{PerSecond: 100, Burst: 2000}
}

// unregistered bounds how often cells that are to be registered may ask.
type unregistered struct {
	begun time.Time
	all   limit.Bucket

	mu   sync.Mutex // guards what follows
	each map[string]*limit.Bucket
}

func newUnregistered() *unregistered {
	return &unregistered{begun: time.Now(), each: map[string]*limit.Bucket{}}
}

// allow counts a request by a key that nobody need know. If it is one too many, it says how long to wait.
func (u *unregistered) allow(key string) (after time.Duration, ok bool) {
	if after, ok = u.allowKey(key); !ok {
		return after, false
	}
	_, all := joinRates()
	return u.all.Take(all, time.Since(u.begun))
}

// allowKey is allow without the bound on all.
func (u *unregistered) allowKey(key string) (after time.Duration, ok bool) {
	each, _ := joinRates()
	u.mu.Lock()
	if u.each[key] == nil && len(u.each) >= maxKeys {
		clear(u.each) // who asked too often may ask again: the bound on all holds
	}
	b := u.each[key]
	if b == nil {
		b = &limit.Bucket{}
		u.each[key] = b
	}
	u.mu.Unlock()
	return b.Take(each, time.Since(u.begun))
}

// Members makes keys the cells'.
type Members interface {
	Roster() *roster.Roster
	// Join makes key the cell's by a token's hash, durably; again for the same key (R28). plan.ErrDenied: the token
	// is not good, whatever the reason.
	Join(ctx context.Context, cell, hash, key, by string) (cells.Identity, error)
	// NewKey makes key the cell's, durably; the one before stays good until Used was told of this one. plan.ErrDenied.
	NewKey(ctx context.Context, cell, key string) error
}

// registration gives cells their keys: the first, by a token, and each that follows, by the one before.
type registration struct {
	members  Members
	auth     *auth.Auth // for the audit
	limits   *unregistered
	pins     []string
	stopping api.Stopping
	log      zerolog.Logger
}

// first answers POST /v1/register: a token, over a connection on which a new key was proved, makes that key the
// cell's. Whatever is wrong with the token, the answer is one and the same (fault 39).
func (h *registration) first(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if after, ok := h.limits.allow(c.Key); !ok {
		api.RetryAfter(w, limit.Seconds(after))
		api.Problem(w, http.StatusTooManyRequests, "Too many registrations are asked for: wait as long as Retry-After says.")
		return
	}
	var in identity.Join
	if !readStrictly(w, r, &in) {
		return
	}
	alike := time.NewTimer(deniedAfter)
	defer alike.Stop()
	id, err := h.members.Join(r.Context(), in.Cell, identity.HashSecret(in.Secret), c.Key, "a token")
	switch {
	case errors.Is(err, plan.ErrDenied), errors.Is(err, engine.ErrUnknownCell):
		select {
		case <-alike.C:
		case <-h.stopping:
		case <-r.Context().Done():
		}
		auth.Unauthorized(w, c.Listener)
		return
	case err != nil:
		api.Failed(w, err)
		return
	}
	c.Cell, c.Name = in.Cell, in.Cell // for the log and the audit
	if err := h.auth.Audit(r.Context(), c, "register as cell "+in.Cell+" with the key "+c.Key); err != nil {
		h.log.Warn().Err(err).Str("cell", in.Cell).Msg("it was registered, and the audit does not say so")
	}
	api.WriteJSON(w, http.StatusOK, identity.Joined{Cell: in.Cell, Epoch: id.Epoch, Pins: h.pins})
}

// next answers POST /v1/key: a cell presents its next key over a connection of the one before, which is good until
// the next was used. The same again is answered the same.
func (h *registration) next(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if after, ok := h.limits.allowKey(c.Key); !ok { // the bound on all is for strangers, who must not keep a cell from a new key
		api.RetryAfter(w, limit.Seconds(after))
		api.Problem(w, http.StatusTooManyRequests, "Too many keys are presented: wait as long as Retry-After says.")
		return
	}
	var next identity.Next
	if !readStrictly(w, r, &next) {
		return
	}
	if err := next.Check(c.Cell, c.Key); err != nil {
		api.Problem(w, http.StatusBadRequest, "The key was not taken: "+err.Error()+".")
		return
	}
	err := h.members.NewKey(r.Context(), c.Cell, next.Key)
	switch {
	case errors.Is(err, plan.ErrDenied):
		api.Problem(w, http.StatusConflict, "The key was not taken: it is another cell's, or the one before, or this cell is not to come in any more.")
		return
	case errors.Is(err, plan.ErrStale):
		api.Problem(w, http.StatusConflict, "The cell's identity was changed by somebody else meanwhile: ask /v1/desired whether a new key is still wanted.")
		return
	case err != nil:
		api.Failed(w, err)
		return
	}
	api.WriteJSON(w, http.StatusOK, identity.Joined{Cell: c.Cell, Epoch: h.members.Roster().Identity(c.Cell).Epoch, Pins: h.pins})
}

// readStrictly reads a small JSON body. If it can't, it has answered, without a word of what was in it.
func readStrictly(w http.ResponseWriter, r *http.Request, into any) bool {
	body, ok := api.ReadBody(w, r, maxJoin)
	if !ok {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		_, err = d.Token()
	}
	if !errors.Is(err, io.EOF) {
		api.Problem(w, http.StatusBadRequest, "The body is not the JSON that /openapi.json describes.")
		return false
	}
	return true
}
