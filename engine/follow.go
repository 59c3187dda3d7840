package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// deafAfter is how long a replica may hear nothing of the store, and still answer cells (R29).
const deafAfter = 5 * time.Second

// following is what other processes wrote, on its way into what is observed here.
type following struct {
	mu       sync.Mutex // guards what follows
	alone    bool       // no other process can write
	heard    time.Time  // of the store, last; monotonic
	cells    map[string]bool
	known    bool
	all      bool
	material bool
	unread   time.Time     // since when something is known to be there that may shut a cell out, and was not read; zero: nothing is
	reading  time.Time     // the same, of what is read now
	wake     chan struct{} // capacity 1
}

// Fresh is nil while the store was heard of lately: else this replica can't know who was shut out meanwhile (R29).
// Before the repository has been read it knows nobody: an answer that somebody is not known would be false.
func (e *Engine) Fresh() error {
	if !e.shown.Load() {
		return ErrNotReady
	}
	f := &e.following
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.alone {
		return nil
	}
	if since := time.Since(f.heard); since > deafAfter {
		return fmt.Errorf("nothing was heard of the store for %s: look at the connection to it", since.Round(time.Second))
	}
	for _, told := range []time.Time{f.reading, f.unread} {
		if since := time.Since(told); !told.IsZero() && since > deafAfter {
			return fmt.Errorf("what the store told of %s ago could not be read: look at how busy it is", since.Round(time.Second))
		}
	}
	return nil
}

func (f *following) single() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alone
}

// follow listens to the store until ctx ends, or there is nothing to listen to.
func (e *Engine) follow(ctx context.Context) {
	for try := 0; ; try++ {
		err := e.store.Follow(ctx, e.told)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			e.following.mu.Lock()
			e.following.alone = true
			e.following.mu.Unlock()
			return
		}
		e.opts.Log.Warn().Err(err).Msg("the store can't be followed: trying again")
		if sleep(ctx, backoff(try)) != nil {
			return
		}
	}
}

// passOn tells who leads of pushes that only this process was told of, until ctx ends. What can't be told is found by polling.
func (e *Engine) passOn(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.pass:
		}
		limited, cancel := context.WithTimeout(ctx, deafAfter)
		if err := e.store.Pushed(limited); err != nil && ctx.Err() == nil {
			e.opts.Log.Warn().Err(err).Msg("the others can't be told of a push: they find it by polling")
		}
		cancel()
	}
}

// told notes that the store was heard of, and what there is to read. It never waits.
func (e *Engine) told(n News) {
	f := &e.following
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
	f.note(n)
	if n.Pushed || n.All {
		e.lookSoon()
	}
	if n.Flags || n.All {
		signal(e.flagNews)
	}
}

// note adds to what there is to read, under mu.
func (f *following) note(n News) {
	if len(n.Cells) == 0 && !n.Known && !n.All {
		return
	}
	for _, name := range n.Cells {
		f.cells[name] = true
	}
	f.known, f.all, f.material = f.known || n.Known, f.all || n.All, f.material || n.Material
	if (n.Known || n.All) && f.unread.IsZero() {
		f.unread = time.Now()
	}
	signal(f.wake)
}

// take gives what there is to read, and forgets it.
func (f *following) take() News {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := News{Cells: slices.Sorted(maps.Keys(f.cells)), Known: f.known, All: f.all, Material: f.material}
	f.cells, f.known, f.all, f.material = map[string]bool{}, false, false, false
	f.reading, f.unread = f.unread, time.Time{}
	return n
}

// read says how reading went: what could not be read is still to be read.
func (f *following) read(n News, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	since := f.reading
	f.reading = time.Time{}
	if err != nil {
		f.note(n)
		if !since.IsZero() {
			f.unread = since
		}
	}
}

