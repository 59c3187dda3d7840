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

// contactTimeout is how long a replica without contact to the store may still answer cells (R29).
const contactTimeout = 5 * time.Second

// follower applies what other processes write to the store to the observations of this process.
type follower struct {
	store   Store
	obs     *observations
	signals *signals
	log     zerolog.Logger

	mu              sync.Mutex // guards the fields below
	singleProcess   bool       // no other process can write
	lastContact     time.Time  // monotonic
	pendingCells    map[string]bool
	pendingKnown    bool
	pendingAll      bool
	pendingMaterial bool
	// unreadSince is when the store reported a change that may shut a cell out and is still unread; zero: none.
	unreadSince  time.Time
	readingSince time.Time   // unreadSince of the changes that are being read now
	pending      wake.Signal // wakes catchUp
	watches      []*RecordWatch
}

// CheckFresh returns nil while this replica is in contact with the store; without contact it can't know which cells
// were shut out (R29). Before the repository was read, Fresh returns ErrNotReady, for every cell would be unknown.
func (e *Engine) CheckFresh() error {
	if !e.publisher.hasView.Load() {
		return ErrNotReady
	}
	return e.follower.checkContact()
}

func newFollower(store Store, obs *observations, s *signals, log zerolog.Logger) *follower {
	return &follower{
		store: store, obs: obs, signals: s, log: log,
		lastContact: time.Now(), pendingCells: map[string]bool{}, pending: wake.New(),
	}
}

// checkContact returns an error if the store has been silent, or its changes unread, for longer than contactTimeout.
func (f *follower) checkContact() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.singleProcess {
		return nil
	}
	if since := time.Since(f.lastContact); since > contactTimeout {
		return fmt.Errorf("no contact with the store for %s: check the connection to the store",
			since.Round(time.Second))
	}
	for _, told := range []time.Time{f.readingSince, f.unreadSince} {
		if since := time.Since(told); !told.IsZero() && since > contactTimeout {
			return fmt.Errorf("changes that the store reported %s ago could not be read: check the load of the store",
				since.Round(time.Second))
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

// followStore follows the store until ctx ends, or returns at once if no other process can write.
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

// forwardPushes notifies the leader of pushes that only this process knows of, until ctx ends. Polling finds the
// others.
func (f *follower) forwardPushes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.signals.forwardPush:
		}
		limited, cancel := context.WithTimeout(ctx, contactTimeout)
		if err := f.store.NotifyPush(limited); err != nil && ctx.Err() == nil {
			f.log.Warn().Err(err).Msg("other processes could not be notified of a push: they find it by polling")
		}
		cancel()
	}
}

// handleUpdate notes the contact with the store, and queues what there is to read. It never blocks.
func (f *follower) handleUpdate(n StoreUpdate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastContact = time.Now()
	f.addPending(n)
	for _, w := range f.watches {
		w.note(n)
	}
	if n.Pushed || n.All {
		f.signals.pushed.Notify()
	}
	if n.Flags || n.All {
		f.signals.flagsWritten.Notify()
	}
}

// addPending adds an update to what there is to read; the caller holds mu.
func (f *follower) addPending(n StoreUpdate) {
	if len(n.Cells) == 0 && !n.Known && !n.All {
		return
	}
	for _, name := range n.Cells {
		f.pendingCells[name] = true
	}
	f.pendingKnown, f.pendingAll = f.pendingKnown || n.Known, f.pendingAll || n.All
	f.pendingMaterial = f.pendingMaterial || n.Material
	if (n.Known || n.All) && f.unreadSince.IsZero() {
		f.unreadSince = time.Now()
	}
	f.pending.Notify()
}

// unreadCells returns how many cells have states that other processes wrote and this one has not read yet.
func (f *follower) unreadCells() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pendingCells)
}

func (f *follower) takePending() StoreUpdate {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := StoreUpdate{
		Cells: slices.Sorted(maps.Keys(f.pendingCells)), Known: f.pendingKnown, All: f.pendingAll,
		Material: f.pendingMaterial,
	}
	f.pendingCells, f.pendingKnown, f.pendingAll, f.pendingMaterial = map[string]bool{}, false, false, false
	f.readingSince, f.unreadSince = f.unreadSince, time.Time{}
	return n
}

// finishRead records the outcome of reading an update; after an error, the update is pending again.
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

// catchUp reads pending updates until ctx ends.
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
		f.log.Warn().Err(err).Msg("changes by another process can't be read: trying again")
		if backoff.Sleep(ctx, retryDelay(tries)) != nil {
			return
		}
		tries++
	}
}

// applyUpdate reads what an update names into the observations.
func (f *follower) applyUpdate(ctx context.Context, n StoreUpdate) error {
	if n.All {
		if err := f.obs.reloadAll(ctx); err != nil {
			return err
		}
		f.signals.changed.Notify()
		return nil
	}
	if n.Known { // first, so that revoked identities are shut out
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
