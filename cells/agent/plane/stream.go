package plane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	heartbeat         = 15 * time.Second            // how often the control plane sends one on a stream
	silenceTimeout    = 2*heartbeat + 2*time.Second // two missed heartbeats: the stream is dead (R33)
	firstEventTimeout = 5 * time.Second             // a proxy buffers the stream if nothing comes within that time
	healthyStreamAge  = 2 * heartbeat               // a stream that stayed open for so long works
)

var (
	// errNoStream says that streams don't work here. Polls may.
	errNoStream = errors.New("no stream")
	// errStreamBroken says that a stream ended early or is malformed.
	errStreamBroken = errors.New("the stream broke")

	errNoFirstEvent    = fmt.Errorf("%w: nothing was received within %s", errNoStream, firstEventTimeout)
	errHeartbeatMissed = fmt.Errorf("%w: nothing was received for %s", errNoStream, silenceTimeout)
	errLinkReplaced    = errors.New("the cell's key was replaced")
)

// watchdog cancels a stream that is silent for too long.
type watchdog struct {
	timer    *time.Timer
	received atomic.Bool
}

func newWatchdog(end context.CancelCauseFunc) *watchdog {
	w := &watchdog{}
	w.timer = time.AfterFunc(connectTimeout, func() {
		if w.received.Load() {
			end(errHeartbeatMissed)
		} else {
			end(errNoFirstEvent)
		}
	})
	return w
}

func (w *watchdog) requestSent() { w.timer.Reset(firstEventTimeout) }

func (w *watchdog) lineReceived() {
	w.received.Store(true)
	w.timer.Reset(silenceTimeout)
}

// readStream reads a stream to its end. retryAfter is the pause that the control plane requested; 0: none.
func (p *subscriber) readStream(ctx context.Context) (retryAfter time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := p.client.link.Load()
	go func() {
		select {
		case <-l.replaced:
			cancel(errLinkReplaced)
		case <-ctx.Done():
		}
	}()
	w := newWatchdog(cancel)
	defer w.timer.Stop()
	causeOf := func(err error) error { // returns why the stream was cancelled, rather than the read error
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errLinkReplaced):
			return nil
		case cause != nil:
			return cause
		default:
			return err
		}
	}
	body, connection, err := p.openStream(ctx, l, w)
	if err != nil {
		return 0, causeOf(err)
	}
	defer func() { _ = body.Close() }()
	s := newEventReader(ctx, body, w.lineReceived)
	for {
		e, err := s.readEvent()
		if errors.Is(err, io.EOF) && s.retry > 0 && context.Cause(ctx) == nil {
			return s.retry, nil // the server announced the end
		}
		if err != nil {
			return s.retry, causeOf(fmt.Errorf("%w: %w", errStreamBroken, err))
		}
		if !p.client.trustsConnection(connection) {
			return s.retry, nil // the pins have changed since the handshake
		}
		p.resetFailures()
		if err := p.handleEvent(ctx, e); err != nil {
			return s.retry, err
		}
	}
}

// openStream requests a stream of the desired state, from the last known state on.
func (p *subscriber) openStream(
	ctx context.Context, l *link, w *watchdog,
) (io.ReadCloser, *tls.ConnectionState, error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { w.requestSent() },
	})
	header := http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
	if p.etag != "" {
		header.Set("Last-Event-ID", p.etag)
	}
	response, err := l.send(ctx, http.MethodGet, "/v1/desired", url.Values{"cell": {p.client.cell}}, nil, header)
	var refused *statusError
	if errors.As(err, &refused) {
		switch refused.status {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
			http.StatusUnsupportedMediaType, http.StatusNotImplemented:
			return nil, nil, fmt.Errorf("%w: %w", errNoStream, err)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open the stream of the desired state: %w", err)
	}
	contentType := response.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(contentType)
	if response.StatusCode != http.StatusOK || err != nil || kind != "text/event-stream" {
		err := fmt.Errorf("%w: the response has type %s", errNoStream, words.Clip(contentType, 80))
		return nil, nil, errors.Join(err, response.Body.Close())
	}
	return response.Body, response.TLS, nil
}

// handleEvent delivers the desired state. It pauses if many changes come in a row.
func (p *subscriber) handleEvent(ctx context.Context, e event) error {
	if e.name != "desired" {
		return nil // a heartbeat, or an event of a later protocol
	}
	d, err := p.client.decodeDesired(e.data)
	if err != nil {
		return fmt.Errorf("%w: %w", errStreamBroken, err)
	}
	p.etag = e.id
	p.deliver(ctx, d)
	if time.Since(p.lastChange) >= briskAnswer {
		p.briskChanges = 0
	}
	p.lastChange = time.Now()
	if p.briskChanges++; p.briskChanges >= maxBriskChanges {
		_ = backoff.Sleep(ctx, briskChangePause)
	}
	return nil
}
