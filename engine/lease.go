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
	leaseFor    = 10 * time.Second
	leaseEvery  = 3 * time.Second
	leaseMargin = time.Second // clocks don't run alike to the last bit
	resignIn    = 2 * time.Second
)

// lease is this process's part in who leads. A term is over when its lease may have run out, by this process's own
// monotonic clock, counted from before the lease was asked for: whatever the store would say, nothing is done after that.
type lease struct {
	store   Store
	clocks  *clocks
	signals *signals
	log     zerolog.Logger

	mu      sync.Mutex // guards what follows
	wanted  int        // those who want this process to lead now
	term    int64      // the newest that it had
	until   time.Time
	timer   *time.Timer        // ends ctx at until
	ctx     context.Context    //nolint:containedctx // of the term, not of a call; nil: it never led
	end     context.CancelFunc // of ctx
	settled int64              // the term in which everything was read again: acts are for that one
	over    bool               // that the term is over was told
}

// renew begins or prolongs a term. began is false where it only goes on.
func (l *lease) renew(term int64, until time.Time) (began bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(until)
	if left <= 0 {
		return false // the answer took too long
	}
	if l.ctx == nil || l.ctx.Err() != nil || term != l.term {
		if l.end != nil {
			l.timer.Stop()
			l.end()
		}
		l.ctx, l.end = context.WithCancel(context.Background())
		l.timer = time.AfterFunc(left, l.end)
		l.settled, l.over = 0, false
		began = true
	} else {
		l.timer.Reset(left)
	}
	l.term, l.until = term, until
	return began
}

// lose ends the term.
func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		l.timer.Stop()
		l.end()
	}
}

// lost tells once that a term is over.
func (l *lease) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() == nil || l.over {
		return false
	}
	l.over = true
	return true
}

// now tells the term that this process leads in, and whether it has read everything in it.
func (l *lease) now() (term int64, leads, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil || !time.Now().Before(l.until) {
		return 0, false, false
	}
	return l.term, true, l.settled == l.term
}

// settle says that everything was read again in a term.
func (l *lease) settle(term int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = term
}

// act gives a context that ends with the term. done must be called.
func (l *lease) act(ctx context.Context) (act context.Context, done func()) {
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
	_, leads, _ := l.now()
	return leads
}

// acts tells whether plans are carried out now: it leads, and has read everything since it does.
func (l *lease) acts() bool {
	_, _, settled := l.now()
	return settled
}

// Lead has this process lead, if none other does, until stop is called: the lease is asked for at once, and then
// now and then. Of several at a time each asks, so that any may end first; the last gives the lease back: a Tick alone does at its end.
func (l *lease) Lead(ctx context.Context) (stop func()) {
	l.mu.Lock()
	l.wanted++
	l.mu.Unlock()
	var going sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	l.seek(ctx)
	l.clocks.measure(ctx)
	going.Go(func() { l.renewals(ctx) })
	return func() {
		cancel()
		going.Wait()
		l.mu.Lock()
		l.wanted--
		last := l.wanted == 0
		l.mu.Unlock()
		if last {
			l.resign(ctx)
		}
	}
}

// measureEvery is how many leases are asked for between looks at the store's clock.
const measureEvery = 10

func (l *lease) renewals(ctx context.Context) {
	for n := 1; backoff.Sleep(ctx, leaseEvery) == nil; n++ {
		l.seek(ctx)
		if n%measureEvery == 0 {
			l.clocks.measure(ctx)
		}
	}
}

// seek asks for the lease, and tells of what changed.
func (l *lease) seek(ctx context.Context) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, leaseEvery)
	defer cancel()
	term, led, err := l.store.Lead(ctx, leaseFor)
	switch {
	case err == nil && led:
		if l.renew(term, asked.Add(leaseFor-leaseMargin)) {
			l.log.Info().Int64("term", term).Msg("this process leads")
			l.signals.moved.Notify()
		}
	case err == nil || errors.Is(err, plan.ErrDeposed):
		l.lose()
	default: // an answer that does not come changes nothing: the term ends by itself
		l.log.Debug().Err(err).Msg("the lease could not be asked for")
	}
	if l.lost() {
		l.log.Warn().Msg("this process does not lead any more: it shows what is planned, and does nothing")
	}
}

// resign lets another lead at once.
func (l *lease) resign(ctx context.Context) {
	leads := l.Leads()
	l.lose()
	l.lost()
	if !leads {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignIn)
	defer cancel()
	if err := l.store.Resign(ctx); err != nil {
		l.log.Debug().Err(err).Msg("the lease was not given back: it runs out by itself")
	}
}
