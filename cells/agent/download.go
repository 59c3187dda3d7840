package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/releases"
)

const (
	maxWindow    = 32 << 20         // of zstd, in bytes
	stallTimeout = 30 * time.Second // without a byte of a release
)

// download is a release's canonical tar as it comes, not verified. A connection over which nothing more comes is given up.
type download struct {
	io.Reader // the tar

	ctx     context.Context //nolint:containedctx // of the request that it answers
	cancel  context.CancelCauseFunc
	stalled *time.Timer
	body    io.ReadCloser
	decoder *zstd.Decoder // nil: it comes as it is
	failed  error         // of the connection; nil: it went well so far
}

// content asks for a release, of at most limit bytes on the wire.
func (c *client) content(ctx context.Context, digest releases.Digest, limit int64) (*download, error) {
	d := &download{}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	d.stalled = time.AfterFunc(stallTimeout, func() { d.cancel(fmt.Errorf("nothing came for %s", stallTimeout)) })
	response, err := c.do(d.ctx, http.MethodGet, "/v1/releases/"+string(digest), url.Values{"cell": {c.cell}}, nil,
		http.Header{"Accept-Encoding": {"zstd"}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fetch %s: %w", digest, d.cause(err)), d.Close())
	}
	d.body = http.MaxBytesReader(nil, response.Body, limit)
	wire := wireOf{d}
	switch encoding := response.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		d.Reader = wire
	case "zstd":
		d.decoder, err = zstd.NewReader(wire, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		d.Reader = d.decoder
	default:
		err = fmt.Errorf("it comes as %q, which was not asked for", clip(encoding, 40))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fetch %s: %w", digest, err), d.Close())
	}
	return d, nil
}

// wireOf reads what comes over the connection.
type wireOf struct{ *download }

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
func (d *download) cause(err error) error {
	if cause := context.Cause(d.ctx); cause != nil {
		return cause
	}
	return err
}

// Close ends it, wherever it is.
func (d *download) Close() error {
	d.stalled.Stop()
	d.cancel(nil)
	if d.decoder != nil {
		d.decoder.Close()
	}
	if d.body == nil {
		return nil
	}
	return d.body.Close()
}
