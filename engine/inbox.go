package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// maxFoldTries is how often a report is folded again because another replica stored a report of the same cell
// meanwhile.
const maxFoldTries = 8

// anomalyLogInterval is how long a warning about the same cell's event numbers is suppressed.
const anomalyLogInterval = time.Hour

// inbox folds cells' reports and has the store keep the new states.
type inbox struct {
	store         Store
	obs           *observations
	registrar     *registrar
	log           zerolog.Logger
	restoreLogged atomic.Bool // the store was found to be behind the cells, and that was logged
	// locks is indexed by a hash of the cell's name. A cell's reports are folded one after the other, and the lock is
	// held until the report is durable; so few cells may share a lock.
	locks [8192]sync.Mutex
}

// Receive stores a cell's report and returns once it is durable (invariant 8).
func (e *Engine) Receive(ctx context.Context, r *cells.Report) (cells.Receipt, error) {
	k := plan.ReportArrival{Local: time.Now()}
	k.At = e.clocks.timeAt(k.Local)
	v := e.View()
	if v == nil {
		return cells.Receipt{}, ErrNotReady
	}
	if v.Desired.Cells[r.Cell] == nil {
		return cells.Receipt{}, fmt.Errorf("report of %q: %w", r.Cell, ErrUnknownCell)
	}
	e.counters.receiving.Add(1)
	defer e.counters.receiving.Add(-1)
	if err := e.inbox.acceptReport(ctx, k, r, v.Desired.StaleAfter()); err != nil {
		return cells.Receipt{}, err
	}
	var receipt cells.Receipt
	if now, doubt := e.TrustedTime(); doubt == "" { // after storing, which takes time
		receipt.Time = now
	}
	if n := len(r.Events); n > 0 {
		receipt.Acknowledged = r.Events[n-1].Number
	}
	return receipt, nil
}

// acceptReport stores a report, and wakes who depends on it.
func (b *inbox) acceptReport(ctx context.Context, k plan.ReportArrival, r *cells.Report,
	staleAfter time.Duration) error {
	lock := &b.locks[lockIndex(r.Cell, len(b.locks))]
	lock.Lock()
	defer lock.Unlock()
	prev, state, restore, err := b.storeReport(ctx, k, r, staleAfter)
	if err != nil {
		return fmt.Errorf("store report of %s: %w", r.Cell, err)
	}
	b.obs.addReported(state)
	if plan.FlagsDiffer(prev, state) {
		b.obs.signals.flagsReported.Notify()
	}
	if plan.StatesDiffer(prev, state) {
		b.obs.signals.changed.Notify()
	} else {
		b.obs.signals.heartbeat.Notify()
	}
	b.logAnomalies(prev, state, restore)
	b.quarantineClone(ctx, state)
	return nil
}

// storeReport folds a report and stores the new state. If another replica stored a report of the cell meanwhile,
// storeReport folds again on top of that one. The caller holds the cell's lock.
func (b *inbox) storeReport(
	ctx context.Context, k plan.ReportArrival, r *cells.Report, staleAfter time.Duration,
) (prev, state *plan.CellState, restore plan.Restore, err error) {
	for try := 1; ; try++ {
		prev, k.Epoch = b.obs.foldInputs(r.Cell)
		var h plan.FreshEvents
		state, restore, h = k.Fold(prev, r, staleAfter)
		err = b.store.RecordReports(ctx, []plan.Reported{{
			State: state, Boot: h.Line, Events: h.Events, Material: plan.StatesDiffer(prev, state),
		}})
		switch {
		case !errors.Is(err, plan.ErrStale):
			return prev, state, restore, err
		case try == maxFoldTries:
			return prev, state, restore, fmt.Errorf("other replicas stored reports of the cell %d times meanwhile: %w",
				try, plan.ErrBusy)
		}
		if try > 1 {
			if err := backoff.Sleep(ctx, retryDelay(try)); err != nil {
				return prev, state, restore, err
			}
		}
		if err := b.obs.reloadCell(ctx, r.Cell); err != nil {
			return prev, state, restore, err
		}
	}
}

// logAnomalies logs restores, and event numbers out of order (fault 45); the latter once in anomalyLogInterval for each
// cell.
func (b *inbox) logAnomalies(prev, s *plan.CellState, restore plan.Restore) {
	log := b.log
	if m := s.Miscount; m != nil && (prev == nil || prev.Miscount != m) {
		event := log.Warn()
		if prev != nil && prev.Miscount != nil && m.At.Sub(prev.Miscount.At) < anomalyLogInterval {
			event = log.Debug()
		}
		event.Str("cell", s.Name).Str("what", m.What).Int64("times", m.Times).
			Msg("the cell's event numbers are out of order: the events that arrived are kept")
	}
	switch restore {
	case plan.NoRestore:
	case plan.StoreRestored:
		event := log.Debug()
		if !b.restoreLogged.Swap(true) {
			event = log.Warn()
		}
		event.Str("cell", s.Name).
			Msg("the store was restored or emptied: it has fewer acknowledgments than the cell, and is used as it is")
	case plan.AgentRestored:
		log.Info().Str("cell", s.Name).Int64("confirmed", s.Confirmed).
			Msg("the cell's agent was restored: the cell goes on from the confirmed event")
	}
}

// quarantineClone shuts out a cell whose key is used from two places (R27).
func (b *inbox) quarantineClone(ctx context.Context, s *plan.CellState) {
	if s.Clone == "" {
		return
	}
	if i, _ := b.obs.identityOf(s.Name); i.PublicKey == "" || i.Quarantined != "" || i.Epoch != s.Joined {
		return // there is no key to shut out, the key is shut out already, or the cell has another key
	}
	b.log.Warn().Str("cell", s.Name).Str("clone", s.Clone).
		Msg("the cell's key is used from two places: both are shut out until a new token is used")
	err := b.registrar.ChangeIdentity(ctx, s.Name, "clone found", func(i *cells.Identity) {
		if i.Epoch == s.Joined {
			i.Quarantined = s.Clone
		}
	})
	if err != nil {
		b.log.Error().Err(err).Str("cell", s.Name).
			Msg("a clone could not be shut out: the next report triggers another attempt")
	}
}

func lockIndex(name string, n int) int {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h % uint32(n))
}
