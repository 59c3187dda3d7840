package engine

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// observations is what this process knows of what was observed: what it wrote to the store itself, and what it read of others'.
// A state or a list in it is never changed, only replaced.
type observations struct {
	store   Store
	signals *signals

	mu         sync.Mutex // guards what follows, and members
	obs        plan.Observed
	restoredAt time.Time // observing began anew: the store was found to be restored (R26); zero: it was not
	writes     uint64    // grows with every write to the store that Known would show: what was read before is not put over it
	membership membership
}

// readObservations reads everything that store has.
func readObservations(ctx context.Context, store Store, s *signals) (*observations, error) {
	obs, err := store.Known(ctx)
	if err == nil {
		obs.Cells, err = store.Cells(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was observed: %w", err)
	}
	obs.Cells, obs.Served, obs.Refused, obs.Registered = orEmpty(obs.Cells), orEmpty(obs.Served), orEmpty(obs.Refused), orEmpty(obs.Registered)
	return &observations{store: store, signals: s, obs: obs, membership: newMembership()}, nil
}

func orEmpty[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}

// snapshot is what is observed now, for one plan: later reports don't show in it.
func (o *observations) snapshot() *plan.Observed {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.obs
	s.Cells = maps.Clone(s.Cells)
	s.Served, s.Refused, s.Registered = maps.Clone(s.Served), maps.Clone(s.Refused), maps.Clone(s.Registered)
	s.Slots = maps.Clone(s.Slots)
	return &s
}

// states are the cells' last words.
func (o *observations) states() map[string]*plan.CellState {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.obs.Cells)
}

// setListeningSince notes when this process began to listen to cells.
func (o *observations) setListeningSince(up time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.obs.Up = up
}

// endSilentSoaks ends the soak of cells that were silent while the process before this one heard others.
func (o *observations) endSilentSoaks(staleAfter time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	endSilentSoaks(o.obs.Cells, staleAfter)
}

// endSilentSoaks ends the soak of cells that were silent while the process before this one heard others: only what nobody
// listened to is a pause (R9). It changes the map, not the states in it.
func endSilentSoaks(all map[string]*plan.CellState, staleAfter time.Duration) {
	var heard time.Time
	for _, s := range all {
		if s.LastReport.After(heard) {
			heard = s.LastReport
		}
	}
	for name, s := range all {
		if !s.Watched() && heard.Sub(s.LastReport) > staleAfter {
			c := *s
			c.HealthySince, c.Soaked = time.Time{}, 0
			all[name] = &c
		}
	}
}

// applyWrite changes what is observed after the same was written to the store.
func (o *observations) applyWrite(change func(*plan.Observed)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	change(&o.obs)
}

// forgetOffers forgets offers that ended untaken (R14). Each replica finds that out by itself, and one may have been taken just now.
func (o *observations) forgetOffers(names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.obs.Lapse(names)
}

// seenCommit is the newest commit that was acted upon, and whether the branch has left it.
func (o *observations) seenCommit() (commit string, diverged *plan.Divergence) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.obs.Seen, o.obs.Diverged
}

// registrations is the changes of identity that git may not have yet, by cell.
func (o *observations) registrations() map[string]plan.Registration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.obs.Registered)
}

// foldInputs is what a report of a cell is folded onto: its last state, the epoch of its identity, and what the repository said last.
func (o *observations) foldInputs(cell string) (prev *plan.CellState, epoch int64, d *plan.Desired) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d = o.membership.desired
	return o.obs.Cells[cell], plan.IdentityOf(d, o.obs.Registered, cell).Epoch, d
}

// restartObserving begins to observe anew.
func (o *observations) restartObserving(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.restoredAt, o.obs.Since = now, now
}

// addReported takes a state that the store kept into what is observed, unless a later report came from elsewhere meanwhile.
func (o *observations) addReported(state *plan.CellState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.raisesSequence(state) {
		o.obs.Served[state.Channel] = state.Sequence
	}
	now := o.obs.Cells[state.Name]
	if now != nil && now.Version >= state.Version {
		return
	}
	if now != nil && now.Granted != state.Granted { // it changed in between
		c := *state // the store may still have it
		c.Granted, c.GrantedAt = now.Granted, now.GrantedAt
		state = &c
	}
	o.obs.Cells[state.Name] = state
}

// raisesSequence reports whether a state has a sequence above all that are known, under mu. Channels that the repository does
// not have don't count: a cell could name one after the other.
func (o *observations) raisesSequence(s *plan.CellState) bool {
	d := o.membership.desired
	return s.Channel != "" && s.Sequence > o.obs.Served[s.Channel] && (d == nil || d.Channels[s.Channel] != nil)
}

// mergeStates takes cells' states that were read into what is observed: never an older one over a newer.
func (o *observations) mergeStates(states map[string]*plan.CellState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	flags := false
	for name, s := range states {
		s.Watch(o.obs.Up) // the time since its report was watched by this process too, if it was listening then
		flags = flags || plan.FlagsDiffer(o.obs.Cells[name], s)
		o.obs.Cells[name] = mergeState(o.obs.Cells[name], s)
		if o.raisesSequence(s) {
			o.obs.Served[s.Channel] = s.Sequence
		}
	}
	if flags {
		o.signals.flagsReported.Notify()
	}
}

// mergeState puts together what is known here of a cell with what was read: the later report, and the later grant. A grant that
// lapsed here comes back with it, and is found to have lapsed again.
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
	return plan.Give(s, plan.Granted{Assignment: *given.Granted, At: given.GrantedAt})
}

// reloadCell reads a cell whose state was written by another process. What the store has counts, also if it is older than
// what is known here: then it was restored.
func (o *observations) reloadCell(ctx context.Context, name string) error {
	states, err := o.store.Cells(ctx, name)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s, have := states[name], o.obs.Cells[name]
	if s == nil {
		delete(o.obs.Cells, name)
		return nil
	}
	s.Watch(o.obs.Up)
	if have == nil || s.Version >= have.Version {
		s = mergeState(have, s)
	}
	o.obs.Cells[name] = s
	return nil
}

// reloadAll reads everything that the store has.
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

// reloadKnown reads all but the cells. What this process wrote while it was read is not lost: then it is read again.
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

// replaceKnown takes what was read into what is observed, unless this process wrote anything since before.
func (o *observations) replaceKnown(read plan.Observed, before uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writes != before {
		return false
	}
	if d := o.membership.desired; read.Seen != o.obs.Seen && (d == nil || read.Seen != d.Commit) {
		o.signals.pushed.Notify() // who leads has seen another tip
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
