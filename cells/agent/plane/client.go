package plane

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	// MaxDesired bounds, in bytes, what the control plane may say that is desired.
	MaxDesired = 1 << 20
	maxReceipt = 64 << 10
	maxProblem = 4 << 10 // of an error's body

	maxNextPoll   = 300  // seconds
	maxRetryAfter = 3600 // seconds
)

// Options say whom a Client speaks with, and for which cell.
type Options struct {
	Server      string          // http://HOST:PORT or unix:///PATH: the plain form; empty, or https://HOST:PORT: by key
	Cell        string          // required
	Token       *identity.Token // registers the cell, unless it did; nil: it is registered, or Server is the plain form
	Credentials *Credentials    // required, unless Server is the plain form
	Clock       *clock.Clock    // hears the time from receipts; required
	PollWait    time.Duration   // how long one long-poll may wait
	Log         zerolog.Logger
	Reached     func(point string)                      // is told how far the client is; nil: nobody is
	Transport   func(*http.Transport) http.RoundTripper // carries requests in place of the network; nil: nothing does
}

// Client speaks the control plane's protocol for one cell. It is safe for concurrent use.
type Client struct {
	cell        string
	token       *identity.Token
	credentials *Credentials // nil: the plain form, in which cells name themselves
	base        string       // https://HOST:PORT that goes before the address of the token; empty: none does
	clock       *clock.Clock
	pollWait    time.Duration
	log         zerolog.Logger
	reached     func(point string)
	wrap        func(*http.Transport) http.RoundTripper

	link atomic.Pointer[link] // nil: connect comes first
}

// New makes a client. It dials nobody before Register or Run.
func New(o Options) (*Client, error) {
	c := &Client{cell: o.Cell, token: o.Token, clock: o.Clock, pollWait: o.PollWait, log: o.Log, reached: o.Reached, wrap: o.Transport}
	if c.reached == nil {
		c.reached = func(string) {}
	}
	base, socket, mutual, err := "", "", true, error(nil)
	if o.Server != "" {
		base, socket, mutual, err = address(o.Server)
	}
	switch {
	case err != nil:
		return nil, err
	case !mutual && o.Token != nil:
		return nil, errors.New("a token is for TLS, and names the control plane: leave the plain address out, or give https://HOST:PORT")
	case !mutual:
		c.link.Store(c.plain(base, socket))
		return c, nil
	}
	c.base, c.credentials = base, o.Credentials
	if s := c.credentials.now(); o.Token == nil && len(s.Key) == 0 && s.Joining == nil {
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
	// Desired takes what the cell should run, and of flags. It returns once the newest word is taken, or ctx ends.
	Desired(ctx context.Context, d *cells.Desired)
	// Confirmed takes the key of an assignment that the control plane knows to be accepted.
	Confirmed(ctx context.Context, key string)
	// Flags is what to report of flags; nil: nothing was told of them.
	Flags() *cells.FlagsReport
}

// Run hears what is desired, sends reports and changes the cell's key when asked to, until ctx ends. Register comes first.
func (c *Client) Run(ctx context.Context, r *Reporter, h Handler) {
	if c.link.Load() == nil { // ended while it registered
		return
	}
	asked := make(chan bool, 1)
	var all sync.WaitGroup
	all.Go(func() { (&puller{client: c, handler: h, asked: asked}).run(ctx) })
	all.Go(func() { r.run(ctx, h) })
	all.Go(func() { c.rotate(ctx, asked) })
	all.Wait()
}

// to gives the link of a key to the control plane at an address.
func (c *Client) to(address string, seed []byte, pins func() []string) (*link, error) {
	return c.mutual(cmp.Or(c.base, "https://"+address), seed, pins)
}

// connect makes the cell's key the one that is spoken with. What was begun with another ends.
func (c *Client) connect() error {
	s := c.credentials.now()
	l, err := c.to(s.Address, s.Key, func() []string { return c.credentials.now().Pins })
	if err != nil {
		return err
	}
	if old := c.link.Swap(l); old != nil {
		close(old.left)
		old.http.CloseIdleConnections()
	}
	return nil
}

// learn takes a new set of pins, once it is durable. One that does not have the key under which it came is a mistake:
// the cell would shut itself out (R29).
func (c *Client) learn(pins []string, over *tls.ConnectionState) error {
	if c.credentials == nil || over == nil || len(pins) == 0 || slices.Equal(pins, c.credentials.now().Pins) {
		return nil
	}
	if !validPins(pins) || identity.Match(pins, over.PeerCertificates, time.Now()) != nil {
		return errors.New("the control plane names new pins of its keys without the one that it has: they are not taken")
	}
	if _, err := c.credentials.change(func(s *record) { s.Pins = pins }); err != nil {
		return err
	}
	c.link.Load().http.CloseIdleConnections() // what is open was let in by the old set
	return nil
}

// trusts reports whether a connection that was made before would be made now.
func (c *Client) trusts(over *tls.ConnectionState) bool {
	return c.credentials == nil || over != nil && identity.Match(c.credentials.now().Pins, over.PeerCertificates, time.Now()) == nil
}

// statusError is an answer other than what was hoped for.
type statusError struct {
	status int
	detail string
	after  time.Duration // Retry-After; zero: none
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the control plane answers %d %s", e.status, http.StatusText(e.status))
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// Pause is how long to wait after a number of failures in a row, the last being err (R33). Right after a key was
// registered, one that is not known is known a moment later.
func (c *Client) Pause(err error, failures int) time.Duration {
	var s *statusError
	if !errors.As(err, &s) {
		return retryPause(failures)
	}
	switch {
	case s.after > 0:
		return backoff.Lengthen(s.after)
	case s.status == http.StatusUnauthorized && !c.settling():
		return backoff.Shorten(deniedPause)
	default:
		return retryPause(failures)
	}
}

// do sends a request over the link of the moment: see link.do.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body []byte, header http.Header) (*http.Response, error) {
	l := c.link.Load()
	if l == nil {
		return nil, errors.New("the cell is not registered yet")
	}
	return l.do(ctx, method, path, query, body, header)
}

// settling reports whether the cell's key is so new that not every replica needs to know it.
func (c *Client) settling() bool {
	if c.credentials == nil {
		return false
	}
	age := time.Since(c.credentials.now().Since)
	return age >= 0 && age < settled
}

// do sends a request over the link and hands over an answer of 2xx or 304. Closing its body is the caller's.
func (l *link) do(ctx context.Context, method, path string, query url.Values, body []byte, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	target := l.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		request.Header[k] = v
	}
	response, err := l.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 2 || response.StatusCode == http.StatusNotModified {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	return nil, refusal(response)
}

// refusal reads what an unwelcome answer says of itself (RFC 9457).
func refusal(response *http.Response) error {
	e := &statusError{status: response.StatusCode}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.after = time.Duration(min(seconds, maxRetryAfter)) * time.Second
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxProblem)) // the status says enough
	var problem struct{ Title, Detail string }
	if json.Unmarshal(text, &problem) == nil {
		e.detail = words.Clip(cmp.Or(strings.TrimSpace(problem.Detail), strings.TrimSpace(problem.Title)), 500)
	}
	return e
}

