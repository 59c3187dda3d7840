// Package engine carries plans out: it is the shell around package plan, which decides.
//
// Engine.Tick reads a snapshot, has plan.Make decide, and applies the plan by one compare-and-swap push (invariant 1), then
// records what it saw. Tick may be killed at any instant and run again, and two engines may run at once: git's compare-and-swap
// makes each promotion happen once (invariant 4). It decides nothing itself.
package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Options of an Engine. The zero value is usable.
type Options struct {
	Log   zerolog.Logger
	Key   string        // the SSH public key, authorized_keys form, that Repository signs commits with; empty: it signs none
	Probe Prober        // answers Wants; nil: nobody does, and gates that look outside stay blocked
	Keep  string        // a file that makes the next start quick; it holds nothing that git has not; empty: none
	Poll  time.Duration // how often the branch is looked at without being told of a push; jittered; default 60s
}

// Engine carries plans out: the shell around plan.Make. Of several that share a store each makes the plan and shows it; the
// one that leads carries it out (see lease), and two would do no harm. What the others write is followed (see follower).
//
// Methods may be called from any goroutine. Ticks happen one at a time; reports are taken at any time.
//
// Locks are taken in this order: ticking, then a cell's in inbox, then one of those that guard a few fields each (observations,
// publisher, clocks, lease, follower), never two of the last. None but ticking and a cell's is held over I/O. What wakes whom is
// said at signals; View's Changed and RosterChanged wake who serves cells.
type Engine struct {
	*publisher // what was decided last
	*registrar // who may speak as which cell
	*lease     // whether this process leads

	repo         Repository
	store        Store
	opts         Options
	loader       Loader
	signals      *signals
	clocks       *clocks
	observations *observations
	follower     *follower
	inbox        *inbox
	counters     counters

	ticking  sync.Mutex // held for a whole tick; guards what follows
	desired  *plan.Desired
	recorded map[string]int64 // by channel: the newest decision that the store knows
	refusals map[string]int   // by channel: refused pushes in a row
}

// New makes an engine that goes on from what store has.
func New(ctx context.Context, repo Repository, store Store, o Options) (*Engine, error) {
	if o.Poll <= 0 {
		o.Poll = time.Minute
	}
	signals := newSignals()
	obs, err := readObservations(ctx, store, signals)
	if err != nil {
		return nil, err
	}
	follower := newFollower(store, obs, signals, o.Log)
	clocks := &clocks{store: store, log: o.Log, alone: follower.single, steps: newClock(time.Now())}
	registrar := &registrar{store: store, obs: obs, clocks: clocks, signals: signals}
	return &Engine{
		publisher: newPublisher(), registrar: registrar, lease: &lease{store: store, clocks: clocks, signals: signals, log: o.Log},
		repo: repo, store: store, opts: o, loader: Loader{Repo: repo, Keep: o.Keep}, signals: signals, clocks: clocks, observations: obs,
		follower: follower, inbox: &inbox{store: store, obs: obs, registrar: registrar, log: o.Log},
		recorded: map[string]int64{}, refusals: map[string]int{},
	}, nil
}

// ErrUnknownCell: the repository has no such cell.
var ErrUnknownCell = errors.New("no such cell in the release repository")

// ErrNotReady: nothing has been read yet.
var ErrNotReady = errors.New("the release repository has not been read yet")

// Pushed says that the branch may have moved: to this process, and, unless it leads, to the one that does.
func (e *Engine) Pushed() {
	e.signals.pushed.Notify()
	if !e.lease.Leads() {
		e.signals.pass.Notify()
	}
}
