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

// contactTimeout is how long a replica may hear nothing of the store, and still answer cells (R29).
const contactTimeout = 5 * time.Second

// follower takes what other processes write to the store into what is observed here.
type follower struct {
	store   Store
	obs     *observations
	signals *signals
	log     zerolog.Logger

	mu              sync.Mutex // guards what follows
	singleProcess   bool       // no other process can write
	lastContact     time.Time  // of the store, last; monotonic
	pendingCells    map[string]bool
	pendingKnown    bool
	pendingAll      bool
	pendingMaterial bool
	unreadSince     time.Time   // since when something is known to be there that may shut a cell out, and was not read; zero: nothing is
	readingSince    time.Time   // the same, of what is read now
	pending         wake.Signal // there is something to read: wakes catchUp
}

// Fresh is nil while the store was heard of lately: else this replica can't know who was shut out meanwhile (R29).
// Before the repository has been read it knows nobody: an answer that somebody is not known would be false.
func (e *Engine) Fresh() error {
	if !e.publisher.hasView.Load() {
		return ErrNotReady
	}
	return e.follower.checkContact()
}

func newFollower(store Store, obs *observations, s *signals, log zerolog.Logger) *follower {
	return &follower{store: store, obs: obs, signals: s, log: log, lastContact: time.Now(), pendingCells: map[string]bool{}, pending: wake.New()}
}

// checkContact is nil while the store was heard of lately.
func (f *follower) checkContact() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.singleProcess {
		return nil
	}
	if since := time.Since(f.lastContact); since > contactTimeout {
		return fmt.Errorf("nothing was heard of the store for %s: look at the connection to it", since.Round(time.Second))
	}
	for _, told := range []time.Time{f.readingSince, f.unreadSince} {
		if since := time.Since(told); !told.IsZero() && since > contactTimeout {
			return fmt.Errorf("what the store told of %s ago could not be read: look at how busy it is", since.Round(time.Second))
		}
	}
	return nil
}

// isSingleProcess reports whether no other process can write to the store.
func (f *follower) isSingleProcess() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.singleProcess
}

// followStore listens to the store until ctx ends, or there is nothing to listen to.
func (f *follower) followStore(ctx context.Context) {
	for try := 0; ; try++ {
		err := f.store.Follow(ctx, f.handleUpdate)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			f.mu.Lock()
			f.singleProcess = true
			f.mu.Unlock()
			return
		}
		f.log.Warn().Err(err).Msg("the store can't be followed: trying again")
		if backoff.Sleep(ctx, retryDelay(try)) != nil {
			return
		}
	}
}

// forwardPushes tells who leads of pushes that only this process was told of, until ctx ends. What can't be told is found by polling.
func (f *follower) forwardPushes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.signals.forwardPush:
		}
		limited, cancel := context.WithTimeout(ctx, contactTimeout)
		if err := f.store.NotifyPush(limited); err != nil && ctx.Err() == nil {
			f.log.Warn().Err(err).Msg("the others can't be told of a push: they find it by polling")
		}
		cancel()
	}
}

// handleUpdate notes that the store was heard of, and what there is to read. It never waits.
func (f *follower) handleUpdate(n StoreUpdate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastContact = time.Now()
	f.addPending(n)
	if n.Pushed || n.All {
		f.signals.pushed.Notify()
	}
	if n.Flags || n.All {
		f.signals.flagsWritten.Notify()
	}
}

// addPending adds to what there is to read, under mu.
func (f *follower) addPending(n StoreUpdate) {
	if len(n.Cells) == 0 && !n.Known && !n.All {
		return
	}
	for _, name := range n.Cells {
		f.pendingCells[name] = true
	}
	f.pendingKnown, f.pendingAll, f.pendingMaterial = f.pendingKnown || n.Known, f.pendingAll || n.All, f.pendingMaterial || n.Material
	if (n.Known || n.All) && f.unreadSince.IsZero() {
		f.unreadSince = time.Now()
	}
	f.pending.Notify()
}

// unreadCells is how many cells others wrote whose states were not read yet.
func (f *follower) unreadCells() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pendingCells)
}

// takePending gives what there is to read, and forgets it.
func (f *follower) takePending() StoreUpdate {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := StoreUpdate{Cells: slices.Sorted(maps.Keys(f.pendingCells)), Known: f.pendingKnown, All: f.pendingAll, Material: f.pendingMaterial}
	f.pendingCells, f.pendingKnown, f.pendingAll, f.pendingMaterial = map[string]bool{}, false, false, false
	f.readingSince, f.unreadSince = f.unreadSince, time.Time{}
	return n
}

// finishRead says how reading went: what could not be read is still to be read.
func (f *follower) finishRead(n StoreUpdate, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	since := f.readingSince
	f.readingSince = time.Time{}
	if err != nil {
		f.addPending(n)
		if !since.IsZero() {
			f.unreadSince = since
		}
	}
}

// catchUp reads what was told of, until ctx ends.
func (f *follower) catchUp(ctx context.Context) {
	for tries := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-f.pending:
		}
		n := f.takePending()
		err := f.applyUpdate(ctx, n)
		f.finishRead(n, err)
		if err == nil {
			tries = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		f.log.Warn().Err(err).Msg("what another process wrote can't be read: trying again")
		if backoff.Sleep(ctx, retryDelay(tries)) != nil {
			return
		}
		tries++
	}
}

// applyUpdate takes news into what is observed.
func (f *follower) applyUpdate(ctx context.Context, n StoreUpdate) error {
	if n.All {
		if err := f.obs.reloadAll(ctx); err != nil {
			return err
		}
		f.signals.changed.Notify()
		return nil
	}
	if n.Known { // first, so that who was shut out is out
		if err := f.obs.reloadKnown(ctx); err != nil {
			return err
		}
	}
	if len(n.Cells) > 0 {
		if err := f.obs.reloadCells(ctx, n.Cells...); err != nil {
			return err
		}
	}
	if n.Known || n.Material {
		f.signals.changed.Notify()
	} else {
		f.signals.heartbeat.Notify()
	}
	return nil
}
