package signin

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/records"
)

const (
	upkeepInterval  = time.Minute
	readAllInterval = 5 * time.Minute // in case the store lost a notification
	storeTimeout    = 30 * time.Second
	renewing        = time.Minute     // how long one replica has to renew a session
	renewRetry      = 5 * time.Minute // after the provider did not answer
	renewersAtOnce  = 4
)

// Run keeps sessions in memory as they are in the store, renews them, and removes those that ended, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var changed <-chan struct{}
	if s.watch != nil {
		changed = s.watch.Changed()
	}
	upkeep, all := time.NewTicker(upkeepInterval), time.NewTicker(readAllInterval)
	defer upkeep.Stop()
	defer all.Stop()
	retry := time.After(0) // everything is read at the beginning
	renewals := make(chan struct{}, 1)
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			err = s.readChanged(ctx)
		case <-retry:
			err = s.readAll(ctx)
		case <-all.C:
			err = s.readAll(ctx)
		case <-upkeep.C:
			select {
			case renewals <- struct{}{}: // beside the loop: the end of a session does not wait for the provider
				go func() {
					defer func() { <-renewals }()
					s.keepUp(ctx)
				}()
			default: // the run before goes on
			}
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("sessions can't be read: trying again")
			retry = time.After(time.Second)
		}
	}
}

func (s *Service) readAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.sessions.readAll(ctx)
}

// readChanged reads the sessions that other replicas wrote.
func (s *Service) readChanged(ctx context.Context) error {
	keys, everything := s.watch.Take()
	if everything {
		return s.readAll(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for _, hash := range keys {
		if err := s.sessions.read(ctx, hash); err != nil {
			return err
		}
	}
	return nil
}

// keepUp stores when sessions were used, renews those that are due, and removes those that ended.
func (s *Service) keepUp(ctx context.Context) {
	now := s.now()
	var g errgroup.Group
	g.SetLimit(renewersAtOnce)
	for _, one := range s.sessions.all() {
		if ctx.Err() != nil {
			break
		}
		switch {
		case !one.isValid(now):
			if now.After(one.lastUse().Add(idleLifetime+time.Hour)) || now.After(one.Ends) {
				s.logFailed(s.sessions.removeEnded(ctx, one))
			}
		case one.Refresh != "" && s.provider != nil && now.Sub(one.Checked) > renewInterval && now.After(one.Renewal):
			g.Go(func() error {
				s.logFailed(s.renew(ctx, one))
				return nil
			})
		case one.lastUse().Sub(one.Seen) > seenInterval:
			s.logFailed(s.sessions.storeUse(ctx, one))
		}
	}
	_ = g.Wait() // its functions return nil
	if rand.IntN(60) == 0 {
		s.logFailed(s.removeStates(ctx))
	}
}

func (s *Service) logFailed(err error) {
	if err != nil && !errors.Is(err, records.ErrConflict) && !errors.Is(err, context.Canceled) {
		s.log.Warn().Err(err).Msg("upkeep of a session failed: trying again")
	}
}

// storeUse stores when a session was used last.
func (s *sessions) storeUse(ctx context.Context, one *session) error {
	body := one.stored
	body.Seen = one.lastUse().UTC()
	return s.put(ctx, one.hash, one.version, body)
}

// removeEnded deletes the record of a session that ended. Another replica may know of a later use: then its record has
// another version, or will have before this one is stale.
func (s *sessions) removeEnded(ctx context.Context, one *session) error {
	err := s.store.Delete(ctx, SessionsKind, one.hash, one.version)
	if err == nil {
		s.forget(one.hash)
	}
	return err
}

// renew asks the provider about a session again. One replica does so at a time, as a refresh token may be good for one
// use.
func (s *Service) renew(ctx context.Context, one *session) error {
	refresh, err := s.key.open(one.hash, one.Refresh)
	if err != nil {
		s.log.Warn().Str("who", one.Who.Label()).Msg("a session ends, for its refresh token was encrypted with another " +
			"key: give all replicas the same --tls-dir")
		return s.sessions.end(ctx, one.hash)
	}
	claimed := one.stored
	claimed.Renewal = s.now().Add(renewing).UTC()
	claimed.Seen = one.lastUse().UTC()
	if err := s.sessions.put(ctx, one.hash, one.version, claimed); err != nil {
		return err // another replica was quicker
	}
	mine := s.sessions.find(one.hash)
	if mine == nil {
		return nil // it ended meanwhile
	}
	who, next, err := s.provider.renew(ctx, one.Who, string(refresh))
	body := mine.stored
	if next != "" {
		body.Refresh = s.key.seal(one.hash, []byte(next))
	}
	refusal := new(Refusal)
	switch {
	case errors.Is(err, errEnded), errors.As(err, &refusal) && refusal.Denied:
		s.log.Info().Err(err).Str("who", one.Who.Label()).Msg("a session ends")
		if failed := s.record(ctx, one.Who, one.From, "signed out: the identity provider no longer vouches"); failed != nil {
			s.log.Warn().Err(failed).Msg("the end of a session is not in the audit")
		}
		return s.sessions.end(ctx, one.hash)
	case err != nil: // the provider does not work: who is signed in works on
		s.log.Warn().Err(err).Str("who", one.Who.Label()).Msg("groups can't be read again: they stay, and are asked for again")
		body.Renewal = s.now().Add(renewRetry).UTC()
	default:
		body.Who, body.Checked, body.Renewal = who, s.now().UTC(), time.Time{}
	}
	// Once the provider was asked, the result must be kept: its refresh token may be a new one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return s.sessions.put(ctx, one.hash, mine.version, body)
}

// removeStates removes the used states of sign-ins that are over.
func (s *Service) removeStates(ctx context.Context) error {
	for r, err := range records.All(ctx, s.records, statesKind, records.Page{}) {
		if err != nil {
			return err
		}
		if s.now().Sub(r.Updated) < 2*flowLifetime {
			continue
		}
		err := s.records.Delete(ctx, statesKind, r.Key, r.Version)
		if err != nil && !errors.Is(err, records.ErrConflict) {
			return err
		}
	}
	return nil
}

// Session is what people see of a session.
type Session struct {
	ID      string        `json:"id"`
	Kind    string        `json:"kind" doc:"browser, or command line"`
	Who     access.Person `json:"who"`
	From    string        `json:"from,omitempty" doc:"the address that it began from"`
	Created time.Time     `json:"created"`
	Seen    time.Time     `json:"seen" doc:"last use"`
	Checked time.Time     `json:"checked" doc:"when the identity provider was asked last"`
	Ends    time.Time     `json:"ends" doc:"at the latest"`
}

// Sessions returns the valid sessions, oldest first.
func (s *Service) Sessions() (all []Session) {
	now := s.now()
	for _, one := range s.sessions.all() {
		if one.isValid(now) {
			all = append(all, Session{ID: one.ID, Kind: one.Kind, Who: one.Who, From: one.From, Created: one.Created,
				Seen: one.lastUse().UTC(), Checked: one.Checked, Ends: one.Ends})
		}
	}
	return all
}

// EndSession ends the session with an ID, at every replica within 2 s; by and from are for the audit. It returns
// access.ErrUnknown if there is none.
func (s *Service) EndSession(ctx context.Context, id, by, from string) error {
	for _, one := range s.sessions.all() {
		if one.ID != id {
			continue
		}
		what := "end the session " + id + " of " + one.Who.Label()
		err := s.recorder.RecordAudit(ctx, access.Entry{At: s.now(), Who: by, What: what, From: from})
		if err != nil {
			return err
		}
		return s.endAndRevoke(ctx, one)
	}
	return access.ErrUnknown
}
