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
	maxRegistrationBody = 4 << 10 // bytes
	maxTrackedKeys      = 4096    // keys that are counted one by one
)

// denialDelay is when a registration is refused, counted from its beginning. A cell that nobody knows yet is waited for
// meanwhile, and the time does not tell whether there is such a cell.
const denialDelay = 4 * time.Second

// Anyone can make keys and ask with each, so that registrations are bounded in all too. A thousand cells that
// are added at once come through.
func registrationRates() (each, all limit.Rate) {
	return limit.Rate{PerSecond: 1, Burst: 10}, limit.Rate{PerSecond: 100, Burst: 2000}
}

// registrationLimiter bounds how often cells that are to be registered may ask.
type registrationLimiter struct {
	clockStart time.Time
	all        limit.Bucket

	mu    sync.Mutex // guards what follows
	byKey map[string]*limit.Bucket
}

func newRegistrationLimiter() *registrationLimiter {
	return &registrationLimiter{clockStart: time.Now(), byKey: map[string]*limit.Bucket{}}
}

// allow counts a request by a key that nobody need know. If it is one too many, it says how long to wait.
func (u *registrationLimiter) allow(key string) (after time.Duration, ok bool) {
	if after, ok = u.allowKey(key); !ok {
		return after, false
	}
	_, all := registrationRates()
	return u.all.Allow(all, time.Since(u.clockStart))
}

// allowKey is allow without the bound on all.
func (u *registrationLimiter) allowKey(key string) (after time.Duration, ok bool) {
	each, _ := registrationRates()
	u.mu.Lock()
	if u.byKey[key] == nil && len(u.byKey) >= maxTrackedKeys {
		clear(u.byKey) // who asked too often may ask again: the bound on all holds
	}
	b := u.byKey[key]
	if b == nil {
		b = &limit.Bucket{}
		u.byKey[key] = b
	}
	u.mu.Unlock()
	return b.Allow(each, time.Since(u.clockStart))
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

// registrationHandlers gives cells their keys: the first, by a token, and each that follows, by the one before.
type registrationHandlers struct {
	members  Members
	auth     *auth.Auth // for the audit
	limits   *registrationLimiter
	pins     []string
	shutdown api.Shutdown
	log      zerolog.Logger
}

// serveRegister answers POST /v1/register: a token, over a connection on which a new key was proved, makes that key the
// cell's. Whatever is wrong with the token, the answer is one and the same (fault 39).
func (h *registrationHandlers) serveRegister(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if after, ok := h.limits.allow(c.Key); !ok {
		api.SetRetryAfter(w, limit.CeilSeconds(after))
		api.WriteProblem(w, http.StatusTooManyRequests, "Too many registrations are asked for: wait as long as Retry-After says.")
		return
	}
	var in identity.Join
	if !readStrictJSON(w, r, &in) {
		return
	}
	alike := time.NewTimer(denialDelay)
	defer alike.Stop()
	id, err := h.members.Join(r.Context(), in.Cell, identity.HashSecret(in.Secret), c.Key, "a token")
	switch {
	case errors.Is(err, plan.ErrDenied), errors.Is(err, engine.ErrUnknownCell):
		select {
		case <-alike.C:
		case <-h.shutdown:
		case <-r.Context().Done():
		}
		auth.WriteUnauthorized(w, c.Listener)
		return
	case err != nil:
		api.WriteError(w, err)
		return
	}
	c.Cell, c.Name = in.Cell, in.Cell // for the log and the audit
	if err := h.auth.Audit(r.Context(), c, "register as cell "+in.Cell+" with the key "+c.Key); err != nil {
		h.log.Warn().Err(err).Str("cell", in.Cell).Msg("it was registered, and the audit does not say so")
	}
	api.WriteJSON(w, http.StatusOK, identity.Joined{Cell: in.Cell, Epoch: id.Epoch, Pins: h.pins})
}

// serveNextKey answers POST /v1/key: a cell presents its next key over a connection of the one before, which is good until
// the next was used. The same again is answered the same.
func (h *registrationHandlers) serveNextKey(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if after, ok := h.limits.allowKey(c.Key); !ok { // the bound on all is for strangers, who must not keep a cell from a new key
		api.SetRetryAfter(w, limit.CeilSeconds(after))
		api.WriteProblem(w, http.StatusTooManyRequests, "Too many keys are presented: wait as long as Retry-After says.")
		return
	}
	var next identity.Next
	if !readStrictJSON(w, r, &next) {
		return
	}
	if err := next.Check(c.Cell, c.Key); err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The key was not taken: "+err.Error()+".")
		return
	}
	err := h.members.NewKey(r.Context(), c.Cell, next.Key)
	switch {
	case errors.Is(err, plan.ErrDenied):
		api.WriteProblem(w, http.StatusConflict, "The key was not taken: it is another cell's, or the one before, or this cell is not to come in any more.")
		return
	case errors.Is(err, plan.ErrStale):
		api.WriteProblem(w, http.StatusConflict, "The cell's identity was changed by somebody else meanwhile: ask /v1/desired whether a new key is still wanted.")
		return
	case err != nil:
		api.WriteError(w, err)
		return
	}
	api.WriteJSON(w, http.StatusOK, identity.Joined{Cell: c.Cell, Epoch: h.members.Roster().Identity(c.Cell).Epoch, Pins: h.pins})
}

// readStrictJSON reads a small JSON body. If it can't, it has answered, without a word of what was in it.
func readStrictJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	body, ok := api.ReadBody(w, r, maxRegistrationBody)
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
		api.WriteProblem(w, http.StatusBadRequest, "The body is not the JSON that /openapi.json describes.")
		return false
	}
	return true
}
