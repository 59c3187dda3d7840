package debugging

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/debugrecords"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
)

// Kind is the kind of this package's records.
const Kind = "debug"

// Bounds of what is kept.
const (
	MaxOpen   = 8                      // requests of a cell that are open
	MaxDaily  = 64                     // requests of a cell in 24 hours, also those that were withdrawn
	Retention = debugrecords.Retention // of requests, and of the seals and records of their sessions
)

const (
	lookAgain  = time.Minute // between two looks for requests that have expired
	cleanAgain = time.Hour   // between two looks for what broken uploads of records left
)

// ErrOtherSeal means that another seal of the session is kept, which stays.
var ErrOtherSeal = errors.New("another seal of the session is kept")

// Kept is what is kept of a request.
type Kept struct {
	Signed    debug.SignedRequest `json:"signed"`
	By        string              `json:"by"`   // who sent it
	Sent      time.Time           `json:"sent"` // by the control plane's clock
	Withdrawn time.Time           `json:"withdrawn,omitzero"`
	Seal      *debug.SignedSeal   `json:"seal,omitempty"`   // of the session's record
	Stored    bool                `json:"stored,omitempty"` // the record is here, too
}

// isOpen reports whether the cell has to know of a request: its owner may permit it still, or the session begin.
func (k *Kept) isOpen(r *debug.Request, now time.Time) bool {
	return k.Withdrawn.IsZero() && k.Seal == nil && now.Before(r.Expires.Add(debug.BeginWithin))
}

// Keeper keeps requests.
type Keeper struct {
	records  records.Store
	sessions *debugrecords.Keeper
	announce func(byCell map[string]string)
	written  <-chan struct{} // other processes wrote
	changed  wake.Signal     // this process did
	log      zerolog.Logger

	mu     sync.Mutex
	opened map[[sha256.Size]byte]debug.Request // requests whose signatures were verified, by a hash with the signature
}

// New returns a keeper. announce gets, by cell, a hash of the cell's open requests, whenever it changes. written
// receives when other processes wrote records of Kind; nil: there are none.
func New(r records.Store, announce func(map[string]string), written <-chan struct{}, log zerolog.Logger) *Keeper {
	return &Keeper{records: r, sessions: debugrecords.New(r), announce: announce, written: written,
		changed: wake.New(), log: log, opened: map[[sha256.Size]byte]debug.Request{}}
}

// RefusedError says why a request is not kept.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Check returns a request that a person signed for a cell, if people lists the person with the request's key. Its
// errors are RefusedErrors.
func Check(s debug.SignedRequest, cell string, people map[string]*channels.Member, now time.Time) (
	debug.Request, error) {
	r, err := s.Open()
	if err == nil {
		err = r.CheckFor(cell, now)
	}
	if err != nil {
		return r, &RefusedError{err.Error()}
	}
	member := people[r.Person]
	if member == nil {
		return r, &RefusedError{fmt.Sprintf("people in sluice.yaml has no %s: add the person there, with their key",
			r.Person)}
	}
	for _, text := range member.Keys {
		if key, err := channels.ParseKey(text); err == nil && sameKey(key, r.Key) {
			return r, nil
		}
	}
	return r, &RefusedError{fmt.Sprintf("the key %s is not among the keys of %s in people of sluice.yaml: sign with "+
		"one of these, or add it there", r.Fingerprint(), r.Person)}
}

// sameKey compares keys in authorized_keys form; a may have a comment.
func sameKey(a, b string) bool {
	first, second := strings.Fields(a), strings.Fields(b)
	return len(first) >= 2 && len(second) >= 2 && slices.Equal(first[:2], second[:2])
}

// Add keeps a request that Check let pass. A request that is kept already stays as it is.
func (k *Keeper) Add(ctx context.Context, s debug.SignedRequest, r debug.Request, by string, now time.Time) error {
	all, err := k.List(ctx, r.Cell)
	if err != nil {
		return err
	}
	open, today := 0, 0
	for i := range all {
		if all[i].ID == s.ID() {
			return nil
		}
		if all[i].isOpen(&all[i].Request, now) {
			open++
		}
		if now.Sub(all[i].Sent) < 24*time.Hour {
			today++
		}
	}
	if open >= MaxOpen {
		return &RefusedError{fmt.Sprintf("%d requests for the cell %s are open: withdraw one (sluice debug withdraw), "+
			"or wait until its owner has answered", open, r.Cell)}
	}
	if today >= MaxDaily {
		return &RefusedError{fmt.Sprintf("the cell %s was asked %d times in 24 hours: wait, or ask its owner in another "+
			"way", r.Cell, today)}
	}
	err = k.put(ctx, records.Record{Kind: Kind, Key: key(r.Cell, s.ID())}, Kept{Signed: s, By: by, Sent: now})
	if errors.Is(err, records.ErrConflict) { // the same request, at once
		return nil
	}
	return err
}

func key(cell, id string) string { return cell + "/" + id }

