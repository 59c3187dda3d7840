package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
)

const (
	maxJoin = 4 << 10 // bytes
	maxDoor = 4096    // keys that are counted one by one
)

// deniedAfter is when a registration is refused, counted from its beginning. A cell that nobody knows yet is waited for
// meanwhile, and the time does not tell whether there is such a cell.
const deniedAfter = 4 * time.Second

// Anyone can make keys and ask with each, so that registrations are bounded in all too. A thousand cells that
// are added at once come through.
func joinRates() (each, all Rate) {
	return Rate{PerSecond: 1, Burst: 10}, Rate{PerSecond: 100, Burst: 2000}
}

// knocks bounds how often cells that are to be registered may ask.
type knocks struct {
	begun time.Time
	all   bucket

	mu   sync.Mutex // guards what follows
	each map[string]*bucket
}

func newKnocks() *knocks { return &knocks{begun: time.Now(), each: map[string]*bucket{}} }

// take counts a request by a key that nobody need know. If it is one too many, it says how long to wait.
func (k *knocks) take(key string) (after time.Duration, ok bool) {
	if after, ok = k.one(key); !ok {
		return after, false
	}
	_, all := joinRates()
	return k.all.take(all, time.Since(k.begun))
}

// one is take without the bound on all.
func (k *knocks) one(key string) (after time.Duration, ok bool) {
	each, _ := joinRates()
	k.mu.Lock()
	if k.each[key] == nil && len(k.each) >= maxDoor {
		clear(k.each) // who asked too often may ask again: the bound on all holds
	}
	b := k.each[key]
	if b == nil {
		b = &bucket{}
		k.each[key] = b
	}
	k.mu.Unlock()
	return b.take(each, time.Since(k.begun))
}

// register answers POST /v1/register: a token, over a connection on which a new key was proved, makes that key the
// cell's. Whatever is wrong with the token, the answer is one and the same (fault 39).
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	if after, ok := s.knocks.take(c.key); !ok {
		retryAfter(w, seconds(after))
		problem(w, http.StatusTooManyRequests, "Too many registrations are asked for: wait as long as Retry-After says.")
		return
	}
	var in identity.Join
	if !readStrictly(w, r, &in) {
		return
	}
	alike := time.NewTimer(deniedAfter)
	defer alike.Stop()
	id, err := s.opts.Members.Join(r.Context(), in.Cell, identity.HashSecret(in.Secret), c.key, "a token")
	switch {
	case errors.Is(err, plan.ErrDenied), errors.Is(err, engine.ErrUnknownCell):
		select {
		case <-alike.C:
		case <-s.drain:
		case <-r.Context().Done():
		}
		unauthorized(w, c.door)
		return
	case err != nil:
		failed(w, err)
		return
	}
	c.cell, c.name = in.Cell, in.Cell // for the log and the audit
	if err := s.audit(r.Context(), "register as cell "+in.Cell+" with the key "+c.key); err != nil {
		s.log.Warn().Err(err).Str("cell", in.Cell).Msg("it was registered, and the audit does not say so")
	}
	writeJSON(w, http.StatusOK, identity.Joined{Cell: in.Cell, Epoch: id.Epoch, Pins: s.opts.Keys.Pins})
}

// nextKey answers POST /v1/key: a cell presents its next key over a connection of the one before, which is good until
// the next was used. The same again is answered the same.
func (s *Server) nextKey(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	if after, ok := s.knocks.one(c.key); !ok { // the bound on all is for strangers, who must not keep a cell from a new key
		retryAfter(w, seconds(after))
		problem(w, http.StatusTooManyRequests, "Too many keys are presented: wait as long as Retry-After says.")
		return
	}
	var next identity.Next
	if !readStrictly(w, r, &next) {
		return
	}
	if err := next.Check(c.cell, c.key); err != nil {
		problem(w, http.StatusBadRequest, "The key was not taken: "+err.Error()+".")
		return
	}
	err := s.opts.Members.NewKey(r.Context(), c.cell, next.Key)
	switch {
	case errors.Is(err, plan.ErrDenied):
		problem(w, http.StatusConflict, "The key was not taken: it is another cell's, or the one before, or this cell is not to come in any more.")
		return
	case errors.Is(err, plan.ErrStale):
		problem(w, http.StatusConflict, "The cell's identity was changed by somebody else meanwhile: ask /v1/desired whether a new key is still wanted.")
		return
	case err != nil:
		failed(w, err)
		return
	}
	writeJSON(w, http.StatusOK, identity.Joined{Cell: c.cell, Epoch: s.opts.Members.Roster().Identity(c.cell).Epoch, Pins: s.opts.Keys.Pins})
}

// readStrictly reads a small JSON body. If it can't, it has answered, without a word of what was in it.
func readStrictly(w http.ResponseWriter, r *http.Request, into any) bool {
	body, ok := readBody(w, r, maxJoin)
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
		problem(w, http.StatusBadRequest, "The body is not the JSON that /openapi.json describes.")
		return false
	}
	return true
}
