package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
)

// Options of an Engine. The zero value is usable.
type Options struct {
	Log   zerolog.Logger
	Probe Prober        // answers Wants; nil: nobody does, and gates that look outside stay blocked
	Keep  string        // a file that makes the next start quick; it holds nothing that git has not; empty: none
	Poll  time.Duration // how often the branch is looked at without being told of a push; jittered; default 60s
}

// Engine carries plans out: the shell around Make. Of several that share a store each makes the plan and shows it; the
// one that leads carries it out (see leading), and two would do no harm. What the others write is followed (see following).
//
// Methods may be called from any goroutine. Ticks happen one at a time; reports are taken at any time.
type Engine struct {
	repo   Repository
	store  Store
	opts   Options
	loader Loader
	pushed chan struct{} // told of a push: capacity 1
	moved  chan struct{} // a report changed something: capacity 1
	beat   chan struct{} // a report said the same as before: capacity 1

	ticking  sync.Mutex // held for a whole tick; guards what follows
	desired  *Desired
	recorded map[string]int64 // by channel: the newest decision that the store knows
	refusals map[string]int   // by channel: refused pushes in a row
	clock    clock

	lead      leading
	following following
	counters  counters
	roster    atomic.Pointer[Roster] // never nil; replaced under mu
	forgot    atomic.Bool            // it was said that the store knows less than the cells

	cellLocks [64]sync.Mutex // by name: a cell's reports are folded one after the other

	mu        sync.Mutex // guards what follows
	obs       Observed
	writes    uint64   // grows with every write to the store that Known would show: what was read before is not put over it
	members   *Desired // whose cells' identities the roster has; nil: nothing was read yet
	storeTime storeClock
	stale     time.Duration
	view      *View
	changed   chan struct{} // closed when view is replaced
	enlisted  chan struct{} // closed when roster is replaced
	lastErr   error         // of the last look at the repository; nil: reachable
}

