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

// NodeOperations is where a cell's node parts are told of maintenances, and say which operations are under way.
type NodeOperations interface {
	cells.MaintenanceTeller
	// Operations returns what is under way under the state that was told last.
	Operations(ctx context.Context) (maintenance.Busy, error)
}

// teller makes maintenances known where the target's product runs, or to the cell's nodes, beside the loop: that may
// take long, or fail for a while. A drain counts as done only once its state was told, and nodes are quiet.
type teller struct {
	target cells.MaintenanceTeller
	nodes  NodeOperations // the target, if it knows of operations; else nil
	log    zerolog.Logger
	onTold func()
	wanted wake.Signal

	mu      sync.Mutex
	state   maintenance.State
	pending bool             // state is not told yet
	why     string           // why not; empty: it was not tried, or was told
	busy    maintenance.Busy // on the nodes, under state
}

// newTellers returns who is told: by the target, if it tells anybody, and of the nodes, if there are any.
func newTellers(o Options, onTold func()) (all []*teller) {
	if t, ok := o.Target.(cells.MaintenanceTeller); ok {
		all = append(all, &teller{target: t, log: o.Log, onTold: onTold, wanted: wake.New()})
	}
	if o.NodeOperations != nil {
		t := &teller{target: o.NodeOperations, nodes: o.NodeOperations, log: o.Log, onTold: onTold, wanted: wake.New()}
		t.wanted.Notify() // whoever is silent from the start on is gone the sooner
		all = append(all, t)
	}
	return all
}

// set has a state told.
func (t *teller) set(s maintenance.State) {
	t.mu.Lock()
	t.state, t.pending = s, true
	t.mu.Unlock()
	t.wanted.Notify()
}

// judge returns what is under way, which is not quiet before the state was told.
func (t *teller) judge(b maintenance.Busy) maintenance.Busy {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes != nil {
		b = b.With(t.busy)
	}
	if t.pending || t.why != "" {
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
		switch {
		case failures > 0:
			again = time.After(backoff.FullJitter(backoff.Exponential(minRetryPause, maxRetryPause, failures)))
		case t.nodes != nil:
			again = time.After(t.lookPause())
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

// lookPause returns how long nobody looks what is under way on the nodes. At rest it is known, too, which nodes are
// gone: a drain need not wait for them.
func (t *teller) lookPause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state.Phase {
	case maintenance.Draining:
		return time.Second / 2
	case maintenance.Announced, maintenance.Drained:
		return 5 * time.Second
	}
	return 5 * time.Minute
}

// tellOnce tells the state unless it was told, and then asks what is under way under it.
func (t *teller) tellOnce(ctx context.Context) bool {
	t.mu.Lock()
	s, pending := t.state, t.pending
	t.mu.Unlock()
	var err error
	var busy maintenance.Busy
	if pending {
		err = t.target.TellMaintenance(ctx, s)
	}
	if err == nil && t.nodes != nil {
		busy, err = t.nodes.Operations(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if t.why == "" {
			t.log.Warn().Err(err).Msg("the product can't be told of the maintenance; the agent tries again")
		}
		t.why = "the product could not be told: " + err.Error()
		t.busy.Quiet = false
		return false
	}
	t.why = ""
	if t.pending != pending || !t.state.Equal(s) {
		return true // the next is wanted already
	}
	ended := pending || busy.Quiet && !t.busy.Quiet
	t.busy, t.pending = busy, false
	if ended {
		t.onTold()
	}
	return true
}