// catchUp reads what was told of, until ctx ends.
func (e *Engine) catchUp(ctx context.Context) {
	for tries := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-e.following.wake:
		}
		n := e.following.take()
		err := e.hear(ctx, n)
		e.following.read(n, err)
		if err == nil {
			tries = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		e.opts.Log.Warn().Err(err).Msg("what another process wrote can't be read: trying again")
		if sleep(ctx, backoff(tries)) != nil {
			return
		}
		tries++
	}
}

// hear takes news into what is observed.
func (e *Engine) hear(ctx context.Context, n News) error {
	if n.All {
		if err := e.readAll(ctx); err != nil {
			return err
		}
		signal(e.moved)
		return nil
	}
	if n.Known { // first, so that who was shut out is out
		if err := e.refresh(ctx); err != nil {
			return err
		}
	}
	if len(n.Cells) > 0 {
		states, err := e.store.Cells(ctx, n.Cells...)
		if err != nil {
			return fmt.Errorf("read %d cells: %w", len(n.Cells), err)
		}
		e.put(states)
	}
	if n.Known || n.Material {
		signal(e.moved)
	} else {
		signal(e.beat)
	}
	return nil
}

// readAll reads everything that the store has.
func (e *Engine) readAll(ctx context.Context) error {
	if err := e.refresh(ctx); err != nil {
		return err
	}
	states, err := e.store.Cells(ctx)
	if err != nil {
		return fmt.Errorf("read all cells: %w", err)
	}
	e.put(states)
	return nil
}

// put takes cells' states that were read into what is observed: never an older one over a newer.
func (e *Engine) put(states map[string]*plan.CellState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	flags := false
	for name, s := range states {
		flags = flags || plan.FlagsDiffer(e.obs.Cells[name], s)
		e.obs.Cells[name] = newer(e.obs.Cells[name], e.watched(s))
		if e.served(s) {
			e.obs.Served[s.Channel] = s.Sequence
		}
	}
	if flags {
		signal(e.flagged)
	}
}

// watched marks a state that was read: the time since its report was watched by this process too, if it was listening then.
func (e *Engine) watched(s *plan.CellState) *plan.CellState {
	s.Watch(e.obs.Up)
	return s
}

// served tells whether a state has a sequence above all that are known, under e.mu. Channels that the repository does
// not have don't count: a cell could name one after the other.
func (e *Engine) served(s *plan.CellState) bool {
	return s.Channel != "" && s.Sequence > e.obs.Served[s.Channel] && (e.members == nil || e.members.Channels[s.Channel] != nil)
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

// refresh reads all but the cells. What this process wrote while it was read is not lost: then it is read again.
func (e *Engine) refresh(ctx context.Context) error {
	for {
		e.mu.Lock()
		before := e.writes
		e.mu.Unlock()
		o, err := e.store.Known(ctx)
		if err != nil {
			return fmt.Errorf("read what was observed: %w", err)
		}
		if e.keep(o, before) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// keep takes o into what is observed, unless this process wrote anything since before.
func (e *Engine) keep(o plan.Observed, before uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.writes != before {
		return false
	}
	mine := e.obs
	if o.Seen != mine.Seen && (e.members == nil || o.Seen != e.members.Commit) {
		e.lookSoon() // who leads has seen another tip
	}
	e.obs.Since, e.obs.Seen, e.obs.Diverged = o.Since, o.Seen, o.Diverged
	if e.anew.After(o.Since) {
		e.obs.Since = e.anew
	}
	e.obs.Learned, e.obs.Observations, e.obs.Slots = o.Learned, o.Observations, o.Slots
	e.obs.Refused = orEmpty(o.Refused)
	for channel, n := range o.Served {
		mine.Served[channel] = max(mine.Served[channel], n)
	}
	changed := false
	for name, r := range o.Registered {
		if old, ok := mine.Registered[name]; !ok || r.Identity.Serial > old.Identity.Serial {
			mine.Registered[name] = r
			changed = true
		}
	}
	if changed {
		e.enroll()
	}
	return true
}

func orEmpty[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}
