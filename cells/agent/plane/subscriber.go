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
	// A brisk answer is one that comes sooner than this although it may wait. After a few in a row without news, the
	// subscriber slows down, since the server does not wait. News is read at once, but at a bounded rate.
	briskAnswer     = 200 * time.Millisecond
	maxBriskRepeats = 4
	maxBriskPause   = 5 * time.Second
	maxBriskNews    = 25
	newsPause       = 250 * time.Millisecond

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
	repeats       int // brisk answers in a row without news
	newsInRow     int // brisk answers in a row with news
	shortStreams  int // streams in a row that ended early
	brokenStreams int // streams in a row that broke
	fallbacks     int // in a row, without a stream that lived
	lastNews      time.Time
	nextStream    time.Time // no stream is tried before
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
		_ = backoff.Sleep(ctx, p.client.RetryPause(err, p.failures))
		p.failures++
	}
}

func (p *subscriber) noteAnswer() {
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

// pollOnce polls once, and waits as long as the answer asks for or calls for.
func (p *subscriber) pollOnce(ctx context.Context) error {
	begun := time.Now()
	t, err := p.client.pollDesired(ctx, p.etag, p.client.pollWait)
	if err != nil {
		return err
	}
	p.noteAnswer()
	changed := t.etag != p.etag
	p.etag = t.etag
	if t.desired != nil {
		p.deliver(ctx, t.desired)
	}
	switch {
	case time.Since(begun) >= briskAnswer:
		p.repeats, p.newsInRow = 0, 0
	case changed:
		p.repeats, p.newsInRow = 0, p.newsInRow+1
	default:
		p.repeats++
	}
	switch {
	case t.pause > 0:
		_ = backoff.Sleep(ctx, t.pause)
	case p.repeats >= maxBriskRepeats:
		pause := backoff.Exponential(minRetryPause, maxBriskPause, p.repeats-maxBriskRepeats)
		_ = backoff.Sleep(ctx, backoff.FullJitter(pause))
	case p.newsInRow >= maxBriskNews:
		_ = backoff.Sleep(ctx, newsPause)
	}
	return nil
}

// streamOnce reads one stream to its end. An error means that the control plane did not answer, or not well. That
// streams don't work here is no error.
func (p *subscriber) streamOnce(ctx context.Context) error {
	begun := time.Now()
	stayAway, err := p.readStream(ctx)
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
	_ = backoff.Sleep(ctx, max(stayAway, retryPause(endedStreamFailures+p.shortStreams)))
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