// New makes an engine that goes on from what store has.
func New(ctx context.Context, repo Repository, store Store, o Options) (*Engine, error) {
	obs, err := store.Known(ctx)
	if err == nil {
		obs.Cells, err = store.Cells(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was observed: %w", err)
	}
	obs.Cells, obs.Served, obs.Refused, obs.Registered = orEmpty(obs.Cells), orEmpty(obs.Served), orEmpty(obs.Refused), orEmpty(obs.Registered)
	if o.Poll <= 0 {
		o.Poll = time.Minute
	}
	e := &Engine{
		repo: repo, store: store, opts: o, loader: Loader{Repo: repo, Keep: o.Keep},
		pushed: make(chan struct{}, 1), moved: make(chan struct{}, 1), beat: make(chan struct{}, 1),
		recorded: map[string]int64{}, refusals: map[string]int{}, clock: newClock(time.Now()),
		obs: obs, stale: defaultStale, changed: make(chan struct{}), enlisted: make(chan struct{}),
		following: following{heard: time.Now(), cells: map[string]bool{}, wake: make(chan struct{}, 1)},
	}
	e.roster.Store(emptyRoster())
	return e, nil
}

// defaultStale is used until the first snapshot says better.
const defaultStale = 5 * time.Minute

// ErrUnknownCell: the repository has no such cell.
var ErrUnknownCell = errors.New("no such cell in the release repository")

// ErrNotReady: nothing has been read yet.
var ErrNotReady = errors.New("the release repository has not been read yet")

// maxFolds is how often a report is folded again because another replica kept one of the same cell meanwhile.
const maxFolds = 8

// Receive takes a cell's report and returns once it is durable (invariant 8).
func (e *Engine) Receive(ctx context.Context, r cells.Report) (cells.Receipt, error) {
	k := receipt{local: time.Now()}
	k.at = e.at(k.local)
	view := e.View()
	if view == nil {
		return cells.Receipt{}, ErrNotReady
	}
	if view.Desired.Cells[r.Cell] == nil {
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
	if material(prev, state) {
		signal(e.moved)
	} else {
		signal(e.beat)
	}
	e.wonder(ctx, state, what)
	receipt := cells.Receipt{Time: k.at}
	if n := len(r.Events); n > 0 {
		receipt.Acknowledged = r.Events[n-1].Number
	}
	return receipt, nil
}

// keepReport folds a report and has the store keep it. Where another replica kept one of the cell meanwhile, it is
// folded on that one. The cell's lock is held.
func (e *Engine) keepReport(ctx context.Context, k receipt, r cells.Report) (prev, state *CellState, what surprise, err error) {
	for try := 1; ; try++ {
		e.mu.Lock()
		prev = e.obs.Cells[r.Cell]
		stale := e.stale
		k.epoch = identityOf(e.members, e.obs.Registered, r.Cell).Epoch
		e.mu.Unlock()
		state, what = k.fold(prev, r, stale)
		err = e.store.Report(ctx, []Reported{{State: state, Boot: r.Boot, Events: r.Events, Material: material(prev, state)}})
		switch {
		case !errors.Is(err, ErrStale):
			return prev, state, what, err
		case try == maxFolds:
			return prev, state, what, fmt.Errorf("others kept reports of it %d times meanwhile: %w", try, ErrBusy)
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
func (e *Engine) received(state *CellState) {
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

// wonder tells of restores, and shuts clones out (R27).
func (e *Engine) wonder(ctx context.Context, s *CellState, what surprise) {
	log := e.opts.Log
	switch what {
	case nothing:
	case emptied:
		event := log.Debug()
		if !e.forgot.Swap(true) {
			event = log.Warn()
		}
		event.Str("cell", s.Name).Msg("the cell knows of more acknowledgments than the store: it was restored or emptied, and is taken as it is")
	case restored:
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

// material tells whether a report says anything new but that time went by.
func material(a, b *CellState) bool {
	return a == nil || a.State != b.State || a.Digest != b.Digest || a.Sequence != b.Sequence || a.Epoch != b.Epoch ||
		a.Taken != b.Taken || a.Clone != b.Clone || a.Infrastructure != b.Infrastructure ||
		(a.Applying == nil) != (b.Applying == nil) || revised(a.Running, b.Running) || otherFailures(a.Failures, b.Failures) || !reflect.DeepEqual(a.Owner, b.Owner)
}

// otherFailures tells whether the newest failure is another: of many, the oldest are forgotten.
func otherFailures(a, b []Failure) bool {
	n := len(a)
	return n != len(b) || n > 0 && (!a[n-1].At.Equal(b[n-1].At) || a[n-1].Assignment.Key() != b[n-1].Assignment.Key())
}

// View is what was last decided; nil before the first tick.
func (e *Engine) View() *View {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.view
}

// Changed is closed when there is another view than the one that View gave before.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// Reachable is the error of the last look at the release repository; nil: it was read.
func (e *Engine) Reachable() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastErr
}

// Pushed says that the branch may have moved.
func (e *Engine) Pushed() { signal(e.pushed) }

// snapshot is what is observed now, for one plan: later reports don't show in it.
func (e *Engine) snapshot() *Observed {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.obs
	o.Cells = maps.Clone(o.Cells)
	o.Served, o.Refused, o.Registered = maps.Clone(o.Served), maps.Clone(o.Refused), maps.Clone(o.Registered)
	o.Slots = maps.Clone(o.Slots)
	return &o
}

func (e *Engine) publish(v *View) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view == nil {
		silenced(e.obs.Cells, v.Desired.staleAfter())
	}
	e.view = v
	e.stale = v.Desired.staleAfter()
	close(e.changed)
	e.changed = make(chan struct{})
}

// silenced ends the soak of cells that were silent while the process before this one heard others: only what nobody
// listened to is a pause (R9). It changes the map, not the states in it.
func silenced(all map[string]*CellState, staleAfter time.Duration) {
	var heard time.Time
	for _, s := range all {
		if s.LastReport.After(heard) {
			heard = s.LastReport
		}
	}
	for name, s := range all {
		if !s.live && heard.Sub(s.LastReport) > staleAfter {
			c := *s
			c.HealthySince, c.Soaked = time.Time{}, 0
			all[name] = &c
		}
	}
}

// remember adds what a plan learned to what is observed.
func (e *Engine) remember(l Learned) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	all := &e.obs.Learned
	all.Accepted = add(all.Accepted, l.Accepted, func(a, b Acceptance) bool {
		return a.Upstream == b.Upstream && a.Downstream == b.Downstream && a.Digest == b.Digest
	})
	all.Finished = add(all.Finished, l.Finished, func(a, b Finish) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest
	})
	all.Waves = add(all.Waves, l.Waves, func(a, b Through) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest && a.Wave == b.Wave
	})
	rollouts := slices.DeleteFunc(slices.Clone(all.Rollouts), func(old Rollout) bool {
		return slices.ContainsFunc(l.Rollouts, func(r Rollout) bool { return r.Channel == old.Channel && r.Sequence >= old.Sequence })
	})
	all.Rollouts = append(rollouts, l.Rollouts...)
}

// add is all with those of fresh that it has not.
func add[T any](all, fresh []T, same func(a, b T) bool) []T {
	all = slices.Clip(all)
	for _, f := range fresh {
		if !slices.ContainsFunc(all, func(a T) bool { return same(a, f) }) {
			all = append(all, f)
		}
	}
	return all
}

// lapse forgets offers that ended untaken (R14). Each replica finds that out by itself.
func (e *Engine) lapse(names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range names {
		if s := e.obs.Cells[name]; s != nil && s.Granted != nil && !s.took() { // it may have been taken just now
			e.obs.Cells[name] = Lapse(s)
		}
	}
}

// free ends slots: in the store first, then in what is observed.
func (e *Engine) free(ctx context.Context, freed []Freed) error {
	for _, f := range freed {
		if err := e.store.Free(ctx, f.Channel, f.Cells); err != nil {
			return fmt.Errorf("free %d slots of %s: %w", len(f.Cells), f.Channel, err)
		}
		e.mu.Lock()
		e.writes++
		left := slices.DeleteFunc(slices.Clone(e.obs.Slots[f.Channel]), func(name string) bool { return slices.Contains(f.Cells, name) })
		e.obs.Slots = with(e.obs.Slots, f.Channel, left)
		e.mu.Unlock()
	}
	return nil
}

// grant gives cells their assignments: in the store first, then in what is observed. It tells how many were made.
func (e *Engine) grant(ctx context.Context, offers []Offer) (made int, err error) {
	if len(offers) == 0 {
		return 0, nil
	}
	grants, err := e.store.Grant(ctx, offers)
	if err != nil {
		return 0, fmt.Errorf("grant to %d cells: %w", len(offers), err)
	}
	e.counters.grants.Add(uint64(len(grants)))
	slots := map[string]bool{}
	for _, o := range offers {
		slots[o.Cell] = o.Cap > 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	for _, g := range grants {
		e.obs.Cells[g.Cell] = Give(e.obs.Cells[g.Cell], g)
		a := g.Assignment
		e.obs.Served[a.Channel] = max(e.obs.Served[a.Channel], a.Sequence)
		if used := e.obs.Slots[a.Channel]; slots[g.Cell] && !slices.Contains(used, g.Cell) {
			e.obs.Slots = with(e.obs.Slots, a.Channel, append(slices.Clone(used), g.Cell))
		}
	}
	return len(grants), nil
}

// with is slots with a channel's replaced.
func with(slots map[string][]string, channel string, names []string) map[string][]string {
	slots = maps.Clone(orEmpty(slots))
	slots[channel] = names
	return slots
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func bucket(name string, n int) int {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h % uint32(n))
}
