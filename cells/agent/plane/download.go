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
	maxWindow    = 32 << 20         // of zstd, in bytes
	stallTimeout = 30 * time.Second // without a byte of content
	inVain       = 4                // connections in a row that bring nothing of it, until it is given up
)

// download is content as it comes, not verified. Where a connection breaks, or nothing more comes over
// it, the rest is asked for over another. One goroutine uses it.
type download struct {
	client *Client
	ctx    context.Context //nolint:containedctx // of the whole
	path   string
	digest releases.Digest
	limit  int64 // bytes on the wire, of each connection

	part   *part
	got    int64 // bytes of it that were handed out
	vain   int   // connections in a row that brought nothing
	failed error // why it was given up, if that was for a connection; nil: it went well so far
}

// Content asks for what has a digest, of at most limit bytes on the wire: see content.Source.
func (c *Client) Content(ctx context.Context, kind content.Kind, digest releases.Digest, limit int64) (content.Stream, error) {
	d := &download{client: c, ctx: ctx, path: "/v1/" + string(kind) + "/", digest: digest, limit: limit}
	var err error
	if d.part, err = d.open(http.Header{"Accept-Encoding": {"zstd"}}); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", digest, err)
	}
	return d, nil
}

// Read reads on, over another connection if one breaks.
func (d *download) Read(b []byte) (int, error) {
	for {
		n, err := d.part.plain.Read(b)
		if n > 0 {
			d.got += int64(n)
			d.vain = 0
			return n, nil // an error comes again
		}
		if err == nil || d.part.failed == nil {
			return 0, err
		}
		if err := d.goOn(d.part.failed); err != nil {
			return 0, err
		}
	}
}

// goOn asks for the rest, after a connection failed.
func (d *download) goOn(failed error) error {
	for {
		d.part.close()
		if d.vain++; d.vain > inVain {
			d.failed = failed
			return failed
		}
		_ = backoff.Sleep(d.ctx, d.client.Pause(failed, d.vain-1))
		next, err := d.rest()
		if err == nil {
			d.part = next
			return nil
		}
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		var refused *statusError
		known := errors.As(err, &refused)
		switch {
		case known && refused.status == http.StatusRequestedRangeNotSatisfiable:
			return io.EOF // it was all there; the digest tells
		case known && refused.status/100 == 4 && refused.status != http.StatusTooManyRequests: // not for the connection
			d.failed = err
			return err
		}
		failed = err
	}
}

// rest asks for what comes after what there is. A part is one of the content itself, never of compressed bytes.
func (d *download) rest() (*part, error) {
	tag := `"` + string(d.digest) + `"`
	p, err := d.open(http.Header{"Range": {fmt.Sprintf("bytes=%d-", d.got)}, "If-Range": {tag}, "Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	switch {
	case p.status == http.StatusOK: // somebody in between does not know of parts
		_, err = io.CopyN(io.Discard, p.plain, d.got)
	case p.status != http.StatusPartialContent || !strings.HasPrefix(p.holds, fmt.Sprintf("bytes %d-", d.got)):
		err = fmt.Errorf("the rest from byte %d on was asked for, and %d %q came", d.got, p.status, words.Clip(p.holds, 40))
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// Broken is why it was given up, if that was for a connection: see content.Stream.
func (d *download) Broken() error { return d.failed }

// Close ends it, wherever it is.
func (d *download) Close() error { return d.part.close() }

// part is what comes over one connection.
type part struct {
	plain  io.Reader
	status int
	holds  string // Content-Range

	ctx     context.Context //nolint:containedctx // of the request that it answers
	cancel  context.CancelCauseFunc
	stalled *time.Timer
	body    io.ReadCloser
	decoder *zstd.Decoder // nil: it comes as it is
	failed  error         // of the connection; nil: it went well so far
}

// open asks for the content, or for a part of it.
func (d *download) open(header http.Header) (*part, error) {
	p := &part{}
	p.ctx, p.cancel = context.WithCancelCause(d.ctx)
	p.stalled = time.AfterFunc(stallTimeout, func() { p.cancel(fmt.Errorf("nothing came for %s", stallTimeout)) })
	response, err := d.client.do(p.ctx, http.MethodGet, d.path+string(d.digest), url.Values{"cell": {d.client.cell}}, nil, header)
	if err != nil {
		return nil, errors.Join(p.cause(err), p.close())
	}
	p.status, p.holds = response.StatusCode, response.Header.Get("Content-Range")
	p.body = http.MaxBytesReader(nil, response.Body, d.limit)
	wire := wireOf{p}
	switch encoding := response.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		p.plain = wire
	case "zstd":
		p.decoder, err = zstd.NewReader(wire, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		p.plain = p.decoder
	default:
		err = fmt.Errorf("it comes as %q, which was not asked for", words.Clip(encoding, 40))
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// wireOf reads what comes over the connection.
type wireOf struct{ *part }

func (w wireOf) Read(b []byte) (int, error) {
	n, err := w.body.Read(b)
	if n > 0 {
		w.stalled.Reset(stallTimeout)
	}
	var large *http.MaxBytesError
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &large) {
		err = w.cause(err)
		w.failed = err
	}
	return n, err
}

// cause is why the request was given up, if it was; else err.
func (p *part) cause(err error) error {
	if cause := context.Cause(p.ctx); cause != nil {
		return cause
	}
	return err
}

// close ends it, once.
func (p *part) close() error {
	p.stalled.Stop()
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
