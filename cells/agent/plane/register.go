package plane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	registerPath = "/v1/register"
	keyPath      = "/v1/key"
	callTimeout  = 30 * time.Second
)

// ErrToken says that the control plane refused the token. It does not say why (fault 39).
var ErrToken = errors.New("the token is not valid, or no longer valid: get a new one with sluice cell add")

// Register ensures that the control plane knows the cell's key, and connects with that key. It may be killed at any
// instant and called again with the same token. An error means that only a person can help.
func (c *Client) Register(ctx context.Context) error {
	token := c.token
	if c.credentials == nil {
		return nil
	}
	s := c.credentials.snapshot()
	if token != nil && s.Token != identity.HashSecret(token.Secret) {
		var err error
		if s, err = c.credentials.beginRegistration(token); err != nil {
			return err
		}
		c.onTestPoint("key made")
	}
	if j := s.Registration; j != nil && (token != nil || len(s.Key) == 0) && s.Token != j.Token {
		switch err := c.completeRegistration(ctx, *j); {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case len(s.Key) > 0: // R30
			c.log.Error().Err(err).Msg("the cell could not be registered again; it continues with the key that it has")
		default:
			return err
		}
	}
	if err := c.credentials.Damaged(); err != nil {
		return err
	}
	if len(c.credentials.snapshot().Key) == 0 {
		return errors.New("the cell is not registered: pass the token that sluice cell add printed with --join")
	}
	return c.connect()
}

// maxReregisterTries is how often a cell that already has a key tries to register another one before it continues with
// the old one.
const maxReregisterTries = 5

// completeRegistration completes a registration that was begun, with any number of tries.
func (c *Client) completeRegistration(ctx context.Context, j registration) error {
	l, err := c.linkTo(j.Address, j.Key, func() []string { return j.Pins })
	if err != nil {
		return err
	}
	defer l.http.CloseIdleConnections()
	for failures := 0; ; failures++ {
		answer, err := c.presentToken(ctx, l)
		if err == nil {
			c.onTestPoint("token sent")
			if _, err := c.credentials.finishRegistration(answer); err != nil {
				return err
			}
			c.onTestPoint("registered")
			c.log.Info().Msg("the cell is registered")
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrToken) ||
			failures >= maxReregisterTries && len(c.credentials.snapshot().Key) > 0 {
			return err
		}
		if failures == 0 {
			c.log.Warn().Err(err).Msg("the cell can't be registered yet")
		}
		_ = backoff.Sleep(ctx, c.RetryPause(err, failures))
	}
}

// presentToken sends the token over a connection that proves the key.
func (c *Client) presentToken(ctx context.Context, l *link) (identity.Joined, error) {
	var answer identity.Joined
	if token := c.token; token != nil {
		body, err := json.Marshal(identity.Join{Cell: token.Cell, Secret: token.Secret})
		if err != nil {
			return answer, err
		}
		err = l.postJSON(ctx, registerPath, body, &answer)
		switch {
		case err == nil && answer.Cell != token.Cell:
			return answer, fmt.Errorf("register: the response is for cell %q", words.Clip(answer.Cell, 100))
		case !isUnauthorized(err):
			return answer, err
		}
	}
	// The token may have been used up by a registration of this very key whose response was lost (fault 59).
	if err := c.verifyKeyKnown(ctx, l); err != nil {
		if isUnauthorized(err) {
			return answer, ErrToken
		}
		return answer, err
	}
	return answer, nil
}

// verifyKeyKnown returns nil if the control plane knows a link's key. The response is otherwise ignored.
func (c *Client) verifyKeyKnown(ctx context.Context, l *link) error {
	_, err := c.requestDesired(ctx, l, "", 0)
	var s *statusError
	if errors.As(err, &s) && s.status == http.StatusNotFound {
		return nil // the key is known, but its cell is not loaded yet
	}
	return err
}

// postJSON decodes the response into into, which may be nil.
func (l *link) postJSON(ctx context.Context, path string, body []byte, into any) error {
	ctx, cancel := callContext(ctx, callTimeout)
	defer cancel()
	response, err := l.send(ctx, http.MethodPost, path, nil, body, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if into == nil {
		return nil
	}
	return decodeJSON(response.Body, maxReceipt, into)
}

func isUnauthorized(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.status == http.StatusUnauthorized
}
