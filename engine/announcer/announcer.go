// Package announcer carries announcements out: it reads the flags repository, has announce.Make decide, publishes flags
// to cells by engine.Announce, and commits what must be remembered to the flags repository by one compare-and-swap push
// a round. It decides nothing itself, and writes no other repository.
//
// What always holds:
//   - Nothing delays turning a flag off: a stored kill is sent to cells at once, even while the git host does not
//     answer or the tip is invalid, and counts until its commit is on the branch (R43). Exchanges with git run beside
//     the loop, one at a time.
//   - Definitions come from the newest valid commit, overrides from the tip. A file with a fault stands at its last
//     content without, and keeps no other from changing (fault 33).
//   - After a force-push cells keep what they have until a commit accepts the branch (R39).
//   - Each of several processes serves its cells; only the leader commits, posts events, and stores memory. Two leaders
//     would do no harm: git compares and swaps, and an event is posted once.
//
// Kill and Pushed may be called from any goroutine; Run and Tick may not run at once.
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
	Engine *engine.Engine // runs concurrently
	Log    zerolog.Logger
	Poll   time.Duration // interval of fetching without a notified push; jittered; default 60s
}

const (
	minPlanGap = 250 * time.Millisecond // the least time between plans for reports
	restFactor = 5                      // after such a plan, the next one waits for so many times its duration
)

// Announcer is the loop. Kill and Pushed may be called from any goroutine; Run must be called once.
type Announcer struct {
	opts     Options
	pushed   wake.Signal // the branch may have moved
	killed   wake.Signal // a kill was stored
	reader   reader      // used by one job at a time
	bundles  bundleCache
	contents *releaseContents

	// The fields below belong to Run's goroutine.
	loaded       bool           // mark, kills and memory were read from the store
	started      bool           // the first job has started
	storeUnread  bool           // the last attempt to read the store failed
	mark         plan.FlagsMark // the newest known mark of the store
	kills        []plan.Kill
	memory       announce.Memory
	storedMemory announce.Memory // memory as stored
	snapshot     *snapshot       // what is acted upon; nil: nothing could be read yet
	knownKills   map[string]bool // IDs of kills that were known before snapshot was fetched
	diverged     *plan.Divergence
	repoFault    string    // why the repository can't be read; empty: it was read
	exchange     *exchange // the job that goes on; nil: none
	leads        bool
	postedEvents map[string]bool // IDs of posted events
	plan         announce.Plan
	planInputs   planInputs // the inputs of plan
	lastTrusted  time.Time  // the last time that could be trusted; zero: never
	published    *view.Flags
	pushes       pushState
	planCount    uint64 // number of plans since the start
}

// planInputs holds everything that a plan is made of, except the time.
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
	return s.snapshot == o.snapshot && s.diverged == o.diverged && s.repoFault == o.repoFault && s.leads == o.leads &&
		s.doubt == o.doubt && sameKills(s.kills, o.kills) && s.fleet.equal(o.fleet)
}

// New returns an announcer.
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

// NotifyPush notes that the flags repository's branch may have moved.
func (a *Announcer) NotifyPush() { a.pushed.Notify() }

// Kill turns a flag off in all cells: the kill is stored when Kill returns, sent to cells at once, and committed later.
// Only Flag, Reason, By and Until of o are used: a kill for some cells is a file, so that no stored kill narrows
// another. The flag need not exist.
func (a *Announcer) Kill(ctx context.Context, o repository.Override) error {
	if o.Flag == "" {
		return errors.New("kill: no flag is named")
	}
	o = repository.Override{
		APIVersion: "sluice/v1", Kind: repository.Kill, Flag: o.Flag, Reason: o.Reason, By: o.By,
		Until: o.Until.UTC().Truncate(time.Second),
	}
	if err := a.opts.Store.Kill(ctx, plan.Kill{ID: rand.Text(), At: a.opts.Engine.Now().UTC(),
		Override: o}); err != nil {
		return err
	}
	a.killed.Notify()
	return nil
}

// Run runs until ctx ends. It acts on pushes, kills, reports, writes of other processes, new release plans, and at
// instants that plans name. watch signals pushes; it may be nil, or be closed.
func (a *Announcer) Run(ctx context.Context, watch <-chan struct{}) error {
	var background sync.WaitGroup
	defer background.Wait()
	t := newTimers()
	defer t.stop()
	results := make(chan jobResult, 1)
	fetch, changed := true, a.opts.Engine.Changed()
	a.loadStored(ctx)
	start := func() { // the next job, if there is one and none is under way
		if a.exchange != nil || !a.loaded {
			return
		}
		if kind, do := a.nextJob(fetch); do != nil {
			a.exchange, fetch = &exchange{kind: kind, began: time.Now(), since: a.opts.Engine.Now()}, false
			background.Go(func() { results <- do(ctx) })
		}
	}
	for {
		start()
		deferrable := false // only reports or the release plan changed
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
		case r := <-results:
			a.exchange = nil
			again, wait := a.handleResult(ctx, r)
			fetch = fetch || again
			t.poll.Reset(wait)
		case <-a.opts.Engine.FlagsReported():
			deferrable = true
		case <-changed:
			changed, deferrable = a.opts.Engine.Changed(), true
		case <-t.deferred.C:
			t.isDeferred = false
		case <-t.wake.C:
		}
		if deferrable && t.deferPlan() {
			continue
		}
		if fetch {
			start() // a look at the branch does not wait for the decision
		}
		began := time.Now()
		fetch = a.decide(ctx) || fetch
		t.reset(began, a.nextWait())
	}
}

type timers struct {
	poll, wake, deferred *time.Timer
	isDeferred           bool // deferred runs
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

// deferPlan reports whether the next plan must wait for other reports, and schedules it.
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
