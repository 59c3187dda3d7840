package plane

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	// An answer that comes sooner than briskAnswer is brisk: the server may wait until the state changes. After
	// maxBriskRepeats unchanged brisk answers in a row the subscriber pauses between polls, up to maxBriskPause. After
	// maxBriskChanges changed ones it pauses for briskChangePause after each.
	briskAnswer      = 200 * time.Millisecond
	maxBriskRepeats  = 4
	maxBriskPause    = 5 * time.Second
	maxBriskChanges  = 25
	briskChangePause = 250 * time.Millisecond

	// Where streams don't work, the subscriber polls for a while, longer each time, before it tries another stream
	// (R33).
	minPollPeriod = 5 * time.Minute
	maxPollPeriod = time.Hour
	// maxBrokenStreams short-lived streams in a row mean that streams don't work here.
	maxBrokenStreams = 3
)

// subscriber receives the desired state, by a stream if one gets through, else by long-polls, and delivers each to the
// handler. One goroutine uses it.
type subscriber struct {
	client          *Client
	handler         Handler
	rotateRequested chan bool // buffer of one: whether a new key is requested

	etag          string
	failures      int // in a row
	briskRepeats  int // brisk answers in a row without a change
	briskChanges  int // brisk answers in a row with a change
	shortStreams  int // streams in a row that ended early
	brokenStreams int // streams in a row that broke
	fallbacks     int // fallbacks to polls in a row
	lastChange    time.Time
	nextStream    time.Time // no stream is tried before this instant
}

func (p *subscriber) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		if time.Now().Before(p.nextStream) {
			err = p.pollOnce(ctx)
		} else {
			err = p.streamOnce(ctx)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if p.failures == 0 {
			p.client.log.Warn().Err(err).Msg("the control plane can't be reached; what runs keeps running")
		}
		p.client.pauseForRetry(ctx, err, p.failures)
		p.failures++
	}
}

// resetFailures begins a new count of failures: the control plane has answered.
func (p *subscriber) resetFailures() {
	if p.failures > 0 {
		p.client.log.Info().Int("failures", p.failures).Msg("the control plane answers again")
		p.failures = 0
	}
}

func (p *subscriber) deliver(ctx context.Context, d *cells.Desired) {
	select { // only the newest counts
	case <-p.rotateRequested:
	default:
	}
	p.rotateRequested <- requestsNewKey(d)
	p.handler.HandleDesired(ctx, d)
}

// pollOnce polls once, then pauses for as long as the answer requests, or if answers are brisk.
func (p *subscriber) pollOnce(ctx context.Context) error {
	begun := time.Now()
	t, err := p.client.pollDesired(ctx, p.etag, p.client.pollWait)
	if err != nil {
		return err
	}
	p.resetFailures()
	changed := t.etag != p.etag
	p.etag = t.etag
	if t.desired != nil {
		p.deliver(ctx, t.desired)
	}
	switch {
	case time.Since(begun) >= briskAnswer:
		p.briskRepeats, p.briskChanges = 0, 0
	case changed:
		p.briskRepeats, p.briskChanges = 0, p.briskChanges+1
	default:
		p.briskRepeats++
	}
	switch {
	case t.pause > 0:
		_ = backoff.Sleep(ctx, t.pause)
	case p.briskRepeats >= maxBriskRepeats:
		pause := backoff.Exponential(minRetryPause, maxBriskPause, p.briskRepeats-maxBriskRepeats)
		_ = backoff.Sleep(ctx, backoff.FullJitter(pause))
	case p.briskChanges >= maxBriskChanges:
		_ = backoff.Sleep(ctx, briskChangePause)
	}
	return nil
}

// streamOnce reads one stream to its end. An error means that the control plane did not answer, or refused. If only
// streams don't work here, streamOnce falls back to polls and returns nil.
func (p *subscriber) streamOnce(ctx context.Context) error {
	begun := time.Now()
	retryAfter, err := p.readStream(ctx)
	if ctx.Err() != nil {
		return nil
	}
	p.shortStreams++
	if time.Since(begun) >= healthyStreamAge {
		p.shortStreams, p.brokenStreams, p.fallbacks = 0, 0, 0
	}
	var refused *statusError
	switch {
	case err == nil: // a normal end
	case errors.Is(err, errNoStream):
		p.fallBackToPolls(err)
		return nil
	case errors.As(err, &refused):
		if refused.status == http.StatusUnauthorized || refused.status == http.StatusServiceUnavailable {
			return err // a poll would get the same answer
		}
		if p.brokenStreams++; p.brokenStreams >= maxBrokenStreams {
			p.fallBackToPolls(err)
		}
		return err
	case errors.Is(err, errStreamBroken):
		if p.brokenStreams++; p.brokenStreams >= maxBrokenStreams {
			p.fallBackToPolls(err)
			return nil
		}
	default:
		return err // the control plane was not reached
	}
	// The control plane may have restarted: not all cells may return at one instant.
	_ = backoff.Sleep(ctx, max(retryAfter, retryPause(endedStreamFailures+p.shortStreams)))
	return nil
}

// endedStreamFailures is the number of failures that the first pause after a stream counts as: up to 800 ms.
const endedStreamFailures = 3

func (p *subscriber) fallBackToPolls(why error) {
	wait := min(minPollPeriod<<min(p.fallbacks, 10), maxPollPeriod)
	p.client.log.Info().AnErr("why", why).Dur("for", wait).Msg("streams don't get through; the agent polls instead")
	p.nextStream = time.Now().Add(backoff.Shorten(wait))
	p.brokenStreams = 0
	p.fallbacks++
}
