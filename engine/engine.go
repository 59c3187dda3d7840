// Package engine carries plans out: it is the shell around package plan, which decides.
//
// Engine.Tick reads a snapshot, has plan.Make decide, and applies the plan by one compare-and-swap push (invariant 1), then
// records what it saw. Tick may be killed at any instant and run again, and two engines may run at once: git's compare-and-swap
// makes each promotion happen once (invariant 4). It decides nothing itself.
package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/engine/view"
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
	repo     Repository
	store    Store
	opts     Options
	loader   Loader
	pushed   chan struct{} // told of a push: capacity 1
	pass     chan struct{} // who leads is to be told of a push: capacity 1
	moved    chan struct{} // a report changed something: capacity 1
	beat     chan struct{} // a report said the same as before: capacity 1
	flagged  chan struct{} // a report said something else of flags: capacity 1
	flagNews chan struct{} // another process wrote what concerns flags: capacity 1

	ticking  sync.Mutex // held for a whole tick; guards what follows
	desired  *plan.Desired
	recorded map[string]int64 // by channel: the newest decision that the store knows
	refusals map[string]int   // by channel: refused pushes in a row

	lead      leading
	following following
	counters  counters
	roster    atomic.Pointer[roster.Roster] // never nil; replaced under mu
	forgot    atomic.Bool                   // it was said that the store knows less than the cells

	cellLocks [8192]sync.Mutex // by name: a cell's reports are folded one after the other, and held until durable, so that many must not share one

	mu        sync.Mutex // guards what follows
	obs       plan.Observed
	anew      time.Time     // observing began anew: the store was found to be restored (R26); zero: it was not
	writes    uint64        // grows with every write to the store that Known would show: what was read before is not put over it
	members   *plan.Desired // whose cells' identities the roster has; nil: nothing was read yet
	storeTime storeClock
	clock     clock
	stale     time.Duration
	view      *view.View
	flags     *view.Flags   // as last announced; nil: nothing was
	shown     atomic.Bool   // there is a view; read without mu
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
		pushed: make(chan struct{}, 1), pass: make(chan struct{}, 1), moved: make(chan struct{}, 1), beat: make(chan struct{}, 1),
		flagged: make(chan struct{}, 1), flagNews: make(chan struct{}, 1),
		recorded: map[string]int64{}, refusals: map[string]int{}, clock: newClock(time.Now()),
		obs: obs, stale: defaultStale, changed: make(chan struct{}), enlisted: make(chan struct{}),
		following: following{heard: time.Now(), cells: map[string]bool{}, wake: make(chan struct{}, 1)},
	}
	e.roster.Store(roster.Empty())
	return e, nil
}

// defaultStale is used until the first snapshot says better.
const defaultStale = 5 * time.Minute

// ErrUnknownCell: the repository has no such cell.
var ErrUnknownCell = errors.New("no such cell in the release repository")

// ErrNotReady: nothing has been read yet.
var ErrNotReady = errors.New("the release repository has not been read yet")

// View is what was last decided; nil before the first tick.
func (e *Engine) View() *view.View {
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

// Pushed says that the branch may have moved: to this process, and, unless it leads, to the one that does.
func (e *Engine) Pushed() {
	e.lookSoon()
	if !e.Leads() {
		signal(e.pass)
	}
}

// lookSoon has the loop look at the branch.
func (e *Engine) lookSoon() { signal(e.pushed) }

// snapshot is what is observed now, for one plan: later reports don't show in it.
func (e *Engine) snapshot() *plan.Observed {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.obs
	o.Cells = maps.Clone(o.Cells)
	o.Served, o.Refused, o.Registered = maps.Clone(o.Served), maps.Clone(o.Refused), maps.Clone(o.Registered)
	o.Slots = maps.Clone(o.Slots)
	o.Flags = e.flags.ForGates()
	return &o
}

func (e *Engine) publish(v *view.View) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view == nil {
		silenced(e.obs.Cells, v.Desired.StaleAfter())
	}
	e.stale = v.Desired.StaleAfter()
	e.present(v)
}

// present makes v the view, with the flags that were announced last, under mu.
func (e *Engine) present(v *view.View) {
	v.Flags = e.flags
	e.view = v
	e.shown.Store(true)
	close(e.changed)
	e.changed = make(chan struct{})
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
