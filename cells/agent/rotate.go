package agent

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
)

// betweenKeys is the least time from one new key to the next, whatever the control plane asks for.
const betweenKeys = 10 * time.Minute

// rotate makes a new key when one is asked for, or was begun. It ends with ctx.
func (a *Agent) rotate(ctx context.Context, asked <-chan bool) {
	c := a.client
	if c.who == nil {
		return
	}
	notice, failures, notBefore := false, 0, time.Time{}
	for ctx.Err() == nil {
		var alarm <-chan time.Time
		if notice || len(c.who.now().Next) > 0 {
			alarm = time.After(time.Until(notBefore))
		}
		select {
		case notice = <-asked:
			continue
		case <-alarm:
		case <-ctx.Done():
			return
		}
		err := a.succeed(ctx)
		pause := betweenKeys
		switch {
		case err == nil:
			notice, failures = false, 0 // what was said before is done
		case ctx.Err() != nil:
			return
		case refusedKey(err): // another one may be taken, if one is still asked for then
			a.options.Log.Error().Err(err).Msg("the old key goes on")
			if _, err := c.who.change(func(s *self) { s.Next = nil }); err != nil {
				a.options.Log.Error().Err(err).Msg("the new key could not be dropped")
			}
			failures = 0
		default:
			if failures == 0 {
				a.options.Log.Warn().Err(err).Msg("the new key is not known yet; the old one goes on")
			}
			pause = max(c.pause(err, failures), time.Second)
			failures++
		}
		notBefore = time.Now().Add(pause)
	}
}

// asksForKey tells whether d asks for a new key.
func asksForKey(d *cells.Desired) bool {
	return slices.ContainsFunc(d.Notices, func(n cells.Notice) bool { return n.Code == cells.NoticeRotate })
}

// succeed presents the next key, and lets it follow once the control plane has it. Until then both are on disk, and the
// one that is known works.
func (a *Agent) succeed(ctx context.Context) error {
	c := a.client
	s, err := c.who.next()
	if err != nil {
		return err
	}
	a.at("next key made")
	next := ed25519.NewKeyFromSeed(s.Next)
	l := c.at.Load()
	body, err := json.Marshal(identity.NewNext(next, c.cell, l.key.Public().(ed25519.PublicKey)))
	if err != nil {
		return fmt.Errorf("present a new key: %w", err)
	}
	err = l.post(ctx, keyPath, body, nil)
	if unauthorized(err) { // the old one may be out because this one is known, and the answer was lost
		err = a.tried(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("present a new key: %w", err)
	}
	a.at("next key presented")
	if _, err := c.who.followed(); err != nil {
		return err
	}
	a.at("next key kept")
	a.options.Log.Info().Msg("a new key took the place of the old one")
	return c.connect()
}

// tried tells whether the next key is known already.
func (a *Agent) tried(ctx context.Context, s self) error {
	l, err := a.client.to(s.Address, s.Next, func() []string { return a.client.who.now().Pins })
	if err != nil {
		return err
	}
	defer l.http.CloseIdleConnections()
	return a.client.known(ctx, l)
}

// refusedKey tells whether the control plane understood a presented key, and does not want it.
func refusedKey(err error) bool {
	var s *statusError
	if !errors.As(err, &s) {
		return false
	}
	switch s.status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity:
		return true
	}
	return false
}
