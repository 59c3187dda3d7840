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
	// An answer that comes sooner than this to a question that may wait is brisk. After a few in a row that say
	// nothing new the puller slows down: the other side does not wait. News is read at once, but not without end.
	briskAnswer     = 200 * time.Millisecond
	maxBriskRepeats = 4
	maxBriskPause   = 5 * time.Second
	maxBriskNews    = 25
	newsPause       = 250 * time.Millisecond

	// Where streams don't work it is polled for a while, longer each time, before another one is tried (R33).
	minPollPeriod = 5 * time.Minute
	maxPollPeriod = time.Hour
	// maxBrokenStreams in a row, none of which lived for long, mean that streams don't work here.
	maxBrokenStreams = 3
)

// subscriber hears what the cell should run, by a stream if one comes through, else by polls that wait. It hands over
// each answer. One goroutine uses it.
type subscriber struct {
	client          *Client
	handler         Handler
	rotateRequested chan bool // of one: whether a new key is asked for

	etag          string
	failures      int // in a row
	repeats       int // brisk answers in a row that said nothing new
	newsInRow     int // and that did
	shortStreams  int // streams in a row that did not live for long
	brokenStreams int // and that ended before their time
	fallbacks     int // in a row, without a stream that lived
	lastNews      time.Time
	nextStream    time.Time // no stream before
}

// run ends with ctx.
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
			p.client.log.Warn().Err(err).Msg("the control plane can't be asked; what runs keeps running")
		}
		_ = backoff.Sleep(ctx, p.client.RetryPause(err, p.failures))
		p.failures++
	}
}

// noteAnswer: the control plane said something that was understood.
func (p *subscriber) noteAnswer() {
	if p.failures > 0 {
		p.client.log.Info().Int("failures", p.failures).Msg("the control plane answers again")
		p.failures = 0
	}
}

// deliver passes on what is desired.
func (p *subscriber) deliver(ctx context.Context, d *cells.Desired) {
	select { // only the newest word counts
	case <-p.rotateRequested:
	default:
	}
	p.rotateRequested <- requestsNewKey(d)
	p.handler.HandleDesired(ctx, d)
}

// pollOnce asks once, and waits as long as the answer says or means.
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
		_ = backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(minRetryPause, maxBriskPause, p.repeats-maxBriskRepeats)))
	case p.newsInRow >= maxBriskNews:
		_ = backoff.Sleep(ctx, newsPause)
	}
	return nil
}

// streamOnce listens until the stream ends. An error says that the control plane did not answer, or not well; that streams
// don't come through here is none.
func (p *subscriber) streamOnce(ctx context.Context) error {
	begun := time.Now()
	again, err := p.readStream(ctx)
	if ctx.Err() != nil {
		return nil
	}
	p.shortStreams++
	if time.Since(begun) >= healthyStreamAge {
		p.shortStreams, p.brokenStreams, p.fallbacks = 0, 0, 0
	}
	var refused *statusError
	switch {
	case err == nil: // it ended well
	case errors.Is(err, errNoStream):
		p.fallBackToPolls(err)
		return nil
	case errors.As(err, &refused):
		if refused.status == http.StatusUnauthorized || refused.status == http.StatusServiceUnavailable {
			return err // a poll would be told the same
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
		return err // nobody was reached
	}
	// As when the control plane is started anew: not all cells come back at one instant.
	_ = backoff.Sleep(ctx, max(again, retryPause(endedStreamFailures+p.shortStreams)))
	return nil
}

// endedStreamFailures makes the first pause after the end of a stream that lived up to 800 ms.
const endedStreamFailures = 3

// fallBackToPolls polls for a while.
func (p *subscriber) fallBackToPolls(why error) {
	wait := min(minPollPeriod<<min(p.fallbacks, 10), maxPollPeriod)
	p.client.log.Info().AnErr("why", why).Dur("for", wait).Msg("no stream comes through; it polls")
	p.nextStream = time.Now().Add(backoff.Shorten(wait))
	p.brokenStreams = 0
	p.fallbacks++
}
