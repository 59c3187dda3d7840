package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// maxFolds is how often a report is folded again because another replica kept one of the same cell meanwhile.
const maxFolds = 8

// quietFor is how long it is not said again that a cell's numbers are out of order.
const quietFor = time.Hour

// Receive takes a cell's report and returns once it is durable (invariant 8).
func (e *Engine) Receive(ctx context.Context, r cells.Report) (cells.Receipt, error) {
	k := plan.Arrival{Local: time.Now()}
	k.At = e.at(k.Local)
	v := e.View()
	if v == nil {
		return cells.Receipt{}, ErrNotReady
	}
	if v.Desired.Cells[r.Cell] == nil {
		return cells.Receipt{}, fmt.Errorf("report of %q: %w", r.Cell, ErrUnknownCell)
	}
	e.counters.receiving.Add(1)
	defer e.counters.receiving.Add(-1)
	lock := &e.cellLocks[bucket(r.Cell, len(e.cellLocks))]
	lock.Lock()
	defer lock.Unlock()
	prev, state, what, err := e.keepReport(ctx, k, r)
	if err != nil {
		return cells.Receipt{}, fmt.Errorf("keep report of %s: %w", r.Cell, err)
	}
	e.received(state)
	if plan.FlagsDiffer(prev, state) {
		signal(e.flagged)
	}
	if plan.Material(prev, state) {
		signal(e.moved)
	} else {
		signal(e.beat)
	}
	e.wonder(ctx, prev, state, what)
	var receipt cells.Receipt
	if now, doubt := e.Time(); doubt == "" { // what it took to keep is over
		receipt.Time = now
	}
	if n := len(r.Events); n > 0 {
		receipt.Acknowledged = r.Events[n-1].Number
	}
	return receipt, nil
}

// keepReport folds a report and has the store keep it. Where another replica kept one of the cell meanwhile, it is
// folded on that one. The cell's lock is held.
func (e *Engine) keepReport(ctx context.Context, k plan.Arrival, r cells.Report) (prev, state *plan.CellState, what plan.Restore, err error) {
	for try := 1; ; try++ {
		e.mu.Lock()
		prev = e.obs.Cells[r.Cell]
		stale := e.stale
		k.Epoch = plan.IdentityOf(e.members, e.obs.Registered, r.Cell).Epoch
		d := e.members
		e.mu.Unlock()
		var h plan.FreshEvents
		state, what, h = k.Fold(prev, r, stale)
		err = e.store.Report(ctx, []plan.Reported{{State: state, Boot: h.Line, Events: h.Events, Material: plan.Material(prev, state), Strange: plan.UnknownChannels(d, state)}})
		switch {
		case !errors.Is(err, plan.ErrStale):
			return prev, state, what, err
		case try == maxFolds:
			return prev, state, what, fmt.Errorf("others kept reports of it %d times meanwhile: %w", try, plan.ErrBusy)
		}
		if try > 1 {
			if err := sleep(ctx, backoff(try)); err != nil {
				return prev, state, what, err
			}
		}
		if err := e.readCell(ctx, r.Cell); err != nil {
			return prev, state, what, err
		}
	}
}

// readCell reads a cell whose state was written by another process. What the store has counts, also if it is older than
// what is known here: then it was restored.
func (e *Engine) readCell(ctx context.Context, name string) error {
	states, err := e.store.Cells(ctx, name)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch s := states[name]; {
	case s == nil:
		delete(e.obs.Cells, name)
	case e.obs.Cells[name] == nil || s.Version >= e.obs.Cells[name].Version:
		e.obs.Cells[name] = newer(e.obs.Cells[name], e.watched(s))
	default:
		e.obs.Cells[name] = e.watched(s)
	}
	return nil
}

// received takes what was kept into what is observed, unless a later report came from elsewhere meanwhile.
func (e *Engine) received(state *plan.CellState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.served(state) {
		e.obs.Served[state.Channel] = state.Sequence
	}
	now := e.obs.Cells[state.Name]
	if now != nil && now.Version >= state.Version {
		return
	}
	if now != nil && now.Granted != state.Granted { // it changed in between
		c := *state // the store may still have it
		c.Granted, c.GrantedAt = now.Granted, now.GrantedAt
		state = &c
	}
	e.obs.Cells[state.Name] = state
}

// wonder tells of restores and of numbers out of order (fault 45), and shuts clones out (R27).
func (e *Engine) wonder(ctx context.Context, prev, s *plan.CellState, what plan.Restore) {
	log := e.opts.Log
	if m := s.Miscount; m != nil && (prev == nil || prev.Miscount != m) {
		event := log.Warn()
		if prev != nil && prev.Miscount != nil && m.At.Sub(prev.Miscount.At) < quietFor {
			event = log.Debug()
		}
		event.Str("cell", s.Name).Str("what", m.What).Int64("times", m.Times).Msg("the cell's event numbers are out of order: what came is kept")
	}
	switch what {
	case plan.NoRestore:
	case plan.StoreRestored:
		event := log.Debug()
		if !e.forgot.Swap(true) {
			event = log.Warn()
		}
		event.Str("cell", s.Name).Msg("the cell knows of more acknowledgments than the store: it was restored or emptied, and is taken as it is")
	case plan.AgentRestored:
		log.Info().Str("cell", s.Name).Int64("confirmed", s.Confirmed).Msg("the cell's agent was restored: it goes on from there")
	}
	if s.Clone == "" {
		return
	}
	if i, _ := e.known(s.Name); i.PublicKey == "" || i.Quarantined != "" || i.Epoch != s.Joined {
		return // there is no key to shut out, or it is, or another one came
	}
	log.Warn().Str("cell", s.Name).Str("clone", s.Clone).Msg("the cell's key is used from two places: both are shut out until a new token is used")
	err := e.Identify(ctx, s.Name, "clone found", func(i *cells.Identity) {
		if i.Epoch == s.Joined {
			i.Quarantined = s.Clone
		}
	})
	if err != nil {
		log.Error().Err(err).Str("cell", s.Name).Msg("a clone is not shut out yet: the next report tries again")
	}
}
