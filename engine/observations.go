package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// observations holds what this process knows of what was observed: what it wrote to the store, and what it read of
// other processes' writes. States and lists in it are replaced, never changed.
type observations struct {
	store   Store
	signals *signals

	mu  sync.Mutex // guards the fields below, and membership's
	obs plan.Observed
	// restoredAt is when observing began anew, because the store was restored (R26); zero: never.
	restoredAt time.Time
	// writes grows with every write to the store that Known would return, so that an older read does not overwrite it.
	writes     uint64
	membership membership
}

func readObservations(ctx context.Context, store Store, s *signals) (*observations, error) {
	obs, err := store.Known(ctx)
	if err == nil {
		obs.Cells, err = store.Cells(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was observed: %w", err)
	}
	obs.Cells, obs.Served = orEmpty(obs.Cells), orEmpty(obs.Served)
	obs.Refused, obs.Registered = orEmpty(obs.Refused), orEmpty(obs.Registered)
	obs.Replaced = []string{}
	return &observations{store: store, signals: s, obs: obs, membership: newMembership()}, nil
}

func orEmpty[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}

// snapshot returns what is observed now; later changes don't show in it.
func (o *observations) snapshot() *plan.Observed {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.snapshotLocked()
}

// snapshotForPlan returns what is observed now, for the next plan of the engine's Memory.
func (o *observations) snapshotForPlan() *plan.Observed {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.snapshotLocked()
	o.obs.Replaced = []string{}
	return s
}

// snapshotLocked is snapshot for callers that hold mu.
func (o *observations) snapshotLocked() *plan.Observed {
	s := o.obs
	s.Cells = maps.Clone(s.Cells)
	s.Served, s.Refused, s.Registered = maps.Clone(s.Served), maps.Clone(s.Refused), maps.Clone(s.Registered)
	s.Slots, s.Replaced = maps.Clone(s.Slots), slices.Clip(s.Replaced)
	return &s
}

func (o *observations) states() map[string]*plan.CellState {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.obs.Cells)
}

// setListeningSince records when this process began to listen to cells.
func (o *observations) setListeningSince(up time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.obs.ListeningSince = up
}

// endSilentSoaks ends the soak of cells that were silent while the process before this one heard others.
func (o *observations) endSilentSoaks(staleAfter time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	endSilentSoaks(&o.obs, staleAfter)
}

// endSilentSoaks ends the soak of cells that were silent while the process before this one heard others: only time in
// which no process listened is a pause (R9). It replaces states, and changes none.
func endSilentSoaks(o *plan.Observed, staleAfter time.Duration) {
	var heard time.Time
	for _, s := range o.Cells {
		if s.LastReport.After(heard) {
			heard = s.LastReport
		}
	}
	for name, s := range o.Cells {
		if !s.Watched() && heard.Sub(s.LastReport) > staleAfter {
			c := *s
			c.HealthySince, c.Soaked = time.Time{}, 0
			o.SetCell(name, &c)
		}
	}
}

// applyWrite changes the observations, after the same change was written to the store.
func (o *observations) applyWrite(change func(*plan.Observed)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	change(&o.obs)
}

// forgetOffers removes offers that lapsed (R14). Each replica finds lapsed offers by itself, for a cell may have
// accepted one just now.
func (o *observations) forgetOffers(names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.obs.LapseOffers(names)
}

// seenCommit returns the newest commit that was acted upon, and how the branch diverged from it; nil: it did not.
func (o *observations) seenCommit() (commit string, diverged *plan.Divergence) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.obs.Seen, o.obs.Diverged
}

// registrations returns the changes of identity that git may not have yet, by cell.
func (o *observations) registrations() map[string]plan.Registration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.obs.Registered)
}

// foldInputs returns what a report of a cell is folded onto: the cell's last state, and the epoch of its identity.
func (o *observations) foldInputs(cell string) (prev *plan.CellState, epoch int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.obs.Cells[cell], plan.IdentityOf(o.membership.desired, o.obs.Registered, cell).Epoch
}

// restartObserving makes observing begin anew.
func (o *observations) restartObserving(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.restoredAt, o.obs.Since = now, now
}

