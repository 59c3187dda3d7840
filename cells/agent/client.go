package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	maxDesired = 1 << 20
	maxReceipt = 64 << 10
	maxProblem = 4 << 10 // of an error's body

	maxNextPoll   = 300  // seconds
	maxRetryAfter = 3600 // seconds
)

// client speaks the control plane's protocol for one cell. It is safe for concurrent use.
type client struct {
	cell  string
	who   *keeper // nil: the plain form, in which cells name themselves
	base  string  // https://HOST:PORT that goes before the address of the token; empty: none does
	proxy func(*http.Request) (*url.URL, error)
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	clock *clock.Clock // hears the time from receipts

	at atomic.Pointer[link] // nil: connect comes first
}

// newClient takes http://HOST:PORT or unix:///PATH for the plain form; else https://HOST:PORT, or nothing: who knows.
func newClient(server, cell string, who *keeper, k *clock.Clock) (*client, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	c := &client{cell: cell, proxy: environmentProxy, dial: d.DialContext, clock: k}
	if server == "" {
		c.who = who
		return c, nil
	}
	base, socket, mutual, err := address(server)
	if err != nil {
		return nil, err
	}
	if mutual {
		c.base, c.who = base, who
		return c, nil
	}
	c.at.Store(c.plain(base, socket))
	return c, nil
}

// to gives the link of a key to the control plane at an address.
func (c *client) to(address string, seed []byte, pins func() []string) (*link, error) {
	return c.mutual(cmp.Or(c.base, "https://"+address), seed, pins)
}

// connect makes the cell's key the one that is spoken with. What was begun with another ends.
func (c *client) connect() error {
	s := c.who.now()
	l, err := c.to(s.Address, s.Key, func() []string { return c.who.now().Pins })
	if err != nil {
		return err
	}
	if old := c.at.Swap(l); old != nil {
		close(old.left)
		old.http.CloseIdleConnections()
	}
	return nil
}

// learn takes a new set of pins, once it is durable. One that does not have the key under which it came is a mistake:
// the cell would shut itself out (R29).
func (c *client) learn(pins []string, over *tls.ConnectionState) error {
	if c.who == nil || over == nil || len(pins) == 0 || slices.Equal(pins, c.who.now().Pins) {
		return nil
	}
	if !validPins(pins) || identity.Match(pins, over.PeerCertificates, time.Now()) != nil {
		return errors.New("the control plane names new pins of its keys without the one that it has: they are not taken")
	}
	if _, err := c.who.change(func(s *self) { s.Pins = pins }); err != nil {
		return err
	}
	c.at.Load().http.CloseIdleConnections() // what is open was let in by the old set
	return nil
}

// trusts tells whether a connection that was made before would be made now.
func (c *client) trusts(over *tls.ConnectionState) bool {
	return c.who == nil || over != nil && identity.Match(c.who.now().Pins, over.PeerCertificates, time.Now()) == nil
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

// pause says how long to wait after a number of failures in a row, the last being err (R33). Right after a key was
// registered, one that is not known is known a moment later.
func (c *client) pause(err error, failures int) time.Duration {
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
func (c *client) do(ctx context.Context, method, path string, query url.Values, body []byte, header http.Header) (*http.Response, error) {
	l := c.at.Load()
	if l == nil {
		return nil, errors.New("the cell is not registered yet")
	}
	return l.do(ctx, method, path, query, body, header)
}

// settling tells whether the cell's key is so new that not every replica needs to know it.
func (c *client) settling() bool {
	if c.who == nil {
		return false
	}
	age := time.Since(c.who.now().Since)
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

// told is the control plane's word on what the cell should run.
type told struct {
	desired *cells.Desired // nil: what etag names still holds
	etag    string
	after   time.Duration // when to ask again; zero: at once
}

// nextPoll is the header that says in how many seconds to ask again.
const nextPoll = "Sluice-Next-Poll"

// desired asks what the cell should run, and waits up to wait for it to be something else than etag names.
func (c *client) desired(ctx context.Context, etag string, wait time.Duration) (told, error) {
	return c.ask(ctx, c.at.Load(), etag, wait)
}

func (c *client) ask(ctx context.Context, l *link, etag string, wait time.Duration) (told, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+15*time.Second)
	defer cancel()
	query := url.Values{"cell": {c.cell}, "wait": {wait.String()}}
	header := http.Header{"Accept": {"application/json"}}
	if etag != "" {
		header.Set("If-None-Match", etag)
	}
	response, err := l.do(ctx, http.MethodGet, "/v1/desired", query, nil, header)
	if err != nil {
		return told{}, fmt.Errorf("ask what to run: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	t := told{etag: etag}
	if seconds, err := strconv.Atoi(response.Header.Get(nextPoll)); err == nil && seconds > 0 {
		t.after = time.Duration(min(seconds, maxNextPoll)) * time.Second
	}
	if response.StatusCode == http.StatusNotModified {
		return t, nil
	}
	text, err := readAll(response.Body, maxDesired)
	if err != nil {
		return told{}, fmt.Errorf("ask what to run: %w", err)
	}
	if t.desired, err = c.understand(text); err != nil {
		return told{}, fmt.Errorf("ask what to run: %w", err)
	}
	t.etag = response.Header.Get("ETag")
	return t, nil
}

// understand reads what is desired, however it came.
func (c *client) understand(text []byte) (*cells.Desired, error) {
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
func (c *client) report(ctx context.Context, body []byte) (receipt cells.Receipt, over *tls.ConnectionState, err error) {
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
