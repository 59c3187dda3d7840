package signin

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/records"
)

// SessionsKind is the kind of the records of sessions; their keys are the hashes of the secrets.
const SessionsKind = "sessions"

// Kinds of sessions.
const (
	browser = "browser"
	command = "command line"
)

const (
	idleLifetime     = 12 * time.Hour     // without use
	browserLifetime  = 7 * 24 * time.Hour // of a browser's session
	commandLifetime  = 12 * time.Hour     // of the command line's
	renewInterval    = time.Hour          // after which groups are read again
	unrenewed        = time.Hour          // lifetime of a session without a refresh token
	seenInterval     = 10 * time.Minute   // how old the stored time of the last use may be
	maxSessionsOfOne = 32                 // of one person: the oldest ends
)

// stored is the body of a session's record.
type stored struct {
	ID      string        `json:"id"`
	Kind    string        `json:"kind"`
	Who     access.Person `json:"who"`
	From    string        `json:"from,omitempty"` // the peer's address at the beginning
	Created time.Time     `json:"created"`
	Seen    time.Time     `json:"seen"`    // last use, at most seenInterval ago
	Checked time.Time     `json:"checked"` // when the provider was asked last
	Ends    time.Time     `json:"ends"`
	Refresh string        `json:"refresh,omitempty"` // encrypted for the record's key; empty: there is none
	Renewal time.Time     `json:"renewal,omitzero"`  // until when one replica renews it
}

// session is a session in memory. Only its atomic fields change; a change of the record makes a new value.
type session struct {
	hash    string
	version int64
	stored
	seen   atomic.Int64 // last use, in Unix seconds
	grants atomicGrants
}

// lastUse returns the time of the last use that this replica knows of.
func (s *session) lastUse() time.Time {
	if seen := time.Unix(s.seen.Load(), 0); seen.After(s.Seen) {
		return seen
	}
	return s.Seen
}

func (s *session) isValid(now time.Time) bool {
	return now.Before(s.Ends) && now.Before(s.lastUse().Add(idleLifetime))
}

// sessions holds all sessions in memory.
type sessions struct {
	store records.Store
	key   Key
	now   func() time.Time
	log   zerolog.Logger

	begun        time.Time
	unknownReads limit.Bucket // bounds reads for unknown secrets

	mu     sync.RWMutex // guards the fields below
	ready  bool         // all sessions were read
	byHash map[string]*session
	gone   map[string]time.Time // when sessions were found to have ended: what was read before must not bring them back
}

func newSessions(o Options) *sessions {
	return &sessions{store: o.Records, key: o.Key, now: o.Now, log: o.Log, begun: time.Now(),
		byHash: map[string]*session{}, gone: map[string]time.Time{}}
}

// find returns a session in memory, valid or not; nil: there is none.
func (s *sessions) find(hash string) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byHash[hash]
}

// all returns the sessions in memory, oldest first.
func (s *sessions) all() []*session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.byHash), func(a, b *session) int { return a.Created.Compare(b.Created) })
}

// use returns the valid session with a hash and, if its person asks, notes that it is in use. It returns
// access.ErrUnknown for others, and reads the store only for what another replica may just have begun.
func (s *sessions) use(hash string, byPerson bool) (*session, error) {
	found := s.find(hash)
	if found == nil {
		found = s.readUnknown(hash)
	}
	now := s.now()
	if found == nil || !found.isValid(now) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		if !s.ready {
			return nil, errNotReady
		}
		return nil, access.ErrUnknown
	}
	if unix := now.Unix(); byPerson && unix > found.seen.Load() {
		found.seen.Store(unix)
	}
	return found, nil
}

// unknownRate bounds the reads for unknown secrets, which strangers may send.
func unknownRate() limit.Rate { return limit.Rate{PerSecond: 20, Burst: 100} }

func (s *sessions) readUnknown(hash string) *session {
	if _, ok := s.unknownReads.Allow(unknownRate(), time.Since(s.begun)); !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.read(ctx, hash); err != nil {
		s.log.Debug().Err(err).Msg("a session that is not known here can't be read")
	}
	return s.find(hash)
}

// read reads one session's record into memory.
func (s *sessions) read(ctx context.Context, hash string) error {
	r, err := s.store.Get(ctx, SessionsKind, hash)
	if errors.Is(err, records.ErrNotFound) {
		s.forget(hash)
		return nil
	}
	if err == nil {
		s.take(r)
	}
	return err
}

