package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

const (
	leaseFor    = 10 * time.Second
	leaseEvery  = 3 * time.Second
	leaseMargin = time.Second // clocks don't run alike to the last bit
	resignIn    = 2 * time.Second
)

// leading is this process's part in who leads. A term is over when its lease may have run out, by this process's own
// monotonic clock, counted from before the lease was asked for: whatever the store would say, nothing is done after that.
type leading struct {
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
func (l *leading) renew(term int64, until time.Time) (began bool) {
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
func (l *leading) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		l.timer.Stop()
		l.end()
	}
}

// lost tells once that a term is over.
func (l *leading) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() == nil || l.over {
		return false
	}
	l.over = true
	return true
}

// now tells the term that this process leads in, and whether it has read everything in it.
func (l *leading) now() (term int64, leads, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil || !time.Now().Before(l.until) {
		return 0, false, false
	}
	return l.term, true, l.settled == l.term
}

// settle says that everything was read again in a term.
func (l *leading) settle(term int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = term
}

// act gives a context that ends with the term. done must be called.
func (l *leading) act(ctx context.Context) (act context.Context, done func()) {
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
func (e *Engine) Leads() bool {
	_, leads, _ := e.lead.now()
	return leads
}

// acts tells whether plans are carried out now: it leads, and has read everything since it does.
func (e *Engine) acts() bool {
	_, _, settled := e.lead.now()
	return settled
}

// campaign has this process lead, if none other does, until stop is called: the lease is asked for at once, and then
// now and then. Of several at a time each asks, so that any may end first; the last gives the lease back.
func (e *Engine) campaign(ctx context.Context) (stop func()) {
	e.lead.mu.Lock()
	e.lead.wanted++
	e.lead.mu.Unlock()
	var going sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	e.seek(ctx)
	e.measure(ctx)
	going.Go(func() { e.renewals(ctx) })
	return func() {
		cancel()
		going.Wait()
		e.lead.mu.Lock()
		e.lead.wanted--
		last := e.lead.wanted == 0
		e.lead.mu.Unlock()
		if last {
			e.resign(ctx)
		}
	}
}

// Lead has this process lead, if none other does, until stop is called. A Tick alone gives the lease back at its end.
func (e *Engine) Lead(ctx context.Context) (stop func()) { return e.campaign(ctx) }

// measureEvery is how many leases are asked for between looks at the store's clock.
const measureEvery = 10

func (e *Engine) renewals(ctx context.Context) {
	for n := 1; sleep(ctx, leaseEvery) == nil; n++ {
		e.seek(ctx)
		if n%measureEvery == 0 {
			e.measure(ctx)
		}
	}
}

// seek asks for the lease, and tells of what changed.
func (e *Engine) seek(ctx context.Context) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, leaseEvery)
	defer cancel()
	term, led, err := e.store.Lead(ctx, leaseFor)
	switch {
	case err == nil && led:
		if e.lead.renew(term, asked.Add(leaseFor-leaseMargin)) {
			e.opts.Log.Info().Int64("term", term).Msg("this process leads")
			signal(e.moved)
		}
	case err == nil || errors.Is(err, plan.ErrDeposed):
		e.lead.lose()
	default: // an answer that does not come changes nothing: the term ends by itself
		e.opts.Log.Debug().Err(err).Msg("the lease could not be asked for")
	}
	if e.lead.lost() {
		e.opts.Log.Warn().Msg("this process does not lead any more: it shows what is planned, and does nothing")
	}
}

// deposed notes that another process leads.
func (e *Engine) deposed() { e.lead.lose() }

// resign lets another lead at once.
func (e *Engine) resign(ctx context.Context) {
	leads := e.Leads()
	e.lead.lose()
	e.lead.lost()
	if !leads {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignIn)
	defer cancel()
	if err := e.store.Resign(ctx); err != nil {
		e.opts.Log.Debug().Err(err).Msg("the lease was not given back: it runs out by itself")
	}
}

// takeOver reads everything again, once in each term and before anything is done in it: another may have acted until just
// now. It tells whether it did.
func (e *Engine) takeOver(ctx context.Context) (bool, error) {
	term, leads, settled := e.lead.now()
	if !leads || settled {
		return false, nil
	}
	if err := e.readAll(ctx); err != nil {
		return false, fmt.Errorf("read everything before leading: %w", err)
	}
	clear(e.recorded) // what the store has is its to say
	e.lead.settle(term)
	return true, nil
}
