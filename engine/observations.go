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

	mu       sync.Mutex // guards what follows, and members
	obs      plan.Observed
	restored time.Time // observing began anew: the store was found to be restored (R26); zero: it was not
	writes   uint64    // grows with every write to the store that Known would show: what was read before is not put over it
	members  members
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
	return &observations{store: store, signals: s, obs: obs, members: newMembers()}, nil
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

// listenSince notes when this process began to listen to cells.
func (o *observations) listenSince(up time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.obs.Up = up
}

// begin ends the soak of cells that were silent while the process before this one heard others.
func (o *observations) begin(staleAfter time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	silenced(o.obs.Cells, staleAfter)
}

// silenced ends the soak of cells that were silent while the process before this one heard others: only what nobody
// listened to is a pause (R9). It changes the map, not the states in it.
func silenced(all map[string]*plan.CellState, staleAfter time.Duration) {
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

// wrote changes what is observed after the same was written to the store.
func (o *observations) wrote(change func(*plan.Observed)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	change(&o.obs)
}

// lapse forgets offers that ended untaken (R14). Each replica finds that out by itself, and one may have been taken just now.
func (o *observations) lapse(names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.obs.Lapse(names)
}

// seen is the newest commit that was acted upon, and whether the branch has left it.
func (o *observations) seen() (commit string, diverged *plan.Divergence) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.obs.Seen, o.obs.Diverged
}

// registered is the changes of identity that git may not have yet, by cell.
func (o *observations) registered() map[string]plan.Registration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.obs.Registered)
}

// forReport is what a report of a cell is folded onto: its last state, the epoch of its identity, and what the repository said last.
func (o *observations) forReport(cell string) (prev *plan.CellState, epoch int64, d *plan.Desired) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d = o.members.desired
	return o.obs.Cells[cell], plan.IdentityOf(d, o.obs.Registered, cell).Epoch, d
}

// isRestored begins to observe anew.
func (o *observations) isRestored(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.restored, o.obs.Since = now, now
}

// received takes a state that the store kept into what is observed, unless a later report came from elsewhere meanwhile.
func (o *observations) received(state *plan.CellState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.served(state) {
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

// served reports whether a state has a sequence above all that are known, under mu. Channels that the repository does
// not have don't count: a cell could name one after the other.
func (o *observations) served(s *plan.CellState) bool {
	d := o.members.desired
	return s.Channel != "" && s.Sequence > o.obs.Served[s.Channel] && (d == nil || d.Channels[s.Channel] != nil)
}

// put takes cells' states that were read into what is observed: never an older one over a newer.
func (o *observations) put(states map[string]*plan.CellState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	flags := false
	for name, s := range states {
		s.Watch(o.obs.Up) // the time since its report was watched by this process too, if it was listening then
		flags = flags || plan.FlagsDiffer(o.obs.Cells[name], s)
		o.obs.Cells[name] = newer(o.obs.Cells[name], s)
		if o.served(s) {
			o.obs.Served[s.Channel] = s.Sequence
		}
	}
	if flags {
		o.signals.flagged.Notify()
	}
}

// newer puts together what is known here of a cell with what was read: the later report, and the later grant. A grant that
// lapsed here comes back with it, and is found to have lapsed again.
func newer(have, read *plan.CellState) *plan.CellState {
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

// readCell reads a cell whose state was written by another process. What the store has counts, also if it is older than
// what is known here: then it was restored.
func (o *observations) readCell(ctx context.Context, name string) error {
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
		s = newer(have, s)
	}
	o.obs.Cells[name] = s
	return nil
}

// readAll reads everything that the store has.
func (o *observations) readAll(ctx context.Context) error {
	if err := o.refresh(ctx); err != nil {
		return err
	}
	return o.readCells(ctx)
}

// readCells reads the named cells; without a name, all.
func (o *observations) readCells(ctx context.Context, names ...string) error {
	states, err := o.store.Cells(ctx, names...)
	if err != nil {
		what := "all"
		if len(names) > 0 {
			what = fmt.Sprint(len(names))
		}
		return fmt.Errorf("read %s cells: %w", what, err)
	}
	o.put(states)
	return nil
}

// refresh reads all but the cells. What this process wrote while it was read is not lost: then it is read again.
func (o *observations) refresh(ctx context.Context) error {
	for {
		o.mu.Lock()
		before := o.writes
		o.mu.Unlock()
		known, err := o.store.Known(ctx)
		if err != nil {
			return fmt.Errorf("read what was observed: %w", err)
		}
		if o.keep(known, before) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// keep takes what was read into what is observed, unless this process wrote anything since before.
func (o *observations) keep(read plan.Observed, before uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writes != before {
		return false
	}
	if d := o.members.desired; read.Seen != o.obs.Seen && (d == nil || read.Seen != d.Commit) {
		o.signals.pushed.Notify() // who leads has seen another tip
	}
	o.obs.Since, o.obs.Seen, o.obs.Diverged = read.Since, read.Seen, read.Diverged
	if o.restored.After(read.Since) {
		o.obs.Since = o.restored
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
		o.members.enroll(o.obs.Registered)
	}
	return true
}
