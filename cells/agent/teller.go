package agent

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
)

// teller makes maintenances known where the target's product runs, beside the loop: that may take long, or fail for a
// while. A drain counts as done only once its state was told.
type teller struct {
	target cells.MaintenanceTeller
	log    zerolog.Logger
	onTold func()
	wanted wake.Signal

	mu      sync.Mutex
	state   maintenance.State
	pending bool   // state is not told yet
	why     string // why not; empty: it was not tried, or was told
}

// newTeller returns a teller; nil: the target tells nobody.
func newTeller(target cells.Target, log zerolog.Logger, onTold func()) *teller {
	t, ok := target.(cells.MaintenanceTeller)
	if !ok {
		return nil
	}
	return &teller{target: t, log: log, onTold: onTold, wanted: wake.New()}
}

// set has a state told.
func (t *teller) set(s maintenance.State) {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.state, t.pending = s, true
	t.mu.Unlock()
	t.wanted.Notify()
}

// judge returns what is under way, which is not quiet before the state was told.
func (t *teller) judge(b maintenance.Busy) maintenance.Busy {
	if t == nil {
		return b
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending {
		b.Quiet = false
		if b.Names == "" {
			b.Names = t.why
		}
	}
	return b
}

// run tells each state, again and again until that works, until ctx ends.
func (t *teller) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		var again <-chan time.Time
		if failures > 0 {
			again = time.After(backoff.FullJitter(backoff.Exponential(minRetryPause, maxRetryPause, failures)))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.wanted:
		case <-again:
		}
		if t.tellOnce(ctx) {
			failures = 0
		} else {
			failures++
		}
	}
}

func (t *teller) tellOnce(ctx context.Context) bool {
	t.mu.Lock()
	s := t.state
	t.mu.Unlock()
	err := t.target.TellMaintenance(ctx, s)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if t.why == "" {
			t.log.Warn().Err(err).Msg("the product can't be told of the maintenance; the agent tries again")
		}
		t.why = "the product could not be told: " + err.Error()
		return false
	}
	if t.state.Equal(s) {
		t.pending, t.why = false, ""
		t.onTold()
		return true
	}
	return true // the next is wanted already
}
