package agent

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

const (
	// An answer that comes sooner than this to a question that may wait is brisk. After a few in a row that say
	// nothing new the puller slows down: the other side does not wait. News is read at once, but not without end.
	brisk       = 200 * time.Millisecond
	briskInRow  = 4
	briskCap    = 5 * time.Second
	briskNews   = 25
	betweenNews = 250 * time.Millisecond
)

// pull asks for the cell's assignment, again and again, and hands over each answer. It ends with ctx.
func (a *Agent) pull(ctx context.Context, desired chan<- *cells.Desired) {
	etag, failures, quick, news := "", 0, 0, 0
	for ctx.Err() == nil {
		asked := time.Now()
		t, err := a.client.desired(ctx, etag, a.options.PollWait)
		if err != nil {
			if failures == 0 && ctx.Err() == nil {
				a.options.Log.Warn().Err(err).Msg("the control plane can't be asked; what runs keeps running")
			}
			sleep(ctx, pause(err, failures))
			failures++
			continue
		}
		if failures > 0 {
			a.options.Log.Info().Int("failures", failures).Msg("the control plane answers again")
			failures = 0
		}
		changed := t.etag != etag
		etag = t.etag
		if t.desired != nil {
			select {
			case desired <- t.desired:
			case <-ctx.Done():
			}
		}
		switch {
		case time.Since(asked) >= brisk:
			quick, news = 0, 0
		case changed:
			quick, news = 0, news+1
		default:
			quick++
		}
		switch {
		case t.after > 0:
			sleep(ctx, t.after)
		case quick >= briskInRow:
			sleep(ctx, backoff(quick-briskInRow, briskCap))
		case news >= briskNews:
			sleep(ctx, betweenNews)
		}
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
