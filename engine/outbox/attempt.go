package outbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
)

const maxBodyBytes = 4 << 10 // how much of a body is read, so that the connection can be reused

const goneReason = "answered 410 Gone: nothing is sent until its URL changes"

// sink is a place that messages are delivered to.
type sink interface {
	// deliver delivers the first of messages, which are due and oldest first, and as many of those behind it as one
	// delivery can cover.
	deliver(ctx context.Context, messages []plan.Message) (covered int, r attemptResult)
	// address says where the sink is. It is compared only: a sink that is gone is tried again under another address.
	address() string
}

type attemptResult struct {
	ok, gone    bool
	messageOnly bool          // the failure concerns only this message
	final       bool          // and trying again would change nothing
	retryAfter  time.Duration // the delay that the sink asks for
	why         string        // for people, without addresses
	err         error         // for the log
}

func failed(why string, err error) attemptResult { return attemptResult{why: why, err: err} }

// poster posts bodies over HTTP.
type poster struct {
	client  *http.Client
	timeout time.Duration
}

func (p poster) post(ctx context.Context, address, contentType string, body []byte,
	sign func(http.Header) error) attemptResult {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return failed("its URL is invalid", stripURL(err))
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "sluice")
	if sign != nil {
		if err := sign(r.Header); err != nil {
			return failed("gets no messages, since nothing can be signed: "+err.Error(), err)
		}
	}
	w, err := p.client.Do(r)
	if err != nil {
		err = stripURL(err)
		return failed(explainError(err, p.timeout), err)
	}
	defer w.Body.Close()
	_, _ = io.CopyN(io.Discard, w.Body, maxBodyBytes) // the text of the response is not used
	return judgeResponse(w, time.Now())
}

func judgeResponse(w *http.Response, now time.Time) attemptResult {
	why := "answered " + strconv.Itoa(w.StatusCode) + " " + http.StatusText(w.StatusCode)
	switch {
	case w.StatusCode >= 200 && w.StatusCode < 300:
		return attemptResult{ok: true}
	case w.StatusCode == http.StatusGone:
		return attemptResult{gone: true, why: goneReason, err: errors.New(why)}
	case w.StatusCode >= 300 && w.StatusCode < 400:
		why += ": redirects are not followed, give the webhook's own URL"
	}
	status := w.StatusCode
	alone := status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooEarly &&
		status != http.StatusTooManyRequests
	return attemptResult{messageOnly: alone, retryAfter: parseRetryAfter(w.Header.Get("Retry-After"), now), why: why,
		err: errors.New(why)}
}

// parseRetryAfter parses the header as in RFC 9110 section 10.2.3: seconds, or a date.
func parseRetryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

func stripURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// explainError returns why a sink could not be reached, in words that are safe to show.
func explainError(err error, timeout time.Duration) string {
	var (
		late net.Error
		name *net.DNSError
		cert *tls.CertificateVerificationError
		host x509.HostnameError
	)
	switch {
	case errors.As(err, &late) && late.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("did not answer within %v", timeout)
	case errors.Is(err, reach.ErrOutside):
		return "is not where webhooks may be: sluice serve --webhooks-reach lists that"
	case errors.As(err, &name):
		return "its host is unknown"
	case errors.As(err, &cert), errors.As(err, &host):
		return "its certificate is invalid"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses connections"
	}
	return "can't be reached; the log of sluice serve says why"
}
