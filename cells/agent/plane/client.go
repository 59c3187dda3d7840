package plane

import (
	"cmp"
	"context"
	"crypto/rand"
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
	"github.com/sluice-cd/sluice/internal/wake"
)

// Options says which control plane a Client talks to, and for which cell.
type Options struct {
	Server        string          // http://127.0.0.1:PORT or unix:///PATH: plain; https://HOST:PORT or empty: TLS by key
	Cell          string          // required
	Token         *identity.Token // token to register with; nil: the cell is registered, or Server is plain
	Credentials   *Credentials    // required, unless Server is plain
	Clock         *clock.Clock    // required; the time stamps of responses are its samples
	PollWait      time.Duration   // how long one long-poll may wait
	Log           zerolog.Logger
	OnRenamed     func(cell string)                       // called when the key is of a cell of another name; or nil
	OnTestPoint   func(point string)                      // for tests: called at each point; nil: not called
	WrapTransport func(*http.Transport) http.RoundTripper // for tests: replaces the network; nil: the network is used
}

// Client implements the control plane's protocol for one cell. It is safe for concurrent use.
type Client struct {
	cell          string
	token         *identity.Token
	credentials   *Credentials // nil: plain, where cells name themselves
	base          string       // https://HOST:PORT, used in place of the token's address; empty: not given
	clock         *clock.Clock
	pollWait      time.Duration
	log           zerolog.Logger
	onRenamed     func(cell string)
	onTestPoint   func(point string)
	wrapTransport func(*http.Transport) http.RoundTripper

	boot       string      // random for each start of the agent, sent with every request (R27)
	keyRefused wake.Signal // wakes runRotation: the control plane refused the cell's key

	link atomic.Pointer[link] // nil: connect was not called yet
}

// New returns a client. It opens no connection before Register or Run.
func New(o Options) (*Client, error) {
	c := &Client{cell: o.Cell, token: o.Token, clock: o.Clock, pollWait: o.PollWait, log: o.Log,
		onRenamed: o.OnRenamed, onTestPoint: o.OnTestPoint, wrapTransport: o.WrapTransport, boot: rand.Text(),
		keyRefused: wake.New()}
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
		return nil, errors.New("a token needs TLS and contains the control plane's address: " +
			"omit the plain address, or use https://HOST:PORT")
	case !mutual:
		c.link.Store(c.plainLink(base, socket))
		return c, nil
	}
	c.base, c.credentials = base, o.Credentials
	if s := c.credentials.snapshot(); o.Token == nil && len(s.Key) == 0 && s.Registration == nil &&
		c.credentials.Damaged() == nil {
		return nil, errors.New("neither a token nor a control plane is given: " +
			"pass the token that sluice cell add printed, " +
			"or the plain address of a control plane")
	}
	return c, nil
}

// Reload reads the credentials again: another process may have changed them before this one locked the state folder.
func (c *Client) Reload() error {
	if c.credentials == nil {
		return nil
	}
	return c.credentials.reload()
}

func (c *Client) Close() {
	if l := c.link.Load(); l != nil {
		l.http.CloseIdleConnections()
	}
}

type Handler interface {
	// HandleDesired takes the desired state. It returns once the state is taken, or ctx ends.
	HandleDesired(ctx context.Context, d *cells.Desired)
	// HandleConfirmed takes the Key of an assignment of which the control plane knows that the cell accepted it.
	HandleConfirmed(ctx context.Context, key string)
	// FlagsReport returns the part of a report about flags; nil: no flags were received.
	FlagsReport() *cells.FlagsReport
}

// Run receives the desired state, sends reports and changes the cell's key when asked to, until ctx ends. Register must
// have returned before.
func (c *Client) Run(ctx context.Context, r *Reporter, h Handler) {
	if c.link.Load() == nil { // ctx ended during registration
		return
	}
	rotateRequested := make(chan bool, 1)
	var group sync.WaitGroup
	group.Go(func() { (&subscriber{client: c, handler: h, rotateRequested: rotateRequested}).run(ctx) })
	group.Go(func() { r.run(ctx, h) })
	group.Go(func() { c.runRotation(ctx, rotateRequested) })
	group.Wait()
}

