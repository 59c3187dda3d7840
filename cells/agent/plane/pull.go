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
	brisk       = 200 * time.Millisecond
	briskInRow  = 4
	briskCap    = 5 * time.Second
	briskNews   = 25
	betweenNews = 250 * time.Millisecond

	// Where streams don't work it is polled for a while, longer each time, before another one is tried (R33).
	pollFor     = 5 * time.Minute
	pollForMost = time.Hour
	// brokenStreams in a row, none of which lived for long, mean that streams don't work here.
	brokenStreams = 3
)

// puller hears what the cell should run, by a stream if one comes through, else by polls that wait. It hands over
// each answer. One goroutine uses it.
type puller struct {
	client  *Client
	handler Handler
	asked   chan bool // of one: whether a new key is asked for

	etag      string
	failures  int // in a row
	quick     int // brisk answers in a row that said nothing new
	news      int // and that did
	short     int // streams in a row that did not live for long
	broken    int // and that ended before their time
	fallbacks int // in a row, without a stream that lived
	newsAt    time.Time
	streamAt  time.Time // no stream before
}

// run ends with ctx.
func (p *puller) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		if time.Now().Before(p.streamAt) {
			err = p.poll(ctx)
		} else {
			err = p.stream(ctx)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if p.failures == 0 {
			p.client.log.Warn().Err(err).Msg("the control plane can't be asked; what runs keeps running")
		}
		_ = backoff.Sleep(ctx, p.client.Pause(err, p.failures))
		p.failures++
	}
}

// answered: the control plane said something that was understood.
func (p *puller) answered() {
	if p.failures > 0 {
		p.client.log.Info().Int("failures", p.failures).Msg("the control plane answers again")
		p.failures = 0
	}
}

// hand passes on what is desired.
func (p *puller) hand(ctx context.Context, d *cells.Desired) {
	select { // only the newest word counts
	case <-p.asked:
	default:
	}
	p.asked <- asksForKey(d)
	p.handler.Desired(ctx, d)
}

// poll asks once, and waits as long as the answer says or means.
func (p *puller) poll(ctx context.Context) error {
	begun := time.Now()
	t, err := p.client.desired(ctx, p.etag, p.client.pollWait)
	if err != nil {
		return err
	}
	p.answered()
	changed := t.etag != p.etag
	p.etag = t.etag
	if t.desired != nil {
		p.hand(ctx, t.desired)
	}
	switch {
	case time.Since(begun) >= brisk:
		p.quick, p.news = 0, 0
	case changed:
		p.quick, p.news = 0, p.news+1
	default:
		p.quick++
	}
	switch {
	case t.after > 0:
		_ = backoff.Sleep(ctx, t.after)
	case p.quick >= briskInRow:
		_ = backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(firstPause, briskCap, p.quick-briskInRow)))
	case p.news >= briskNews:
		_ = backoff.Sleep(ctx, betweenNews)
	}
	return nil
}

// stream listens until the stream ends. An error says that the control plane did not answer, or not well; that streams
// don't come through here is none.
func (p *puller) stream(ctx context.Context) error {
	begun := time.Now()
	again, err := p.listen(ctx)
	if ctx.Err() != nil {
		return nil
	}
	p.short++
	if time.Since(begun) >= streamLives {
		p.short, p.broken, p.fallbacks = 0, 0, 0
	}
	var refused *statusError
	switch {
	case err == nil: // it ended well
	case errors.Is(err, errNoStream):
		p.fallBack(err)
		return nil
	case errors.As(err, &refused):
		if refused.status == http.StatusUnauthorized || refused.status == http.StatusServiceUnavailable {
			return err // a poll would be told the same
		}
		if p.broken++; p.broken >= brokenStreams {
			p.fallBack(err)
		}
		return err
	case errors.Is(err, errBroken):
		if p.broken++; p.broken >= brokenStreams {
			p.fallBack(err)
			return nil
		}
	default:
		return err // nobody was reached
	}
	// As when the control plane is started anew: not all cells come back at one instant.
	_ = backoff.Sleep(ctx, max(again, retryPause(endedPause+p.short)))
	return nil
}

// endedPause makes the first pause after the end of a stream that lived up to 800 ms.
const endedPause = 3

// fallBack polls for a while.
func (p *puller) fallBack(why error) {
	wait := min(pollFor<<min(p.fallbacks, 10), pollForMost)
	p.client.log.Info().AnErr("why", why).Dur("for", wait).Msg("no stream comes through; it polls")
	p.streamAt = time.Now().Add(backoff.Shorten(wait))
	p.broken = 0
	p.fallbacks++
}
