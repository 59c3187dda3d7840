package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

const (
	maxDesired = 1 << 20
	maxReceipt = 64 << 10
	maxProblem = 4 << 10 // of an error's body
	maxWindow  = 32 << 20
)

// client speaks the control plane's protocol for one cell. It is safe for concurrent use.
type client struct {
	base string // without a slash at its end
	cell string
	http *http.Client
}

// newClient takes http://HOST:PORT or unix:///PATH of a socket.
func newClient(server, cell string) (*client, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("control plane %q: %w", server, err)
	}
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConns:          4,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 0, // a long-poll's answer may take its time: each call has a limit of its own
		DisableCompression:    true,
	}
	base := strings.TrimRight(server, "/")
	switch {
	case u.Scheme == "unix" && u.Path != "":
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", u.Path)
		}
		base = "http://sluice"
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return nil, fmt.Errorf("control plane %q: give http://HOST:PORT or unix:///PATH", server)
	}
	return &client{base: base, cell: cell, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
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

// pause says how long to wait after a number of failures in a row, the last being err (R33).
func pause(err error, failures int) time.Duration {
	var s *statusError
	if !errors.As(err, &s) {
		return backoff(failures, retryCap)
	}
	switch {
	case s.after > 0:
		return s.after + rand.N(s.after/2+1) //nolint:gosec // jitter
	case s.status == http.StatusUnauthorized:
		return jittered(deniedPause)
	default:
		return backoff(failures, retryCap)
	}
}

// do sends a request and hands over an answer of 2xx or 304. Closing its body is the caller's.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body []byte, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	target := c.base + path
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
	response, err := c.http.Do(request)
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
		e.after = min(time.Duration(seconds)*time.Second, time.Hour)
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxProblem)) // the status says enough
	var problem struct{ Title, Detail string }
	if json.Unmarshal(text, &problem) == nil {
		e.detail = clip(strings.TrimSpace(problem.Title+" "+problem.Detail), 500)
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
	ctx, cancel := context.WithTimeout(ctx, wait+15*time.Second)
	defer cancel()
	query := url.Values{"cell": {c.cell}, "wait": {wait.String()}}
	header := http.Header{"Accept": {"application/json"}}
	if etag != "" {
		header.Set("If-None-Match", etag)
	}
	response, err := c.do(ctx, http.MethodGet, "/v1/desired", query, nil, header)
	if err != nil {
		return told{}, fmt.Errorf("ask what to run: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	t := told{etag: etag}
	if seconds, err := strconv.Atoi(response.Header.Get(nextPoll)); err == nil && seconds > 0 {
		t.after = min(time.Duration(seconds)*time.Second, retryCap)
	}
	if response.StatusCode == http.StatusNotModified {
		return t, nil
	}
	var d cells.Desired
	if err := decode(response.Body, maxDesired, &d); err != nil {
		return told{}, fmt.Errorf("ask what to run: %w", err)
	}
	if d.Cell != "" && d.Cell != c.cell {
		return told{}, fmt.Errorf("ask what to run: the answer is for cell %q", clip(d.Cell, 100))
	}
	t.desired, t.etag = &d, response.Header.Get("ETag")
	return t, nil
}

// report hands a report over and returns once it is durable there.
func (c *client) report(ctx context.Context, body []byte) (cells.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	response, err := c.do(ctx, http.MethodPost, "/v1/reports", nil, body, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return cells.Receipt{}, fmt.Errorf("report: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var receipt cells.Receipt
	if err := decode(response.Body, maxReceipt, &receipt); err != nil {
		return cells.Receipt{}, fmt.Errorf("report: %w", err)
	}
	return receipt, nil
}

// content gives a release's canonical tar as it comes: of at most limit bytes on the wire, and not verified.
func (c *client) content(ctx context.Context, d releases.Digest, limit int64) (io.ReadCloser, error) {
	response, err := c.do(ctx, http.MethodGet, "/v1/releases/"+string(d), url.Values{"cell": {c.cell}}, nil,
		http.Header{"Accept-Encoding": {"zstd"}})
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", d, err)
	}
	wire := http.MaxBytesReader(nil, response.Body, limit)
	switch encoding := response.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return wire, nil
	case "zstd":
		z, err := zstd.NewReader(wire, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("fetch %s: %w", d, err), wire.Close())
		}
		return unzstd{z, wire}, nil
	default:
		return nil, errors.Join(fmt.Errorf("fetch %s: it comes as %q, which was not asked for", d, clip(encoding, 40)), wire.Close())
	}
}

// unzstd closes a decoder and what it reads from.
type unzstd struct {
	*zstd.Decoder
	wire io.Closer
}

func (u unzstd) Close() error {
	u.Decoder.Close()
	return u.wire.Close()
}

func decode(r io.Reader, limit int64, into any) error {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if int64(len(text)) > limit {
		return fmt.Errorf("the answer has more than %d bytes", limit)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer is not what was asked for: %w", err)
	}
	return nil
}
