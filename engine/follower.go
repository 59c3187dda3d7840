package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
)

// deafAfter is how long a replica may hear nothing of the store, and still answer cells (R29).
const deafAfter = 5 * time.Second

// follower takes what other processes write to the store into what is observed here.
type follower struct {
	store   Store
	obs     *observations
	signals *signals
	log     zerolog.Logger

	mu       sync.Mutex // guards what follows
	alone    bool       // no other process can write
	heard    time.Time  // of the store, last; monotonic
	cells    map[string]bool
	known    bool
	all      bool
	material bool
	unread   time.Time   // since when something is known to be there that may shut a cell out, and was not read; zero: nothing is
	reading  time.Time   // the same, of what is read now
	wake     wake.Signal // there is something to read: wakes catchUp
}

// Fresh is nil while the store was heard of lately: else this replica can't know who was shut out meanwhile (R29).
// Before the repository has been read it knows nobody: an answer that somebody is not known would be false.
func (e *Engine) Fresh() error {
	if !e.publisher.shown.Load() {
		return ErrNotReady
	}
	return e.follower.fresh()
}

func newFollower(store Store, obs *observations, s *signals, log zerolog.Logger) *follower {
	return &follower{store: store, obs: obs, signals: s, log: log, heard: time.Now(), cells: map[string]bool{}, wake: wake.New()}
}

// fresh is nil while the store was heard of lately.
func (f *follower) fresh() error {
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

// single reports whether no other process can write to the store.
func (f *follower) single() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alone
}

// follow listens to the store until ctx ends, or there is nothing to listen to.
func (f *follower) follow(ctx context.Context) {
	for try := 0; ; try++ {
		err := f.store.Follow(ctx, f.told)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			f.mu.Lock()
			f.alone = true
			f.mu.Unlock()
			return
		}
		f.log.Warn().Err(err).Msg("the store can't be followed: trying again")
		if backoff.Sleep(ctx, pause(try)) != nil {
			return
		}
	}
}

// tellPushes tells who leads of pushes that only this process was told of, until ctx ends. What can't be told is found by polling.
func (f *follower) tellPushes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.signals.pass:
		}
		limited, cancel := context.WithTimeout(ctx, deafAfter)
		if err := f.store.Pushed(limited); err != nil && ctx.Err() == nil {
			f.log.Warn().Err(err).Msg("the others can't be told of a push: they find it by polling")
		}
		cancel()
	}
}

// told notes that the store was heard of, and what there is to read. It never waits.
func (f *follower) told(n News) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
	f.note(n)
	if n.Pushed || n.All {
		f.signals.pushed.Notify()
	}
	if n.Flags || n.All {
		f.signals.flagNews.Notify()
	}
}

// note adds to what there is to read, under mu.
func (f *follower) note(n News) {
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
	f.wake.Notify()
}

// unreadCells is how many cells others wrote whose states were not read yet.
func (f *follower) unreadCells() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.cells)
}

// take gives what there is to read, and forgets it.
func (f *follower) take() News {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := News{Cells: slices.Sorted(maps.Keys(f.cells)), Known: f.known, All: f.all, Material: f.material}
	f.cells, f.known, f.all, f.material = map[string]bool{}, false, false, false
	f.reading, f.unread = f.unread, time.Time{}
	return n
}

// read says how reading went: what could not be read is still to be read.
func (f *follower) read(n News, err error) {
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
func (f *follower) catchUp(ctx context.Context) {
	for tries := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		n := f.take()
		err := f.hear(ctx, n)
		f.read(n, err)
		if err == nil {
			tries = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		f.log.Warn().Err(err).Msg("what another process wrote can't be read: trying again")
		if backoff.Sleep(ctx, pause(tries)) != nil {
			return
		}
		tries++
	}
}

// hear takes news into what is observed.
func (f *follower) hear(ctx context.Context, n News) error {
	if n.All {
		if err := f.obs.readAll(ctx); err != nil {
			return err
		}
		f.signals.moved.Notify()
		return nil
	}
	if n.Known { // first, so that who was shut out is out
		if err := f.obs.refresh(ctx); err != nil {
			return err
		}
	}
	if len(n.Cells) > 0 {
		if err := f.obs.readCells(ctx, n.Cells...); err != nil {
			return err
		}
	}
	if n.Known || n.Material {
		f.signals.moved.Notify()
	} else {
		f.signals.beat.Notify()
	}
	return nil
}
