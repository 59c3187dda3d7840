package plane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// Options say whom a Client speaks with, and for which cell.
type Options struct {
	Server        string          // http://HOST:PORT or unix:///PATH: the plain form; empty, or https://HOST:PORT: by key
	Cell          string          // required
	Token         *identity.Token // registers the cell, unless it did; nil: it is registered, or Server is the plain form
	Credentials   *Credentials    // required, unless Server is the plain form
	Clock         *clock.Clock    // hears the time from receipts; required
	PollWait      time.Duration   // how long one long-poll may wait
	Log           zerolog.Logger
	OnTestPoint   func(point string)                      // is told how far the client is, as tests want; nil: nobody is
	WrapTransport func(*http.Transport) http.RoundTripper // carries requests in place of the network, as tests want; nil: nothing does
}

// Client speaks the control plane's protocol for one cell. It is safe for concurrent use.
type Client struct {
	cell          string
	token         *identity.Token
	credentials   *Credentials // nil: the plain form, in which cells name themselves
	base          string       // https://HOST:PORT that goes before the address of the token; empty: none does
	clock         *clock.Clock
	pollWait      time.Duration
	log           zerolog.Logger
	onTestPoint   func(point string)
	wrapTransport func(*http.Transport) http.RoundTripper

	link atomic.Pointer[link] // nil: connect comes first
}

// New makes a client. It dials nobody before Register or Run.
func New(o Options) (*Client, error) {
	c := &Client{cell: o.Cell, token: o.Token, clock: o.Clock, pollWait: o.PollWait, log: o.Log, onTestPoint: o.OnTestPoint, wrapTransport: o.WrapTransport}
	if c.onTestPoint == nil {
		c.onTestPoint = func(string) {}
	}
	base, socket, mutual, err := "", "", true, error(nil)
	if o.Server != "" {
		base, socket, mutual, err = parseServer(o.Server)
	}
	switch {
	case err != nil:
		return nil, err
	case !mutual && o.Token != nil:
		return nil, errors.New("a token is for TLS, and names the control plane: leave the plain address out, or give https://HOST:PORT")
	case !mutual:
		c.link.Store(c.plainLink(base, socket))
		return c, nil
	}
	c.base, c.credentials = base, o.Credentials
	if s := c.credentials.snapshot(); o.Token == nil && len(s.Key) == 0 && s.Registration == nil {
		return nil, errors.New("no token is given, and no server: give the token that sluice cell add printed; " +
			"or the address of a control plane in the plain form")
	}
	return c, nil
}

// Reload reads the credentials anew: another process may have changed them before the state folder was this one's.
func (c *Client) Reload() error {
	if c.credentials == nil {
		return nil
	}
	return c.credentials.reload()
}

// Close lets go of connections that nothing uses.
func (c *Client) Close() {
	if l := c.link.Load(); l != nil {
		l.http.CloseIdleConnections()
	}
}

// Handler is the cell behind a client.
type Handler interface {
	// HandleDesired takes what the cell should run, and of flags. It returns once the newest word is taken, or ctx ends.
	HandleDesired(ctx context.Context, d *cells.Desired)
	// HandleConfirmed takes the key of an assignment that the control plane knows to be accepted.
	HandleConfirmed(ctx context.Context, key string)
	// FlagsReport is what to report of flags; nil: nothing was told of them.
	FlagsReport() *cells.FlagsReport
}

// Run hears what is desired, sends reports and changes the cell's key when asked to, until ctx ends. Register comes first.
func (c *Client) Run(ctx context.Context, r *Reporter, h Handler) {
	if c.link.Load() == nil { // ended while it registered
		return
	}
	asked := make(chan bool, 1)
	var all sync.WaitGroup
	all.Go(func() { (&subscriber{client: c, handler: h, rotateRequested: asked}).run(ctx) })
	all.Go(func() { r.run(ctx, h) })
	all.Go(func() { c.runRotation(ctx, asked) })
	all.Wait()
}

// linkTo is the link of a key to the control plane at an address.
func (c *Client) linkTo(address string, seed []byte, pins func() []string) (*link, error) {
	return c.mutualLink(cmp.Or(c.base, "https://"+address), seed, pins)
}

// connect makes the cell's key the one that is spoken with. What was begun with another ends.
func (c *Client) connect() error {
	s := c.credentials.snapshot()
	l, err := c.linkTo(s.Address, s.Key, func() []string { return c.credentials.snapshot().Pins })
	if err != nil {
		return err
	}
	if old := c.link.Swap(l); old != nil {
		close(old.replaced)
		old.http.CloseIdleConnections()
	}
	return nil
}

// updatePins takes a new set of pins, once it is durable. One that does not have the key under which it came is a mistake:
// the cell would shut itself out (R29).
func (c *Client) updatePins(pins []string, over *tls.ConnectionState) error {
	if c.credentials == nil || over == nil || len(pins) == 0 || slices.Equal(pins, c.credentials.snapshot().Pins) {
		return nil
	}
	if !validPins(pins) || identity.Match(pins, over.PeerCertificates, time.Now()) != nil {
		return errors.New("the control plane names new pins of its keys without the one that it has: they are not taken")
	}
	if _, err := c.credentials.update(func(s *identityRecord) { s.Pins = pins }); err != nil {
		return err
	}
	c.link.Load().http.CloseIdleConnections() // what is open was let in by the old set
	return nil
}

// trustsConnection reports whether a connection that was made before would be made now.
func (c *Client) trustsConnection(over *tls.ConnectionState) bool {
	return c.credentials == nil || over != nil && identity.Match(c.credentials.snapshot().Pins, over.PeerCertificates, time.Now()) == nil
}

// RetryPause is how long to wait after a number of failures in a row, the last being err (R33). Right after a key was
// registered, one that is not known is known a moment later.
func (c *Client) RetryPause(err error, failures int) time.Duration {
	var s *statusError
	if !errors.As(err, &s) {
		return retryPause(failures)
	}
	switch {
	case s.after > 0:
		return backoff.Lengthen(s.after)
	case s.status == http.StatusUnauthorized && !c.isKeyNew():
		return backoff.Shorten(unauthorizedPause)
	default:
		return retryPause(failures)
	}
}

// isKeyNew reports whether the cell's key is so new that not every replica needs to know it.
func (c *Client) isKeyNew() bool {
	if c.credentials == nil {
		return false
	}
	age := time.Since(c.credentials.snapshot().Since)
	return age >= 0 && age < newKeyPeriod
}
