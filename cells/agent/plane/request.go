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
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	// MaxDesired bounds the size of the desired state, in bytes.
	MaxDesired = 1 << 20
	maxReceipt = 64 << 10
	maxProblem = 4 << 10 // bytes of an error's body

	// bootHeader has the boot id: of two machines with one key, the control plane finds also one that only reads (R27).
	bootHeader = "Sluice-Boot"

	// cellHeader has, in a 403, the cell that the connection's key is of.
	cellHeader = "Sluice-Cell"

	maxNextPoll   = 300  // seconds
	maxRetryAfter = 3600 // seconds
)

// statusError is a response with an unwanted status.
type statusError struct {
	status int
	detail string
	after  time.Duration // Retry-After; zero: none
	cell   string        // that the key is of, if it is another than this one; empty: not said

	location string // of what is wrong with the body, such as body.state; empty: not said
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the control plane answered %d %s", e.status, http.StatusText(e.status))
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// statusOf returns the status of an unwanted response; 0: there was no response.
func statusOf(err error) int {
	var s *statusError
	if errors.As(err, &s) {
		return s.status
	}
	return 0
}

// send sends a request over the current link: see link.send.
func (c *Client) send(
	ctx context.Context, method, path string, query url.Values, body []byte, header http.Header,
) (*http.Response, error) {
	l := c.link.Load()
	if l == nil {
		return nil, errors.New("the cell is not registered yet")
	}
	return l.send(ctx, method, path, query, body, header)
}

// send sends a request over the link and returns a response with status 2xx or 304, whose body the caller must close.
func (l *link) send(
	ctx context.Context, method, path string, query url.Values, body []byte, header http.Header,
) (*http.Response, error) {
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
	request.Header.Set(bootHeader, l.boot)
	response, err := l.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 2 || response.StatusCode == http.StatusNotModified {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	return nil, responseError(response)
}

// responseError reads the explanation in an unwanted response (RFC 9457).
func responseError(response *http.Response) error {
	e := &statusError{status: response.StatusCode}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.after = time.Duration(min(seconds, maxRetryAfter)) * time.Second
	}
	if name := response.Header.Get(cellHeader); e.status == http.StatusForbidden && cells.ValidName(name) {
		e.cell = name
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxProblem)) // the status is enough
	var problem struct {
		Title, Detail string
		Errors        []struct{ Location string }
	}
	if json.Unmarshal(text, &problem) == nil {
		e.detail = words.Clip(cmp.Or(strings.TrimSpace(problem.Detail), strings.TrimSpace(problem.Title)), 500)
		if len(problem.Errors) > 0 {
			e.location = problem.Errors[0].Location
		}
	}
	return e
}

type pollResponse struct {
	desired *cells.Desired // nil: unchanged since etag
	etag    string
	pause   time.Duration // before the next poll; zero: none
}

// callContext returns a context that ends within a time of having a connection; to connect may take connectTimeout.
func callContext(ctx context.Context, within time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(connectTimeout+within, func() { end(context.DeadlineExceeded) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { timer.Reset(within) },
	})
	return ctx, func() { timer.Stop(); end(nil) }
}

// nextPoll is the header with the seconds until the next poll.
const nextPoll = "Sluice-Next-Poll"

// pollDesired requests the desired state, and waits up to wait for it to differ from etag's.
func (c *Client) pollDesired(ctx context.Context, etag string, wait time.Duration) (pollResponse, error) {
	return c.requestDesired(ctx, c.link.Load(), etag, wait)
}

func (c *Client) requestDesired(ctx context.Context, l *link, etag string, wait time.Duration) (pollResponse, error) {
	ctx, cancel := callContext(ctx, wait+15*time.Second)
	defer cancel()
	query := url.Values{"cell": {c.cell}, "wait": {wait.String()}}
	header := http.Header{"Accept": {"application/json"}}
	if etag != "" {
		header.Set("If-None-Match", etag)
	}
	response, err := l.send(ctx, http.MethodGet, "/v1/desired", query, nil, header)
	if err != nil {
		return pollResponse{}, fmt.Errorf("request the desired state: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	t := pollResponse{etag: etag}
	if seconds, err := strconv.Atoi(response.Header.Get(nextPoll)); err == nil && seconds > 0 {
		t.pause = time.Duration(min(seconds, maxNextPoll)) * time.Second
	}
	if response.StatusCode == http.StatusNotModified {
		return t, nil
	}
	text, err := readLimited(response.Body, MaxDesired)
	if err != nil {
		return pollResponse{}, fmt.Errorf("request the desired state: %w", err)
	}
	if t.desired, err = c.decodeDesired(text); err != nil {
		return pollResponse{}, fmt.Errorf("request the desired state: %w", err)
	}
	t.etag = response.Header.Get("ETag")
	return t, nil
}

// decodeDesired decodes the desired state, from a stream or a poll.
func (c *Client) decodeDesired(text []byte) (*cells.Desired, error) {
	var d cells.Desired
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("the response is malformed: %w", err)
	}
	if d.Cell != "" && d.Cell != c.cell {
		return nil, fmt.Errorf("the response is for cell %q", words.Clip(d.Cell, 100))
	}
	if d.Flags != nil && len(d.Flags.Bundle.Content) > 0 {
		d.Flags.Bundle.Content = unpackBundle(d.Flags.Bundle.Content)
	}
	return &d, nil
}

// unpackBundle returns what was compressed with zstd; nil if it is damaged or large: then the bundle is fetched.
func unpackBundle(packed []byte) []byte {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(cells.MaxBundleContent))
	if err != nil {
		return nil
	}
	defer decoder.Close()
	raw, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		return nil
	}
	return raw
}

// postReport sends a report and returns once it is durable in the control plane. The returned connection is nil
// without TLS.
func (c *Client) postReport(
	ctx context.Context, body []byte,
) (receipt cells.Receipt, connection *tls.ConnectionState, err error) {
	ctx, cancel := callContext(ctx, 30*time.Second)
	defer cancel()
	sent := c.clock.ReadMachine()
	response, err := c.send(ctx, http.MethodPost, "/v1/reports", nil, body,
		http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return receipt, nil, fmt.Errorf("report: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := decodeJSON(response.Body, maxReceipt, &receipt); err != nil {
		return cells.Receipt{}, nil, fmt.Errorf("report: %w", err)
	}
	c.clock.AddSample(receipt.Time, sent)
	return receipt, response.TLS, nil
}

// fetchJSON requests a document of at most limit bytes. what is said in errors.
func fetchJSON[T any](ctx context.Context, c *Client, what, path string, query url.Values, limit int64) (T, error) {
	ctx, cancel := callContext(ctx, 30*time.Second)
	defer cancel()
	var document, none T
	response, err := c.send(ctx, http.MethodGet, path, query, nil, nil)
	if err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := decodeJSON(response.Body, limit, &document); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	return document, nil
}

func decodeJSON(r io.Reader, limit int64, into any) error {
	text, err := readLimited(r, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the response is malformed: %w", err)
	}
	return nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("the response has more than %d bytes", limit)
	}
	return text, err
}