// word is the control plane's on what the cell should run.
type word struct {
	desired *cells.Desired // nil: what etag names still holds
	etag    string
	after   time.Duration // when to ask again; zero: at once
}

// nextPoll is the header that says in how many seconds to ask again.
const nextPoll = "Sluice-Next-Poll"

// desired asks what the cell should run, and waits up to wait for it to be something else than etag names.
func (c *Client) desired(ctx context.Context, etag string, wait time.Duration) (word, error) {
	return c.ask(ctx, c.link.Load(), etag, wait)
}

func (c *Client) ask(ctx context.Context, l *link, etag string, wait time.Duration) (word, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+15*time.Second)
	defer cancel()
	query := url.Values{"cell": {c.cell}, "wait": {wait.String()}}
	header := http.Header{"Accept": {"application/json"}}
	if etag != "" {
		header.Set("If-None-Match", etag)
	}
	response, err := l.do(ctx, http.MethodGet, "/v1/desired", query, nil, header)
	if err != nil {
		return word{}, fmt.Errorf("ask what to run: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	t := word{etag: etag}
	if seconds, err := strconv.Atoi(response.Header.Get(nextPoll)); err == nil && seconds > 0 {
		t.after = time.Duration(min(seconds, maxNextPoll)) * time.Second
	}
	if response.StatusCode == http.StatusNotModified {
		return t, nil
	}
	text, err := readAll(response.Body, MaxDesired)
	if err != nil {
		return word{}, fmt.Errorf("ask what to run: %w", err)
	}
	if t.desired, err = c.understand(text); err != nil {
		return word{}, fmt.Errorf("ask what to run: %w", err)
	}
	t.etag = response.Header.Get("ETag")
	return t, nil
}

// understand reads what is desired, however it came.
func (c *Client) understand(text []byte) (*cells.Desired, error) {
	var d cells.Desired
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("the answer is not what was asked for: %w", err)
	}
	if d.Cell != "" && d.Cell != c.cell {
		return nil, fmt.Errorf("the answer is for cell %q", words.Clip(d.Cell, 100))
	}
	return &d, nil
}

// report hands a report over and returns once it is durable there. over is the connection; nil: a plain one.
func (c *Client) report(ctx context.Context, body []byte) (receipt cells.Receipt, over *tls.ConnectionState, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	sent := c.clock.Read()
	response, err := c.do(ctx, http.MethodPost, "/v1/reports", nil, body, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return receipt, nil, fmt.Errorf("report: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := decode(response.Body, maxReceipt, &receipt); err != nil {
		return cells.Receipt{}, nil, fmt.Errorf("report: %w", err)
	}
	c.clock.Hear(receipt.Time, sent)
	return receipt, response.TLS, nil
}

func decode(r io.Reader, limit int64, into any) error {
	text, err := readAll(r, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer is not what was asked for: %w", err)
	}
	return nil
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return text, err
}
