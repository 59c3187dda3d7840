// Package engine carries plans out: it is the shell around package plan, which decides.
//
// Engine.Tick takes a snapshot, has plan.Make decide, applies the plan by one compare-and-swap push (invariant 1), then
// records what it saw. Package engine decides nothing itself. Tick may be killed at any instant and run again, and two
// engines may run at once: git's compare-and-swap makes each promotion happen once (invariant 4).
package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// Options of an Engine. The zero value is usable.
type Options struct {
	Log zerolog.Logger
	// Key is the SSH public key, in authorized_keys form, that signs what is pushed; empty: nothing is signed
	Key       string
	Signer    *trust.Signer // signs heads for cells, with that key; nil: heads stay unsigned
	Probe     Prober        // runs the plan's Wants; nil: gates that need a probe stay blocked
	CacheFile string        // a cache file for quick starts; safe to delete; empty: none
	// Warming returns how much of a head's images is here, by the time at which the head moved; ok is false if all are.
	// nil: no images are served.
	Warming func(release releases.Digest, moved time.Time) (w plan.Warming, ok bool)
	Audit   Audit          // how far the audit is; nil: that is not committed
	Poll    time.Duration  // how often the branch is fetched without a notified push; jittered; default 60s
	Watches []*RecordWatch // are told what other processes write
}

// Engine carries plans out: the shell around plan.Make. Of several engines that share a store each makes and shows the
// plan; only the leader carries it out (see lease), though two would do no harm. Each follows what the others write
// (see follower).
//
// Methods may be called from any goroutine. Ticks happen one at a time; reports are received at any time.
//
// Locks are taken in this order: tickMu, then a cell's lock in inbox, then one of the mutexes of observations,
// publisher, clocks, lease and follower, never two of these. Only tickMu and a cell's lock are held over I/O. Type
// signals says what wakes whom; the View's Changed and RosterChanged wake the handlers that serve cells.
type Engine struct {
	*publisher // the newest view
	*registrar // which key may speak as which cell
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

	tickMu            sync.Mutex // held for a whole tick; guards the fields below
	host              hostCalls
	desired           *plan.Desired
	memory            plan.Memory
	audit             auditReader
	recordedSequences map[string]int64 // by channel: the newest decision that the store knows
	refusalCounts     map[string]int   // by channel: refused pushes in a row
}

// New returns an engine that continues from what store has.
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
	follower.watches = o.Watches
	clocks := &clocks{
		store: store, log: o.Log, singleProcess: follower.isSingleProcess, detector: newStepDetector(time.Now()),
	}
	registrar := &registrar{store: store, obs: obs, clocks: clocks, signals: signals}
	return &Engine{
		publisher: newPublisher(), registrar: registrar, repo: repo, store: store, opts: o, signals: signals,
		loader: Loader{Repo: repo, CacheFile: o.CacheFile}, clocks: clocks, observations: obs, follower: follower,
		lease:             &lease{store: store, clocks: clocks, signals: signals, log: o.Log},
		inbox:             &inbox{store: store, obs: obs, registrar: registrar, log: o.Log},
		host:              hostCalls{repo: repo, answered: signals.hostAnswered},
		audit:             auditReader{audit: o.Audit, log: o.Log},
		recordedSequences: map[string]int64{}, refusalCounts: map[string]int{},
	}, nil
}

// ErrUnknownCell means that the repository has no such cell.
var ErrUnknownCell = errors.New("no such cell in the release repository")

// ErrNotReady means that the repository has not been read since the process started.
var ErrNotReady = errors.New("the release repository has not been read yet")

// NotifyPush notes that the branch may have moved, and notifies the leader if this process does not lead.
func (e *Engine) NotifyPush() {
	e.signals.pushed.Notify()
	if !e.lease.Leads() {
		e.signals.forwardPush.Notify()
	}
}

// CopyHistory returns a copy of the history of e's release repository, up to the commit that was loaded last; before
// that, ErrNotReady. It waits for a load that goes on.
func CopyHistory(e *Engine) (*plan.History, error) { return e.loader.CopyHistory() }
