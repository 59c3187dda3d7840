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
	leaseMargin   = time.Second // clocks don't run exactly alike
	resignTimeout = 2 * time.Second
)

// lease is this process's part in who leads. A term ends when its lease may have run out, by this process's own
// monotonic clock, counted from before the lease was requested. After that nothing is done, whatever the store says.
type lease struct {
	store   Store
	clocks  *clocks
	signals *signals
	log     zerolog.Logger

	mu          sync.Mutex // guards the fields below
	holders     int        // callers of HoldLease that have not stopped
	term        int64      // the newest that this process had
	expires     time.Time
	timer       *time.Timer        // cancels ctx at expires
	ctx         context.Context    //nolint:containedctx // of the term, not of a call; nil: it never led
	cancel      context.CancelFunc // of ctx
	syncedTerm  int64              // the term in which everything was read again; the process acts only in that one
	endReported bool               // takeTermEnd has returned true for this term
}

// renewTerm begins or prolongs a term, and reports whether it began.
func (l *lease) renewTerm(term int64, until time.Time) (began bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(until)
	if left <= 0 {
		return false // the answer took longer than the lease
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

func (l *lease) endTerm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		l.timer.Stop()
		l.cancel()
	}
}

// takeTermEnd reports whether a term is over, once for each term.
func (l *lease) takeTermEnd() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() == nil || l.endReported {
		return false
	}
	l.endReported = true
	return true
}

// currentTerm returns the term that this process leads in, and whether it has read everything in that term.
func (l *lease) currentTerm() (term int64, leads, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil || !time.Now().Before(l.expires) {
		return 0, false, false
	}
	return l.term, true, l.syncedTerm == l.term
}

func (l *lease) markSynced(term int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncedTerm = term
}

// termContext returns a context that ends with the term. The caller must call done.
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

// Leads reports whether this process carries plans out. The other processes show the same plans, and do nothing.
func (l *lease) Leads() bool {
	_, leads, _ := l.currentTerm()
	return leads
}

// mayAct reports whether this process leads and has read everything since its term began.
func (l *lease) mayAct() bool {
	_, _, settled := l.currentTerm()
	return settled
}

// HoldLease makes this process try to lead until stop is called: it requests the lease at once, and renews it. It may
// be called several times, and stopped in any order; the last stop releases the lease, as at the end of a single Tick.
func (l *lease) HoldLease(ctx context.Context) (stop func()) {
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

// measureInterval is the number of lease requests between two measurements of the store's clock.
const measureInterval = 10

func (l *lease) renewLoop(ctx context.Context) {
	for n := 1; backoff.Sleep(ctx, leaseInterval) == nil; n++ {
		l.acquire(ctx)
		if n%measureInterval == 0 {
			l.clocks.measure(ctx)
		}
	}
}

// acquire requests the lease, and logs and signals what changed.
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
	default: // without an answer the term ends by itself
		l.log.Debug().Err(err).Msg("the lease could not be requested")
	}
	if l.takeTermEnd() {
		l.log.Warn().Msg("this process no longer leads: it shows plans, and does not carry them out")
	}
}

// resign releases the lease, so that another process can lead at once.
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
		l.log.Debug().Err(err).Msg("the lease could not be released: it runs out by itself")
	}
}