// linkTo returns a link from a key to the control plane at an address.
func (c *Client) linkTo(address string, seed []byte, pins func() []string) (*link, error) {
	return c.mutualLink(cmp.Or(c.base, "https://"+address), seed, pins)
}

// connect makes the link of the cell's current key the client's link. Requests over the previous link are cut.
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

// errPinsUnsigned says that the control plane names other pins than the cell has.
var errPinsUnsigned = errors.New("the control plane names other keys, and the cell's standby key did not sign them: " +
	"the previous pins stay in force")

// updatePins stores the set of pins that a receipt leads to, and uses it once it is durable. Only the standby key's
// signature leads there; and a set without the key that the control plane just proved is a mistake: the cell would shut
// itself out (R29).
func (c *Client) updatePins(receipt cells.Receipt, connection *tls.ConnectionState) error {
	if c.credentials == nil || connection == nil {
		return nil
	}
	s := c.credentials.snapshot()
	pins, serial := identity.FollowPins(s.Pins, s.Serial, receipt.SignedPins)
	if serial != s.Serial {
		if !validPins(pins) || identity.MatchPins(pins, connection.PeerCertificates, time.Now()) != nil {
			return errors.New("the control plane sent new pins that lack its own key: the previous pins stay in force")
		}
		if _, err := c.credentials.update(func(s *identityRecord) { s.Pins, s.Serial = pins, serial }); err != nil {
			return err
		}
		c.log.Info().Strs("pins", pins).Msg("the standby key signed new pins, which are in force")
		c.link.Load().http.CloseIdleConnections() // open connections were admitted under the old set
	}
	if len(receipt.Pins) > 0 && !samePins(receipt.Pins, pins) {
		return errPinsUnsigned
	}
	return nil
}

func samePins(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// trustsConnection reports whether the current pins admit the peer of an open connection.
func (c *Client) trustsConnection(connection *tls.ConnectionState) bool {
	return c.credentials == nil || connection != nil &&
		identity.MatchPins(c.credentials.snapshot().Pins, connection.PeerCertificates, time.Now()) == nil
}

// RetryPause returns how long to wait after failures in a row, of which err is the last (R33). A 401 right after a
// registration is retried soon: a replica may not know the new key yet. After any other, the cell's other keys are
// tried. A 403 that names another cell says that this one was renamed.
func (c *Client) RetryPause(err error, failures int) time.Duration {
	var s *statusError
	if !errors.As(err, &s) {
		return retryPause(failures)
	}
	if s.status == http.StatusUnauthorized && !c.isKeyNewer(replicaDelay) {
		c.keyRefused.Notify()
	}
	if s.cell != "" && s.cell != c.cell && c.credentials != nil && c.onRenamed != nil {
		c.onRenamed(s.cell)
	}
	switch {
	case s.after > 0:
		return backoff.Lengthen(s.after)
	case s.status == http.StatusUnauthorized && !c.isKeyNewer(newKeyPeriod):
		return backoff.Shorten(unauthorizedPause)
	default:
		return retryPause(failures)
	}
}

// pauseForRetry sleeps for RetryPause, or until another link replaces the present one.
func (c *Client) pauseForRetry(ctx context.Context, err error, failures int) {
	l := c.link.Load() // before RetryPause, which knows of a key that was adopted earlier
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-l.replaced:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = backoff.Sleep(ctx, c.RetryPause(err, failures))
}

// isKeyNewer reports whether the cell has had its key for less than a period: some replica may not know the key yet.
func (c *Client) isKeyNewer(period time.Duration) bool {
	if c.credentials == nil {
		return false
	}
	age := time.Since(c.credentials.snapshot().Since)
	return age >= 0 && age < period
}
