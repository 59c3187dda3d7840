// Package upgrade makes the connections of debug sessions: an HTTP request that the control plane answers by switching
// to the protocol of the session, once the other end is there too.
//
// It tries once, and knows nothing of what passes. All functions may be called from any goroutine.
package upgrade

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	timeout    = 60 * time.Second // until the answer; the control plane waits for the other end for less
	maxProblem = 4 << 10          // bytes of an answer that is none
)

// Refusal is an answer that is no session.
type Refusal struct {
	Status int
	Detail string
}

// NewRefusal reads a refusal. The caller closes the answer's body.
func NewRefusal(answer *http.Response) *Refusal {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxProblem)) // the status is enough
	var problem struct{ Detail string }
	_ = json.Unmarshal(text, &problem)
	return &Refusal{answer.StatusCode, words.Clip(problem.Detail, 500)}
}

func (r *Refusal) Error() string {
	text := fmt.Sprintf("the control plane answered %d %s", r.Status, http.StatusText(r.Status))
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

// IsAlone reports whether a dial failed because the other end is not at the replica that was asked.
func IsAlone(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Status == http.StatusServiceUnavailable
}

// Encode returns a value for a header of sessions.
func Encode(v any) (string, error) {
	text, err := json.Marshal(v)
	return base64.StdEncoding.EncodeToString(text), err
}

// Decode reads such a header's value.
func Decode[T any](text string) (v T, err error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	return v, err
}

// Dial posts to url, and returns the connection to the other end with the answer's headers. The error is a *Refusal if
// the control plane answered otherwise. ctx bounds the dial alone.
func Dial(ctx context.Context, over http.RoundTripper, url string, header http.Header) (net.Conn, http.Header, error) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(timeout, cancel)
	conn, answered, err := post(ctx, over, url, header, cancel)
	if err == nil && !timer.Stop() {
		err = errors.Join(context.DeadlineExceeded, conn.Close())
	}
	if err != nil {
		timer.Stop()
		cancel()
		return nil, nil, err
	}
	return conn, answered, nil
}

func post(
	ctx context.Context, over http.RoundTripper, url string, header http.Header, release context.CancelFunc,
) (net.Conn, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", debug.Protocol)
	answer, err := over.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	stream, ok := answer.Body.(io.ReadWriteCloser)
	switch {
	case answer.StatusCode != http.StatusSwitchingProtocols:
		defer func() { _ = answer.Body.Close() }()
		return nil, nil, NewRefusal(answer)
	case !ok:
		return nil, nil, errors.Join(errors.New("the connection can't be used both ways"), answer.Body.Close())
	}
	return &conn{ReadWriteCloser: stream, release: release}, answer.Header, nil
}

// conn is an upgraded stream as a connection without deadlines.
type conn struct {
	io.ReadWriteCloser
	release context.CancelFunc
	once    sync.Once
	err     error
}

// Close closes the connection, once.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.err = c.ReadWriteCloser.Close()
		c.release()
	})
	return c.err
}

type address struct{}

func (address) Network() string { return debug.Protocol }
func (address) String() string  { return "the control plane" }

func (*conn) LocalAddr() net.Addr  { return address{} }
func (*conn) RemoteAddr() net.Addr { return address{} }

var errNoDeadline = errors.New("the connection has no deadlines")

func (*conn) SetDeadline(time.Time) error      { return errNoDeadline }
func (*conn) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (*conn) SetWriteDeadline(time.Time) error { return errNoDeadline }
