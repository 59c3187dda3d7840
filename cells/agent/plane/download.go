package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

const (
	maxZstdWindow       = 8 << 20          // bytes: what the control plane's encoder uses, and RFC 8878 advises to take
	stallTimeout        = 30 * time.Second // without a byte of content
	maxDownloadFailures = 4                // connections in a row that bring no content, until the download fails
)

// download is content on the wire, not verified. If a connection breaks or stalls, another one continues. One goroutine
// uses a download.
type download struct {
	client *Client
	ctx    context.Context //nolint:containedctx // of the whole download
	path   string
	digest releases.Digest
	limit  int64 // bytes on the wire, for each connection

	part            *partResponse
	received        int64 // bytes of content returned by Read
	failures        int   // connections in a row that brought no content
	connectionError error // why the download failed, if a connection was the cause; nil: none was
}

// OpenContent opens the content with a digest, of at most limit bytes on the wire: see content.Source.
func (c *Client) OpenContent(
	ctx context.Context, kind content.Kind, digest releases.Digest, limit int64,
) (content.Stream, error) {
	d := &download{client: c, ctx: ctx, path: "/v1/" + string(kind) + "/", digest: digest, limit: limit}
	var err error
	if d.part, err = d.open(http.Header{"Accept-Encoding": {"zstd"}}); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", digest, err)
	}
	return d, nil
}

func (d *download) Read(b []byte) (int, error) {
	for {
		n, err := d.part.decoded.Read(b)
		if n > 0 {
			d.received += int64(n)
			d.failures = 0
			return n, nil // the next call returns the error again
		}
		if err == nil || d.part.connectionError == nil {
			return 0, err
		}
		if err := d.resume(d.part.connectionError); err != nil {
			return 0, err
		}
	}
}

// resume requests the rest after a connection failed, for the reason cause.
func (d *download) resume(cause error) error {
	for {
		d.part.close()
		if d.failures++; d.failures > maxDownloadFailures {
			d.connectionError = cause
			return cause
		}
		_ = backoff.Sleep(d.ctx, d.client.RetryPause(cause, d.failures-1))
		next, err := d.openRest()
		if err == nil {
			d.part = next
			return nil
		}
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		var refused *statusError
		responded := errors.As(err, &refused)
		switch {
		case responded && refused.status == http.StatusRequestedRangeNotSatisfiable:
			return io.EOF // all bytes had come; the digest is verified later
		case responded && refused.status/100 == 4 && refused.status != http.StatusTooManyRequests:
			// a retry would fail too
			d.connectionError = err
			return err
		}
		cause = err
	}
}

// openRest requests the content from byte d.received on. Ranges refer to the content itself, never to compressed bytes.
func (d *download) openRest() (*partResponse, error) {
	tag := `"` + string(d.digest) + `"`
	p, err := d.open(http.Header{"Range": {fmt.Sprintf("bytes=%d-", d.received)}, "If-Range": {tag},
		"Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	switch {
	case p.status == http.StatusOK: // a proxy does not support ranges
		_, err = io.CopyN(io.Discard, p.decoded, d.received)
	case p.status != http.StatusPartialContent ||
		!strings.HasPrefix(p.contentRange, fmt.Sprintf("bytes %d-", d.received)):
		err = fmt.Errorf("the bytes from %d on were requested, and the response was %d %q", d.received, p.status,
			words.Clip(p.contentRange, 40))
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// ConnectionError returns why the download failed, if a connection was the cause: see content.Stream.
func (d *download) ConnectionError() error { return d.connectionError }

func (d *download) Close() error { return d.part.close() }

// partResponse is the part of the content that comes over one connection.
type partResponse struct {
	decoded      io.Reader
	status       int
	contentRange string // Content-Range

	ctx             context.Context //nolint:containedctx // of the request that it answers
	cancel          context.CancelCauseFunc
	stallTimer      *time.Timer
	body            io.ReadCloser
	decoder         *zstd.Decoder // nil: not compressed
	connectionError error         // nil: the connection has not failed
}

func (d *download) open(header http.Header) (*partResponse, error) {
	p := &partResponse{}
	p.ctx, p.cancel = context.WithCancelCause(d.ctx)
	p.stallTimer = time.AfterFunc(stallTimeout,
		func() { p.cancel(fmt.Errorf("nothing was received for %s", stallTimeout)) })
	response, err := d.client.send(p.ctx, http.MethodGet, d.path+string(d.digest), url.Values{"cell": {d.client.cell}},
		nil, header)
	if err != nil {
		return nil, errors.Join(p.cause(err), p.close())
	}
	p.status, p.contentRange = response.StatusCode, response.Header.Get("Content-Range")
	p.body = http.MaxBytesReader(nil, response.Body, d.limit)
	wire := wireReader{p}
	switch encoding := response.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		p.decoded = wire
	case "zstd":
		p.decoder, err = zstd.NewReader(wire, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		p.decoded = p.decoder
	default:
		err = fmt.Errorf("the response has encoding %q, which was not requested", words.Clip(encoding, 40))
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

type wireReader struct{ *partResponse }

func (w wireReader) Read(b []byte) (int, error) {
	n, err := w.body.Read(b)
	if n > 0 {
		w.stallTimer.Reset(stallTimeout)
	}
	var large *http.MaxBytesError
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &large) {
		err = w.cause(err)
		w.connectionError = err
	}
	return n, err
}

// cause returns why the request was cancelled, or else err.
func (p *partResponse) cause(err error) error {
	if cause := context.Cause(p.ctx); cause != nil {
		return cause
	}
	return err
}

// close ends the request; further calls do nothing.
func (p *partResponse) close() error {
	p.stallTimer.Stop()
	p.cancel(nil)
	if p.decoder != nil {
		p.decoder.Close()
	}
	if p.body == nil {
		return nil
	}
	body := p.body
	p.body = nil
	return body.Close()
}
