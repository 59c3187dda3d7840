package plane

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

// minKeyInterval is the least time between rotations, whatever the control plane asks for.
const minKeyInterval = 10 * time.Minute

// runRotation makes a new key when one is requested, or completes a rotation that was begun, until ctx ends.
func (c *Client) runRotation(ctx context.Context, asked <-chan bool) {
	if c.credentials == nil {
		return
	}
	notice, failures, notBefore := false, 0, time.Time{}
	for ctx.Err() == nil {
		var alarm <-chan time.Time
		if notice || len(c.credentials.snapshot().Next) > 0 {
			alarm = time.After(time.Until(notBefore))
		}
		select {
		case notice = <-asked:
			continue
		case <-alarm:
		case <-ctx.Done():
			return
		}
		err := c.replaceKey(ctx)
		pause := minKeyInterval
		switch {
		case err == nil:
			notice, failures = false, 0 // earlier requests are fulfilled
		case ctx.Err() != nil:
			return
		case isKeyRefused(err): // another key may be accepted, if still requested then
			c.log.Error().Err(err).Msg("the control plane refused the new key; the old key stays in use")
			if _, err := c.credentials.update(func(s *identityRecord) { s.Next = nil }); err != nil {
				c.log.Error().Err(err).Msg("the refused key could not be discarded")
			}
			failures = 0
		default:
			if failures == 0 {
				c.log.Warn().Err(err).Msg("the new key could not be presented yet; the old key stays in use")
			}
			pause = max(c.RetryPause(err, failures), time.Second)
			failures++
		}
		notBefore = time.Now().Add(pause)
	}
}

func requestsNewKey(d *cells.Desired) bool {
	return slices.ContainsFunc(d.Notices, func(n cells.Notice) bool { return n.Code == cells.NoticeRotate })
}

// replaceKey presents the next key, and adopts it once the control plane knows it. Until then both keys are on disk,
// and the known one works.
func (c *Client) replaceKey(ctx context.Context) error {
	s, err := c.credentials.prepareNextKey()
	if err != nil {
		return err
	}
	c.onTestPoint("next key made")
	next := ed25519.NewKeyFromSeed(s.Next)
	l := c.link.Load()
	body, err := json.Marshal(identity.NewNextKey(next, c.cell, l.key.Public().(ed25519.PublicKey)))
	if err != nil {
		return fmt.Errorf("present a new key: %w", err)
	}
	err = l.postJSON(ctx, keyPath, body, nil)
	if isUnauthorized(err) { // the next key may be known and the old one out, with the response lost
		err = c.verifyNextKeyKnown(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("present a new key: %w", err)
	}
	c.onTestPoint("next key presented")
	if _, err := c.credentials.adoptNextKey(); err != nil {
		return err
	}
	c.onTestPoint("next key kept")
	c.log.Info().Msg("a new key took the place of the old one")
	return c.connect()
}

// verifyNextKeyKnown returns nil if the control plane knows the next key already.
func (c *Client) verifyNextKeyKnown(ctx context.Context, s identityRecord) error {
	l, err := c.linkTo(s.Address, s.Next, func() []string { return c.credentials.snapshot().Pins })
	if err != nil {
		return err
	}
	defer l.http.CloseIdleConnections()
	return c.verifyKeyKnown(ctx, l)
}

// isKeyRefused reports whether the control plane understood a presented key and refuses it.
func isKeyRefused(err error) bool {
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