func (s *sessions) forget(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byHash, hash)
}

// noteGone forgets a session that ended; its hash never comes again.
func (s *sessions) noteGone(hash string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byHash, hash)
	maps.DeleteFunc(s.gone, func(_ string, at time.Time) bool { return now.Sub(at) > readAllInterval+storeTimeout })
	s.gone[hash] = now
}

// take takes a record into memory.
func (s *sessions) take(r records.Record) {
	next := &session{hash: r.Key, version: r.Version}
	if err := json.Unmarshal(r.Body, &next.stored); err != nil {
		s.log.Warn().Err(err).Msg("a session's record can't be read: it counts for nothing")
		s.forget(r.Key)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ended := s.gone[r.Key]; ended {
		return
	}
	if before := s.byHash[r.Key]; before != nil {
		if before.version == r.Version {
			return
		}
		next.seen.Store(before.seen.Load())
	}
	s.byHash[r.Key] = next
}

// readAll reads all sessions; those that are gone are forgotten.
func (s *sessions) readAll(ctx context.Context) error {
	s.mu.RLock()
	before := slices.Collect(maps.Keys(s.byHash)) // one that begins meanwhile is not gone
	s.mu.RUnlock()
	there := map[string]bool{}
	for r, err := range records.All(ctx, s.store, SessionsKind, records.Page{}) {
		if err != nil {
			return err
		}
		there[r.Key] = true
		s.take(r)
	}
	for _, hash := range before {
		if !there[hash] {
			s.forget(hash)
		}
	}
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
	return nil
}

// begin stores a new session and returns its secret.
func (s *sessions) begin(ctx context.Context, who access.Person, kind, refresh, from string) (string, error) {
	random, err := newSecret()
	if err != nil {
		return "", err
	}
	secret := access.SessionPrefix + random
	hash, now := hashOf(secret), s.now().UTC()
	body := stored{ID: hash[:16], Kind: kind, Who: who, From: from, Created: now, Seen: now, Checked: now}
	switch {
	case refresh == "":
		body.Ends = now.Add(unrenewed)
	case kind == command:
		body.Ends = now.Add(commandLifetime)
	default:
		body.Ends = now.Add(browserLifetime)
	}
	if refresh != "" {
		body.Refresh = s.key.seal(hash, []byte(refresh))
	}
	if err := s.put(ctx, hash, 0, body); err != nil {
		return "", err
	}
	s.endOldest(ctx, who)
	return secret, nil
}

// endOldest ends the oldest sessions of somebody who has too many.
func (s *sessions) endOldest(ctx context.Context, who access.Person) {
	all := slices.DeleteFunc(s.all(), func(one *session) bool {
		return one.Who.Issuer != who.Issuer || one.Who.Subject != who.Subject
	})
	for len(all) > maxSessionsOfOne {
		if err := s.end(ctx, all[0].hash); err != nil {
			s.log.Warn().Err(err).Msg("the oldest of too many sessions could not be ended")
			return
		}
		all = all[1:]
	}
}

// put stores a session's record in place of a version, and takes it into memory.
func (s *sessions) put(ctx context.Context, hash string, version int64, body stored) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := s.store.Put(ctx, records.Record{Kind: SessionsKind, Key: hash, Version: version, Body: data})
	if err == nil {
		s.take(r)
	}
	return err
}

// end ends a session, here at once and at other replicas when the store tells them.
func (s *sessions) end(ctx context.Context, hash string) error {
	for {
		r, err := s.store.Get(ctx, SessionsKind, hash)
		if err == nil {
			err = s.store.Delete(ctx, SessionsKind, hash, r.Version)
		}
		switch {
		case errors.Is(err, records.ErrConflict): // it was renewed or used meanwhile
			continue
		case err == nil || errors.Is(err, records.ErrNotFound):
			s.noteGone(hash)
			return nil
		}
		return err
	}
}

// EndAll ends all sessions in a store, for who restores it from a backup: a session that ended since would be back.
func EndAll(ctx context.Context, store records.Store) (n int, err error) {
	for {
		found, err := store.List(ctx, SessionsKind, records.Page{})
		if err != nil || len(found) == 0 {
			return n, err
		}
		for _, r := range found {
			err := store.Delete(ctx, SessionsKind, r.Key, r.Version)
			if err != nil && !errors.Is(err, records.ErrConflict) {
				return n, err
			}
			n++
		}
	}
}