// addReported adds a state that was stored, unless the observations have a later one from another process.
func (o *observations) addReported(state *plan.CellState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.obs.Cells[state.Name]
	if now != nil && now.Version >= state.Version {
		return
	}
	if now != nil && now.Granted != state.Granted { // a grant was made in between
		state = state.WithNewestGrant(now)
	}
	o.obs.SetCell(state.Name, state)
}

// mergeStates adds states that were read, without replacing newer ones.
func (o *observations) mergeStates(states map[string]*plan.CellState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	flags := false
	for name, s := range states {
		s.SetWatched(o.obs.ListeningSince) // if this process was listening, it watched the time since that report too
		flags = flags || plan.FlagsDiffer(o.obs.Cells[name], s)
		o.obs.SetCell(name, mergeState(o.obs.Cells[name], s))
	}
	if flags {
		o.signals.flagsReported.Notify()
	}
}

// mergeState combines two states of a cell: the later report, and the later grant. A grant that lapsed in have comes
// back with read, and is found to have lapsed again.
func mergeState(have, read *plan.CellState) *plan.CellState {
	if have == nil {
		return read
	}
	s := have
	if read.Version > have.Version {
		s = read
	}
	given := have
	if g := read.Granted; g != nil && (have.Granted == nil || cells.Newer(*g, *have.Granted) ||
		!cells.Newer(*have.Granted, *g) && read.GrantedAt.After(have.GrantedAt)) {
		given = read
	}
	if s == given || given.Granted == nil {
		return s
	}
	return plan.WithGrant(s, plan.Granted{Assignment: *given.Granted, At: given.GrantedAt})
}

// reloadCell reads a cell whose state another process wrote. The store's state counts even if it is older than the one
// in memory: then the store was restored.
func (o *observations) reloadCell(ctx context.Context, name string) error {
	states, err := o.store.Cells(ctx, name)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s, have := states[name], o.obs.Cells[name]
	if s == nil {
		o.obs.SetCell(name, nil)
		return nil
	}
	s.SetWatched(o.obs.ListeningSince)
	if have == nil || s.Version >= have.Version {
		s = mergeState(have, s)
	}
	o.obs.SetCell(name, s)
	return nil
}

func (o *observations) reloadAll(ctx context.Context) error {
	if err := o.reloadKnown(ctx); err != nil {
		return err
	}
	return o.reloadCells(ctx)
}

// reloadCells reads the named cells; without a name, all.
func (o *observations) reloadCells(ctx context.Context, names ...string) error {
	states, err := o.store.Cells(ctx, names...)
	if err != nil {
		what := "all"
		if len(names) > 0 {
			what = fmt.Sprint(len(names))
		}
		return fmt.Errorf("read %s cells: %w", what, err)
	}
	o.mergeStates(states)
	return nil
}

// reloadKnown reads everything but the cells, again if this process wrote to the store meanwhile.
func (o *observations) reloadKnown(ctx context.Context) error {
	for {
		o.mu.Lock()
		before := o.writes
		o.mu.Unlock()
		known, err := o.store.Known(ctx)
		if err != nil {
			return fmt.Errorf("read what was observed: %w", err)
		}
		if o.replaceKnown(known, before) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// replaceKnown stores what was read in the observations, unless this process wrote to the store since before.
func (o *observations) replaceKnown(read plan.Observed, before uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writes != before {
		return false
	}
	if d := o.membership.desired; read.Seen != o.obs.Seen && (d == nil || read.Seen != d.Commit) {
		o.signals.pushed.Notify() // the leader has seen another tip
	}
	o.obs.Since, o.obs.Seen, o.obs.Diverged = read.Since, read.Seen, read.Diverged
	if o.restoredAt.After(read.Since) {
		o.obs.Since = o.restoredAt
	}
	o.obs.Learned, o.obs.Observations, o.obs.Slots = read.Learned, read.Observations, read.Slots
	o.obs.Refused = orEmpty(read.Refused)
	for channel, n := range read.Served {
		o.obs.Served[channel] = max(o.obs.Served[channel], n)
	}
	o.obs.AddDecided(slices.Collect(maps.Values(read.Decided)))
	changed := false
	for name, r := range read.Registered {
		if old, ok := o.obs.Registered[name]; !ok || r.Identity.Serial > old.Identity.Serial {
			o.obs.Registered[name] = r
			changed = true
		}
	}
	if changed {
		o.membership.rebuildRoster(o.obs.Registered)
	}
	return true
}
