package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
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

// Engine carries plans out: the shell around Make. One at a time leads, and two do no harm.
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

	cellLocks [64]sync.Mutex // by name: a cell's reports are folded one after the other

	mu      sync.Mutex // guards what follows
	obs     Observed
	seen    string
	stale   time.Duration
	view    *View
	changed chan struct{} // closed when view is replaced
	lastErr error         // of the last look at the repository; nil: reachable
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
	if obs.Cells == nil {
		obs.Cells = map[string]*CellState{}
	}
	if obs.Served == nil {
		obs.Served = map[string]int64{}
	}
	if obs.Refused == nil {
		obs.Refused = map[string]Refusal{}
	}
	if o.Poll <= 0 {
		o.Poll = time.Minute
	}
	return &Engine{
		repo: repo, store: store, opts: o, loader: Loader{Repo: repo, Keep: o.Keep},
		pushed: make(chan struct{}, 1), moved: make(chan struct{}, 1), beat: make(chan struct{}, 1),
		recorded: map[string]int64{}, refusals: map[string]int{}, clock: newClock(time.Now()),
		obs: obs, seen: obs.Seen, stale: defaultStale, changed: make(chan struct{}),
	}, nil
}

// defaultStale is used until the first snapshot says better.
const defaultStale = 5 * time.Minute

// ErrUnknownCell: the repository has no such cell.
var ErrUnknownCell = errors.New("no such cell in the release repository")

// ErrNotReady: nothing has been read yet.
var ErrNotReady = errors.New("the release repository has not been read yet")

// Receive takes a cell's report and returns once it is durable (invariant 8).
func (e *Engine) Receive(ctx context.Context, r cells.Report) (cells.Receipt, error) {
	received := time.Now()
	view := e.View()
	if view == nil {
		return cells.Receipt{}, ErrNotReady
	}
	if view.Desired.Cells[r.Cell] == nil {
		return cells.Receipt{}, fmt.Errorf("report of %q: %w", r.Cell, ErrUnknownCell)
	}
	lock := &e.cellLocks[bucket(r.Cell, len(e.cellLocks))]
	lock.Lock()
	defer lock.Unlock()

	e.mu.Lock()
	prev, stale := e.obs.Cells[r.Cell], e.stale
	e.mu.Unlock()
	state := Receive(prev, r, received, stale)
	if err := e.store.Report(ctx, []Reported{{State: state, Boot: r.Boot, Events: r.Events}}); err != nil {
		return cells.Receipt{}, fmt.Errorf("keep report of %s: %w", r.Cell, err)
	}
	e.mu.Lock()
	if now := e.obs.Cells[r.Cell]; now != nil && now.Granted != state.Granted { // it changed in between
		c := *state // the store may still have it
		c.Granted, c.GrantedAt = now.Granted, now.GrantedAt
		state = &c
	}
	e.obs.Cells[r.Cell] = state
	if state.Sequence > e.obs.Served[state.Channel] {
		e.obs.Served[state.Channel] = state.Sequence
	}
	e.mu.Unlock()
	if material(prev, state) {
		signal(e.moved)
	} else {
		signal(e.beat)
	}
	receipt := cells.Receipt{Time: received}
	if n := len(r.Events); n > 0 {
		receipt.Acknowledged = r.Events[n-1].Number
	}
	return receipt, nil
}

// material tells whether a report says anything new but that time went by.
func material(a, b *CellState) bool {
	return a == nil || a.State != b.State || a.Digest != b.Digest || a.Sequence != b.Sequence || a.Epoch != b.Epoch ||
		len(a.Failures) != len(b.Failures) || (a.Applying == nil) != (b.Applying == nil) || a.Infrastructure != b.Infrastructure || revised(a.Running, b.Running)
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
	o.Served, o.Refused = maps.Clone(o.Served), maps.Clone(o.Refused)
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
	all := &e.obs.Learned
	all.Accepted = append(slices.Clip(all.Accepted), l.Accepted...)
	all.Finished = append(slices.Clip(all.Finished), l.Finished...)
	rollouts := slices.DeleteFunc(slices.Clone(all.Rollouts), func(old Rollout) bool {
		return slices.ContainsFunc(l.Rollouts, func(r Rollout) bool { return r.Channel == old.Channel && r.Sequence > old.Sequence })
	})
	all.Rollouts = append(rollouts, l.Rollouts...)
	for _, name := range l.Lapsed {
		if s := e.obs.Cells[name]; s != nil && s.Granted != nil && !s.took() { // it may have been taken just now
			e.obs.Cells[name] = Lapse(s)
		}
	}
}

// grant gives cells their assignments: in the store first, then in what is observed.
func (e *Engine) grant(ctx context.Context, grants []Granted) error {
	if len(grants) == 0 {
		return nil
	}
	offers := make([]Offer, len(grants))
	for i, g := range grants {
		offers[i].Granted = g
	}
	grants, err := e.store.Grant(ctx, offers)
	if err != nil {
		return fmt.Errorf("grant to %d cells: %w", len(offers), err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, g := range grants {
		e.obs.Cells[g.Cell] = Give(e.obs.Cells[g.Cell], g)
		if a := g.Assignment; a.Sequence > e.obs.Served[a.Channel] {
			e.obs.Served[a.Channel] = a.Sequence
		}
	}
	return nil
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