func (k *Keeper) put(ctx context.Context, r records.Record, kept Kept) (err error) {
	if r.Body, err = json.Marshal(kept); err == nil {
		_, err = k.records.Put(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("keep the request %s for debug access: %w", r.Key, err)
	}
	k.changed.Notify()
	return nil
}

// Load returns a request of a cell, or records.ErrNotFound.
func (k *Keeper) Load(ctx context.Context, cell, id string) (Entry, error) {
	r, err := k.records.Get(ctx, Kind, key(cell, id))
	if err != nil {
		return Entry{}, fmt.Errorf("read request %s for debug access: %w", id, err)
	}
	return k.parse(r)
}

// Find returns a request of a cell that was not withdrawn, or records.ErrNotFound.
func (k *Keeper) Find(ctx context.Context, cell, id string) (debug.SignedRequest, error) {
	e, err := k.Load(ctx, cell, id)
	if err == nil && !e.Withdrawn.IsZero() {
		err = records.ErrNotFound
	}
	return e.Signed, err
}

// Open returns the requests that a cell has to know of.
func (k *Keeper) Open(ctx context.Context, cell string, now time.Time) ([]debug.SignedRequest, error) {
	all, err := k.List(ctx, cell)
	if err != nil {
		return nil, err
	}
	open := []debug.SignedRequest{}
	for i := range all {
		if all[i].isOpen(&all[i].Request, now) {
			open = append(open, all[i].Signed)
		}
	}
	return open, nil
}

// Withdraw takes a request back: the cell's owner no longer sees it, and no connection of its session is made any
// more. Whether a session lasts, which it would not end, the caller has to find out.
func (k *Keeper) Withdraw(ctx context.Context, cell, id string, now time.Time) error {
	return k.change(ctx, cell, id, func(e *Kept) error {
		if e.Withdrawn.IsZero() {
			e.Withdrawn = now
		}
		return nil
	})
}

// Sealed keeps the seal of a session's record, which the caller has checked. stored says that the record is here, too.
// The seal that came first stays: for another, Sealed returns ErrOtherSeal.
func (k *Keeper) Sealed(ctx context.Context, cell, id string, s debug.SignedSeal, stored bool) error {
	return k.change(ctx, cell, id, func(e *Kept) error {
		if e.Seal != nil && !(bytes.Equal(e.Seal.Document, s.Document) && bytes.Equal(e.Seal.Signature, s.Signature)) {
			return ErrOtherSeal
		}
		e.Seal, e.Stored = &s, e.Stored || stored
		return nil
	})
}

// change changes what is kept of a request, unless do returns an error. Another process's change at the same time is
// kept, too.
func (k *Keeper) change(ctx context.Context, cell, id string, do func(*Kept) error) error {
	for tries := 0; ; tries++ {
		e, err := k.Load(ctx, cell, id)
		if err != nil {
			return err
		}
		if err := do(&e.Kept); err != nil {
			return err
		}
		err = k.put(ctx, records.Record{Kind: Kind, Key: key(cell, id), Version: e.version}, e.Kept)
		if !errors.Is(err, records.ErrConflict) || tries == 5 {
			return err
		}
	}
}

// Run announces the cells' open requests, and forgets old ones with their records, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	clean := time.NewTimer(lookAgain)
	defer clean.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-k.changed:
		case <-k.written:
		case <-clean.C:
			if err := k.sessions.Clean(ctx, time.Now()); err != nil && ctx.Err() == nil {
				k.log.Warn().Err(err).Msg("old records of debug sessions stay for now: trying again in an hour")
			}
			clean.Reset(cleanAgain)
			continue
		}
		if err := k.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			k.log.Warn().Err(err).Msg("cells do not hear of new requests for debug access: trying again")
		}
		timer.Reset(lookAgain)
	}
}

// look announces what is open at an instant, and removes what is older than Retention: records before their requests,
// which say that there are any.
func (k *Keeper) look(ctx context.Context, now time.Time) error {
	all, err := k.List(ctx, "")
	if err != nil {
		return err
	}
	k.forgetOthers(all)
	k.announce(hashes(all, now))
	for _, e := range all {
		if now.Sub(e.Sent) < Retention {
			continue
		}
		if err := k.sessions.Remove(ctx, e.Request.Cell, e.ID); err != nil {
			return err
		}
		err := k.records.Delete(ctx, Kind, key(e.Request.Cell, e.ID), e.version)
		if err != nil && !errors.Is(err, records.ErrConflict) { // another process did
			return fmt.Errorf("remove an old request for debug access: %w", err)
		}
	}
	return nil
}

// hashes returns, by cell, a hash of its open requests.
func hashes(all []Entry, now time.Time) map[string]string {
	open := map[string][]string{}
	for i := range all {
		if e := &all[i]; e.isOpen(&e.Request, now) {
			open[e.Request.Cell] = append(open[e.Request.Cell], e.ID)
		}
	}
	byCell := map[string]string{}
	for cell, ids := range open {
		slices.Sort(ids)
		sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
		byCell[cell] = hex.EncodeToString(sum[:8])
	}
	return byCell
}

// Describe says in one line what a request asks for, for the audit.
func Describe(r *debug.Request, id string) string {
	return fmt.Sprintf("debug access %s to cell %s for %s, case %s: %s, for %s, because: %s", id, r.Cell, r.Person,
		r.Case, r.Scope, words.ExactDuration(r.For), r.Reason)
}
