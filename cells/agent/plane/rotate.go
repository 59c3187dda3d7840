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

// rotation is the state of runRotation.
type rotation struct {
	client    *Client
	requested bool      // a new key is requested
	answered  time.Time // when the control plane last accepted Next; zero: it did not
	failures  int       // in a row
	notBefore time.Time // of the next try
}

// runRotation makes a new key when one is requested, completes a rotation that was begun, and looks for a former key
// that the control plane knows when it refuses the present one, until ctx ends.
func (c *Client) runRotation(ctx context.Context, requested <-chan bool) {
	if c.credentials == nil {
		return
	}
	r := &rotation{client: c}
	for ctx.Err() == nil {
		var alarm <-chan time.Time
		if r.requested || len(c.credentials.snapshot().Next) > 0 {
			alarm = time.After(time.Until(r.notBefore))
		}
		select {
		case r.requested = <-requested:
		case <-c.keyRefused:
			if err := c.tryOtherKeys(ctx); err != nil && ctx.Err() == nil {
				c.log.Error().Err(err).Msg("another key of the cell could not be tried")
			}
		case <-alarm:
			r.advance(ctx)
		case <-ctx.Done():
		}
	}
}

// advance tries to complete the rotation, and says when to try again.
func (r *rotation) advance(ctx context.Context) {
	c := r.client
	err := r.replaceKey(ctx)
	pause := minKeyInterval
	switch {
	case err == nil:
		r.requested, r.failures, r.answered = false, 0, time.Time{} // earlier requests are fulfilled
	case ctx.Err() != nil:
		return
	case errors.Is(err, errOldKeyValid):
		pause = min(minKeyInterval, time.Second<<min(r.failures, 20))
		r.failures++
	case isKeyRefused(err): // another key may be accepted, if still requested then
		c.log.Error().Err(err).Msg("the control plane refused the new key; the old key stays in use")
		if err := c.credentials.withdrawNextKey(); err != nil {
			c.log.Error().Err(err).Msg("the refused key could not be set aside")
		}
		r.failures, r.answered = 0, time.Time{}
	case errors.Is(err, errTooManyKeys):
		c.log.Error().Err(err).Msg("the request for a new key is ignored")
		r.requested = false
	default:
		if r.failures == 0 {
			c.log.Warn().Err(err).Msg("the new key could not be presented yet; the old key stays in use")
		}
		pause = max(c.RetryPause(err, r.failures), time.Second)
		r.failures++
	}
	r.notBefore = time.Now().Add(pause)
}

func requestsNewKey(d *cells.Desired) bool {
	return slices.ContainsFunc(d.Notices, func(n cells.Notice) bool { return n.Code == cells.NoticeRotate })
}

// errOldKeyValid says that the control plane accepted the next key, and goes on accepting the old one.
var errOldKeyValid = errors.New("the control plane still accepts the old key")

// replaceKey presents the next key, uses it once, and adopts it when the control plane refuses the old one: so a
// vendor's control plane answers, which retires the old key with the first use of the new one. One that accepts
// everything may have been taken over, and the vendor's own may know the old key only. Until then both keys are on
// disk, and the old one is in use.
func (r *rotation) replaceKey(ctx context.Context) error {
	c, l := r.client, r.client.link.Load()
	s, err := c.credentials.prepareNextKey()
	if err != nil {
		return err
	}
	if r.answered.IsZero() || time.Since(r.answered) >= minKeyInterval {
		if err := r.presentKey(ctx, l, s); err != nil {
			return fmt.Errorf("present a new key: %w", err)
		}
	}
	switch err := c.verifyKeyKnown(ctx, l); {
	case err == nil:
		return errOldKeyValid
	case !isUnauthorized(err):
		return fmt.Errorf("ask whether the old key is refused: %w", err)
	}
	if err := c.credentials.adoptKey(s.Next); err != nil {
		return err
	}
	c.onTestPoint("next key kept")
	c.log.Info().Msg("the control plane refuses the old key: the new one is the cell's")
	return c.connect()
}

// presentKey presents the next key over a connection of the old one, and uses it once.
func (r *rotation) presentKey(ctx context.Context, l *link, s identityRecord) error {
	c := r.client
	c.onTestPoint("next key made")
	next := ed25519.NewKeyFromSeed(s.Next)
	body, err := json.Marshal(identity.NewNextKey(next, c.cell, l.key.Public().(ed25519.PublicKey)))
	if err != nil {
		return err
	}
	// After a 401 the next key may be known and the old one refused, with the response lost.
	if err := l.postJSON(ctx, keyPath, body, nil); err != nil && !isUnauthorized(err) {
		return err
	}
	c.onTestPoint("next key presented")
	if err := c.verifySeedKnown(ctx, s.Next); err != nil {
		return err
	}
	if r.answered.IsZero() {
		c.log.Info().Msg("a new key took the place of the old one, which stays in use until the control plane refuses it")
	}
	r.answered = time.Now()
	return nil
}

// tryOtherKeys looks for a key of the cell that the control plane knows, after it refused the present one. A control
// plane that was taken over may have accepted the present key, and the vendor's own never heard of it.
func (c *Client) tryOtherKeys(ctx context.Context) error {
	s := c.credentials.snapshot()
	others := [][]byte{s.Next}
	for _, f := range slices.Backward(s.Former) {
		others = append(others, f.Key)
	}
	for _, seed := range others {
		if len(seed) == 0 {
			continue
		}
		switch err := c.verifySeedKnown(ctx, seed); {
		case isUnauthorized(err):
			continue
		case err != nil:
			return err
		}
		if err := c.credentials.adoptKey(seed); err != nil {
			return err
		}
		c.log.Warn().Msg("the control plane refuses the cell's key and knows another one of it, which is in use from now on")
		return c.connect()
	}
	return nil
}

// verifySeedKnown returns nil if the control plane knows a key.
func (c *Client) verifySeedKnown(ctx context.Context, seed []byte) error {
	l, err := c.linkTo(c.credentials.snapshot().Address, seed, func() []string { return c.credentials.snapshot().Pins })
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
