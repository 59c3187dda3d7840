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
	maxTrackedKeys      = 4096    // keys with a limit of their own
)

// denialDelay is when a refused registration is answered, counted from the request. Meanwhile the engine looks for a
// cell that it does not know yet, and the delay does not reveal whether the cell exists.
const denialDelay = 4 * time.Second

// registrationRates returns the limits for one key and for all keys together: anyone can make keys. A thousand cells
// added at once are within the limits.
func registrationRates() (each, all limit.Rate) {
	return limit.Rate{PerSecond: 1, Burst: 10}, limit.Rate{PerSecond: 100, Burst: 2000}
}

// registrationLimiter limits the registrations of unauthenticated keys.
type registrationLimiter struct {
	clockStart time.Time
	all        limit.Bucket

	mu    sync.Mutex // guards what follows
	byKey map[string]*limit.Bucket
}

func newRegistrationLimiter() *registrationLimiter {
	return &registrationLimiter{clockStart: time.Now(), byKey: map[string]*limit.Bucket{}}
}

// allow counts a request by an unauthenticated key. Over a limit, it returns the time to wait.
func (u *registrationLimiter) allow(key string) (after time.Duration, ok bool) {
	if after, ok = u.allowKey(key); !ok {
		return after, false
	}
	_, all := registrationRates()
	return u.all.Allow(all, time.Since(u.clockStart))
}

// allowKey is allow without the limit on all keys together.
func (u *registrationLimiter) allowKey(key string) (after time.Duration, ok bool) {
	each, _ := registrationRates()
	u.mu.Lock()
	if u.byKey[key] == nil && len(u.byKey) >= maxTrackedKeys {
		clear(u.byKey) // the limit on all keys still holds
	}
	b := u.byKey[key]
	if b == nil {
		b = &limit.Bucket{}
		u.byKey[key] = b
	}
	u.mu.Unlock()
	return b.Allow(each, time.Since(u.clockStart))
}

// Members assigns keys to cells.
type Members interface {
	Roster() *roster.Roster
	// RegisterKey durably assigns key to the cell, by the hash of a token. It may be repeated with the same key (R28).
	// It returns plan.ErrDenied for an invalid token, whatever the reason.
	RegisterKey(ctx context.Context, cell, hash, key, by string) (cells.Identity, error)
	// ReplaceKey durably assigns key to the cell. The previous key stays valid until the first use of the new one. It
	// returns plan.ErrDenied for a key that the cell may not have.
	ReplaceKey(ctx context.Context, cell, key string) error
}

// registrationHandlers assigns keys to cells: the first key by a token, each further key by the previous one.
type registrationHandlers struct {
	members  Members
	answers  *answerCache
	auth     *auth.Auth // for the audit
	limits   *registrationLimiter
	pins     []string
	shutdown api.Shutdown
	log      zerolog.Logger
}

// serveRegister answers POST /v1/register: a valid token assigns the key that the connection proved to the cell. All
// invalid tokens have the same response (fault 39).
func (h *registrationHandlers) serveRegister(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if after, ok := h.limits.allow(c.Key); !ok {
		api.SetRetryAfter(w, limit.CeilSeconds(after))
		api.WriteProblem(w, http.StatusTooManyRequests, "Too many registrations: retry after the time in Retry-After.")
		return
	}
	var in identity.Join
	if !readStrictJSON(w, r, &in) {
		return
	}
	auth.NoteRegistration(r.Context())
	denial := time.NewTimer(denialDelay)
	defer denial.Stop()
	id, err := h.members.RegisterKey(r.Context(), in.Cell, identity.HashSecret(in.Secret), c.Key, "a token")
	switch {
	case errors.Is(err, plan.ErrDenied), errors.Is(err, engine.ErrUnknownCell):
		select {
		case <-denial.C:
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
		h.log.Warn().Err(err).Str("cell", in.Cell).Msg("the cell was registered, but the audit has no entry")
	}
	h.auth.BindBoot(c, id.Epoch)
	answer := identity.Joined{Cell: in.Cell, Epoch: id.Epoch, Pins: h.pins}
	if v := h.answers.latest().view; v != nil {
		answer.Sequence, answer.Height = v.Position(in.Cell)
	}
	api.WriteJSON(w, http.StatusOK, answer)
}

// serveNextKey answers POST /v1/key: a cell presents its next key over a connection of its present key. It may be
// repeated.
func (h *registrationHandlers) serveNextKey(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	// The limit on all keys is for unauthenticated peers, which must not keep a cell from a new key.
	if after, ok := h.limits.allowKey(c.Key); !ok {
		api.SetRetryAfter(w, limit.CeilSeconds(after))
		api.WriteProblem(w, http.StatusTooManyRequests,
			"Too many keys were presented: retry after the time in Retry-After.")
		return
	}
	var next identity.Next
	if !readStrictJSON(w, r, &next) {
		return
	}
	if err := next.Verify(c.Cell, c.Key); err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The key was refused: "+err.Error()+".")
		return
	}
	err := h.members.ReplaceKey(r.Context(), c.Cell, next.Key)
	switch {
	case errors.Is(err, plan.ErrDenied):
		api.WriteProblem(w, http.StatusConflict,
			"The key was refused: nobody asked this cell for a new key, it is another cell's or this cell's previous key, or "+
				"this cell is revoked. An operator asks with sluice cell rotate.")
		return
	case errors.Is(err, plan.ErrStale):
		api.WriteProblem(w, http.StatusConflict,
			"The cell's identity was changed by somebody else meanwhile: ask /v1/desired whether to present a new key.")
		return
	case err != nil:
		api.WriteError(w, err)
		return
	}
	api.WriteJSON(w, http.StatusOK,
		identity.Joined{Cell: c.Cell, Epoch: h.members.Roster().Identity(c.Cell).Epoch, Pins: h.pins})
}

// readStrictJSON reads a small JSON body. If it returns false, it has written a response that quotes nothing of the
// body.
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
