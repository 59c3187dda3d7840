// Package announcer carries announcements out: it reads the flags repository, has announce.Make decide, tells cells by
// engine.Announce, and commits what has to be remembered, by one compare-and-swap push a round, to the flags repository and to
// nothing else. It decides nothing itself.
//
// What always holds:
//   - What turns something off waits for nobody: a kill is told to cells as soon as it is stored, also while the git host does
//     not answer or the tip is broken, and counts until its commit is on the branch (R43). Git's exchanges happen beside the
//     loop, one at a time.
//   - Definitions come from the newest valid commit, overrides from the tip (fault 33).
//   - After a force-push cells keep what they have until a commit accepts it (R39).
//   - Of several processes each tells its cells; the one that leads commits, posts events, and remembers. Two that did so would do
//     no harm: git compares and swaps, and an event is posted once.
package announcer

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/wake"
)

// Options of an Announcer. Repo, Store and Engine are required.
type Options struct {
	Repo   engine.Repository // the flags repository: a gitrepo.Repo of gitrepo.FlagsLayout
	Store  engine.FlagStore
	Engine *engine.Engine // runs beside
	Log    zerolog.Logger
	Poll   time.Duration // how often the branch is looked at without being told of a push; jittered; default 60s
}

const (
	minPlanGap = 250 * time.Millisecond // the least time between plans that only reports ask for
	restFactor = 5                      // after such a plan, so many times as long as it took nothing is done for another one
)

// Announcer is the loop. Kill and Pushed may be called from any goroutine; Run once.
type Announcer struct {
	opts     Options
	pushed   wake.Signal // the branch may have moved
	killed   wake.Signal // a kill was stored
	reader   reader      // the git job's: there is one at a time
	bundles  bundleCache
	contents *releaseContents

	// What follows is Run's.
	loaded       bool           // mark, kills and memory were read from the store
	started      bool           // the first job was begun
	storeUnread  bool           // the last try to read them failed
	mark         plan.FlagsMark // the newest that the store was heard to have
	kills        []plan.Kill
	memory       announce.Memory
	storedMemory announce.Memory // as the store has it
	snapshot     *snapshot       // what is acted upon; nil: nothing could be read yet
	knownKills   map[string]bool // IDs of the kills that were known when the look began that gave read
	diverged     *plan.Divergence
	repoFault    string // why the repository can't be read; empty: it can
	leads        bool
	postedEvents map[string]bool // IDs of events that are posted
	plan         announce.Plan
	planInputs   planInputs // what plan was made of
	lastTrusted  time.Time  // the last instant at which time could be trusted; zero: it never could
	published    *view.Flags
	pushes       pushState
	planCount    uint64 // plans, ever
}

// planInputs is all that a plan is made of but the time.
type planInputs struct {
	snapshot  *snapshot
	kills     []plan.Kill
	diverged  *plan.Divergence
	repoFault string
	fleet     *fleet
	leads     bool
	doubt     string // why time can't be trusted (R10); empty: it can
}

func (s planInputs) equal(o planInputs) bool {
	return s.snapshot == o.snapshot && s.diverged == o.diverged && s.repoFault == o.repoFault && s.leads == o.leads && s.doubt == o.doubt && sameKills(s.kills, o.kills) && s.fleet.equal(o.fleet)
}

// New makes an announcer.
func New(o Options) (*Announcer, error) {
	if o.Repo == nil || o.Store == nil || o.Engine == nil {
		return nil, errors.New("make announcer: it needs a repository, a store and an engine")
	}
	if o.Poll <= 0 {
		o.Poll = time.Minute
	}
	return &Announcer{
		opts: o, pushed: wake.New(), killed: wake.New(), reader: reader{repo: o.Repo}, postedEvents: map[string]bool{},
	}, nil
}

// Pushed says that the flags repository's branch may have moved.
func (a *Announcer) Pushed() { a.pushed.Notify() }

// Kill turns a flag off in all cells: it is stored when Kill returns, told to cells at once, and committed later. Only Flag,
// Reason, By and Until of o count: one of some cells is a file, so that no stored kill narrows another. Whether there is such a
// flag is not asked.
func (a *Announcer) Kill(ctx context.Context, o repository.Override) error {
	if o.Flag == "" {
		return errors.New("kill: no flag is named")
	}
	o = repository.Override{
		APIVersion: "sluice/v1", Kind: repository.Kill, Flag: o.Flag, Reason: o.Reason, By: o.By, Until: o.Until.UTC().Truncate(time.Second),
	}
	if err := a.opts.Store.Kill(ctx, plan.Kill{ID: rand.Text(), At: a.opts.Engine.Now().UTC(), Override: o}); err != nil {
		return err
	}
	a.killed.Notify()
	return nil
}

// Run goes on until ctx ends: when a push, a kill, a report or another process has news, when the plan of releases changes, and
// when time does. watch may be nil, or be closed: then nobody tells of pushes.
func (a *Announcer) Run(ctx context.Context, watch <-chan struct{}) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	t := newTimers()
	defer t.stop()
	done := make(chan jobResult, 1)
	busy, fetch, changed := false, true, a.opts.Engine.Changed()
	a.loadStored(ctx)
	for {
		if !busy && a.loaded {
			if do := a.nextJob(fetch); do != nil {
				busy, fetch = true, false
				beside.Go(func() { done <- do(ctx) })
			}
		}
		look := false // only reports, or the plan of releases, ask for another plan
		select {
		case <-ctx.Done():
			return nil
		case <-t.poll.C:
			fetch = true
			a.loadStored(ctx)
		case <-a.pushed:
			fetch = true
			a.loadStored(ctx)
		case _, open := <-watch:
			if !open { // polling goes on
				watch = nil
				continue
			}
			fetch = true
			a.loadStored(ctx)
		case <-a.killed:
			a.loadStored(ctx)
		case <-a.opts.Engine.FlagsWritten():
			a.loadStored(ctx)
		case r := <-done:
			busy = false
			again, wait := a.handleResult(ctx, r)
			fetch = fetch || again
			t.poll.Reset(wait)
		case <-a.opts.Engine.FlagsReported():
			look = true
		case <-changed:
			changed, look = a.opts.Engine.Changed(), true
		case <-t.deferred.C:
			t.isDeferred = false
		case <-t.wake.C:
		}
		if look && t.deferPlan() {
			continue
		}
		began := time.Now()
		fetch = a.decide(ctx) || fetch
		t.reset(began, a.nextWait())
	}
}

// timers are what wakes the loop.
type timers struct {
	poll, wake, deferred *time.Timer
	isDeferred           bool // look runs
	restUntil            time.Time
}

func newTimers() *timers {
	return &timers{poll: time.NewTimer(time.Hour), wake: time.NewTimer(time.Hour), deferred: time.NewTimer(time.Hour)}
}

func (t *timers) stop() {
	for _, timer := range []*time.Timer{t.poll, t.wake, t.deferred} {
		timer.Stop()
	}
}

// deferPlan tells whether a look has to wait for others, and sees to it that it comes.
func (t *timers) deferPlan() bool {
	left := time.Until(t.restUntil)
	if left <= 0 {
		return false
	}
	if !t.isDeferred {
		t.isDeferred = true
		t.deferred.Reset(left)
	}
	return true
}

func (t *timers) reset(began time.Time, next time.Duration) {
	t.restUntil = began.Add(minPlanGap)
	if now := time.Now(); now.After(began) {
		t.restUntil = maxTime(t.restUntil, now.Add(restFactor*now.Sub(began)))
	}
	t.wake.Reset(next)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
