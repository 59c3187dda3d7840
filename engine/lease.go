package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	leaseLength   = 10 * time.Second
	leaseInterval = 3 * time.Second
	leaseMargin   = time.Second // clocks don't run alike to the last bit
	resignTimeout = 2 * time.Second
)

// lease is this process's part in who leads. A term is over when its lease may have run out, by this process's own
// monotonic clock, counted from before the lease was asked for: whatever the store would say, nothing is done after that.
type lease struct {
	store   Store
	clocks  *clocks
	signals *signals
	log     zerolog.Logger

	mu          sync.Mutex // guards what follows
	holders     int        // those who want this process to lead now
	term        int64      // the newest that it had
	expires     time.Time
	timer       *time.Timer        // ends ctx at until
	ctx         context.Context    //nolint:containedctx // of the term, not of a call; nil: it never led
	cancel      context.CancelFunc // of ctx
	syncedTerm  int64              // the term in which everything was read again: acts are for that one
	endReported bool               // that the term is over was told
}

// renewTerm begins or prolongs a term. began is false where it only goes on.
func (l *lease) renewTerm(term int64, until time.Time) (began bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(until)
	if left <= 0 {
		return false // the answer took too long
	}
	if l.ctx == nil || l.ctx.Err() != nil || term != l.term {
		if l.cancel != nil {
			l.timer.Stop()
			l.cancel()
		}
		l.ctx, l.cancel = context.WithCancel(context.Background())
		l.timer = time.AfterFunc(left, l.cancel)
		l.syncedTerm, l.endReported = 0, false
		began = true
	} else {
		l.timer.Reset(left)
	}
	l.term, l.expires = term, until
	return began
}

// endTerm ends the term.
func (l *lease) endTerm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		l.timer.Stop()
		l.cancel()
	}
}

// takeTermEnd tells once that a term is over.
func (l *lease) takeTermEnd() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() == nil || l.endReported {
		return false
	}
	l.endReported = true
	return true
}

// currentTerm tells the term that this process leads in, and whether it has read everything in it.
func (l *lease) currentTerm() (term int64, leads, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil || !time.Now().Before(l.expires) {
		return 0, false, false
	}
	return l.term, true, l.syncedTerm == l.term
}

// markSynced says that everything was read again in a term.
func (l *lease) markSynced(term int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncedTerm = term
}

// termContext gives a context that ends with the term. done must be called.
func (l *lease) termContext(ctx context.Context) (act context.Context, done func()) {
	l.mu.Lock()
	term := l.ctx
	l.mu.Unlock()
	act, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(term, cancel)
	return act, func() {
		stop()
		cancel()
	}
}

// Leads tells whether this process carries plans out. The others show the same plans, and do nothing.
func (l *lease) Leads() bool {
	_, leads, _ := l.currentTerm()
	return leads
}

// mayAct tells whether plans are carried out now: it leads, and has read everything since it does.
func (l *lease) mayAct() bool {
	_, _, settled := l.currentTerm()
	return settled
}

// Lead has this process lead, if none other does, until stop is called: the lease is asked for at once, and then
// now and then. Of several at a time each asks, so that any may end first; the last gives the lease back: a Tick alone does at its end.
func (l *lease) Lead(ctx context.Context) (stop func()) {
	l.mu.Lock()
	l.holders++
	l.mu.Unlock()
	var going sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	l.acquire(ctx)
	l.clocks.measure(ctx)
	going.Go(func() { l.renewLoop(ctx) })
	return func() {
		cancel()
		going.Wait()
		l.mu.Lock()
		l.holders--
		last := l.holders == 0
		l.mu.Unlock()
		if last {
			l.resign(ctx)
		}
	}
}

// measureInterval is how many leases are asked for between looks at the store's clock.
const measureInterval = 10

func (l *lease) renewLoop(ctx context.Context) {
	for n := 1; backoff.Sleep(ctx, leaseInterval) == nil; n++ {
		l.acquire(ctx)
		if n%measureInterval == 0 {
			l.clocks.measure(ctx)
		}
	}
}

// acquire asks for the lease, and tells of what changed.
func (l *lease) acquire(ctx context.Context) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, leaseInterval)
	defer cancel()
	term, led, err := l.store.AcquireLease(ctx, leaseLength)
	switch {
	case err == nil && led:
		if l.renewTerm(term, asked.Add(leaseLength-leaseMargin)) {
			l.log.Info().Int64("term", term).Msg("this process leads")
			l.signals.changed.Notify()
		}
	case err == nil || errors.Is(err, plan.ErrDeposed):
		l.endTerm()
	default: // an answer that does not come changes nothing: the term ends by itself
		l.log.Debug().Err(err).Msg("the lease could not be asked for")
	}
	if l.takeTermEnd() {
		l.log.Warn().Msg("this process does not lead any more: it shows what is planned, and does nothing")
	}
}

// resign lets another lead at once.
func (l *lease) resign(ctx context.Context) {
	leads := l.Leads()
	l.endTerm()
	l.takeTermEnd()
	if !leads {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if err := l.store.ReleaseLease(ctx); err != nil {
		l.log.Debug().Err(err).Msg("the lease was not given back: it runs out by itself")
	}
}
