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
	lookGap = 250 * time.Millisecond // the least time between plans that only reports ask for
	restful = 5                      // after such a plan, so many times as long as it took nothing is done for another one
)

// Announcer is the loop. Kill and Pushed may be called from any goroutine; Run once.
type Announcer struct {
	o      Options
	pushed wake.Signal // the branch may have moved
	killed wake.Signal // a kill was stored
	reader reader      // the git job's: there is one at a time
	press  press
	code   *code

	// What follows is Run's.
	stored  bool           // mark, kills and memory were read from the store
	began   bool           // the first job was begun
	unread  bool           // the last try to read them failed
	mark    plan.FlagsMark // the newest that the store was heard to have
	kills   []plan.Kill
	memory  announce.Memory
	kept    announce.Memory // as the store has it
	read    *reading        // what is acted upon; nil: nothing could be read yet
	asked   map[string]bool // IDs of the kills that were known when the look began that gave read
	split   *plan.Divergence
	fault   string // why the repository can't be read; empty: it can
	leads   bool
	posted  map[string]bool // IDs of events that are posted
	plan    announce.Plan
	decided situation // what plan was made of
	trusted time.Time // the last instant at which time could be trusted; zero: it never could
	shown   *view.Flags
	push    pushing
	made    uint64 // plans, ever
}

// situation is all that a plan is made of but the time.
type situation struct {
	read  *reading
	kills []plan.Kill
	split *plan.Divergence
	fault string
	fleet *fleet
	leads bool
	doubt string // why time can't be trusted (R10); empty: it can
}

func (s situation) same(o situation) bool {
	return s.read == o.read && s.split == o.split && s.fault == o.fault && s.leads == o.leads && s.doubt == o.doubt && sameKills(s.kills, o.kills) && s.fleet.same(o.fleet)
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
		o: o, pushed: wake.New(), killed: wake.New(), reader: reader{repo: o.Repo}, posted: map[string]bool{},
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
	if err := a.o.Store.Kill(ctx, plan.Kill{ID: rand.Text(), At: a.o.Engine.Now().UTC(), Override: o}); err != nil {
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
	done := make(chan result, 1)
	busy, fetch, changed := false, true, a.o.Engine.Changed()
	a.recall(ctx)
	for {
		if !busy && a.stored {
			if do := a.job(fetch); do != nil {
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
			a.recall(ctx)
		case <-a.pushed:
			fetch = true
			a.recall(ctx)
		case _, open := <-watch:
			if !open { // polling goes on
				watch = nil
				continue
			}
			fetch = true
			a.recall(ctx)
		case <-a.killed:
			a.recall(ctx)
		case <-a.o.Engine.FlagsWritten():
			a.recall(ctx)
		case r := <-done:
			busy = false
			again, wait := a.took(ctx, r)
			fetch = fetch || again
			t.poll.Reset(wait)
		case <-a.o.Engine.FlagsReported():
			look = true
		case <-changed:
			changed, look = a.o.Engine.Changed(), true
		case <-t.look.C:
			t.late = false
		case <-t.wake.C:
		}
		if look && t.wait() {
			continue
		}
		began := time.Now()
		fetch = a.decide(ctx) || fetch
		t.decided(began, a.next())
	}
}

// timers are what wakes the loop.
type timers struct {
	poll, wake, look *time.Timer
	late             bool // look runs
	rest             time.Time
}

func newTimers() *timers {
	return &timers{poll: time.NewTimer(time.Hour), wake: time.NewTimer(time.Hour), look: time.NewTimer(time.Hour)}
}

func (t *timers) stop() {
	for _, timer := range []*time.Timer{t.poll, t.wake, t.look} {
		timer.Stop()
	}
}

// wait tells whether a look has to wait for others, and sees to it that it comes.
func (t *timers) wait() bool {
	left := time.Until(t.rest)
	if left <= 0 {
		return false
	}
	if !t.late {
		t.late = true
		t.look.Reset(left)
	}
	return true
}

func (t *timers) decided(began time.Time, next time.Duration) {
	t.rest = began.Add(lookGap)
	if now := time.Now(); now.After(began) {
		t.rest = maxTime(t.rest, now.Add(restful*now.Sub(began)))
	}
	t.wake.Reset(next)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
