package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	maxRegister = 5               // how often a change of identity is tried on what others registered meanwhile
	maxKeyText  = 128             // bytes of a public key as identity.yaml has it
	awaitFor    = 3 * time.Second // how long a registration waits for a cell that was committed just now
)

// errSame: the change changes nothing.
var errSame = errors.New("nothing changes")

// Identify changes a cell's identity: it counts at once on this replica, within 2 s on all, and is committed soon (R25).
// by is for the commit. change may be called more than once; Serial is not its to set. ErrUnknownCell; ErrStale: others
// changed it again and again meanwhile.
func (e *Engine) Identify(ctx context.Context, cell, by string, change func(*cells.Identity)) error {
	_, err := e.register(ctx, cell, by, func(i *cells.Identity) error {
		change(i)
		return nil
	})
	return err
}

// NewKey takes a cell's new key, presented over a connection of the old one: both are good until the new one was used, see Used.
// Repeated, it changes nothing. ErrDenied.
func (e *Engine) NewKey(ctx context.Context, cell, key string) error {
	if !e.freeKey(cell, key) {
		return plan.ErrDenied
	}
	_, err := e.register(ctx, cell, "the cell", func(i *cells.Identity) error {
		switch {
		case i.PublicKey == "" || i.Revoked || i.Quarantined != "":
			return plan.ErrDenied
		case i.PublicKey == key:
			return errSame
		case i.Previous == "":
			i.Previous = i.PublicKey
		case i.Previous == key:
			return plan.ErrDenied // it is on its way out
		}
		i.PublicKey, i.Rotate = key, false // one that was never used is forgotten
		return nil
	})
	return err
}

// Used says that a connection proved key: if it is the cell's newest, the one before is good no more. Cheap where
// there is nothing to do; Roster.Next tells where there is.
func (e *Engine) Used(ctx context.Context, cell, key string) error {
	_, err := e.register(ctx, cell, "the cell", func(i *cells.Identity) error {
		if i.PublicKey != key || i.Previous == "" || i.Revoked || i.Quarantined != "" {
			return errSame
		}
		i.Previous = ""
		return nil
	})
	return err
}

// Join registers the key that a connection proved as a cell's, if the token is good. Repeated with the same token and
// key, it succeeds again (R28). The first key has epoch 1; another has one above all that are known of the cell.
// ErrDenied for everything that is wrong.
func (e *Engine) Join(ctx context.Context, cell, tokenHash, key, by string) (cells.Identity, error) {
	if !e.awaitCell(ctx, cell) || !e.freeKey(cell, key) {
		return cells.Identity{}, plan.ErrDenied
	}
	cur, epoch := e.known(cell)
	shut := cur.Revoked || cur.Quarantined != ""
	if cur.PublicKey == key && !shut {
		// The answer may have been lost: what the first one recorded is asked for again, before anything new.
		if err := e.store.Claim(ctx, tokenHash, plan.Registration{Cell: cell, Identity: cur, By: by, At: e.now()}); !errors.Is(err, plan.ErrDenied) {
			return cur, err
		}
	}
	if cur.PublicKey == key && shut || cur.Previous == key {
		return cells.Identity{}, plan.ErrDenied // shut out for good: a copy of it is somewhere
	}
	next := cells.Identity{Epoch: epoch + 1, PublicKey: key}
	if cur.PublicKey == key {
		next.Epoch = cur.Epoch
	}
	next = successor(next, cur)
	r := plan.Registration{Cell: cell, Identity: next, By: by, At: e.now()}
	if err := e.store.Claim(ctx, tokenHash, r); err != nil {
		if errors.Is(err, plan.ErrStale) {
			err = plan.ErrDenied
		}
		return cells.Identity{}, err
	}
	e.enlist(r)
	return next, nil
}

// successor is next with what every identity.yaml has, in place of cur.
func successor(next, cur cells.Identity) cells.Identity {
	next.APIVersion, next.Kind, next.Serial = "sluice/v1", "Identity", cur.Serial+1
	next.Quarantined = words.OneLine(next.Quarantined)
	return next
}

// register records a change of a cell's identity, on what others recorded meanwhile if need be.
func (e *Engine) register(ctx context.Context, cell, by string, change func(*cells.Identity) error) (cells.Identity, error) {
	for try := 1; ; try++ {
		if !e.has(cell) {
			return cells.Identity{}, fmt.Errorf("identity of %q: %w", cell, ErrUnknownCell)
		}
		cur, _ := e.known(cell)
		next := cur
		if err := change(&next); err != nil && !errors.Is(err, errSame) {
			return cur, err
		} else if err != nil || next == cur {
			return cur, nil
		}
		next = successor(next, cur)
		r := plan.Registration{Cell: cell, Identity: next, By: by, At: e.now()}
		err := e.store.Register(ctx, r)
		switch {
		case err == nil:
			e.enlist(r)
			return next, nil
		case !errors.Is(err, plan.ErrStale) || try == maxRegister:
			return cur, fmt.Errorf("register the identity of %s: %w", cell, err)
		}
		if err := e.refresh(ctx); err != nil {
			return cur, err
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return cur, err
		}
	}
}

// known is what counts of a cell's identity, and the highest epoch that was ever seen of it.
func (e *Engine) known(cell string) (i cells.Identity, epoch int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.members != nil {
		i = plan.IdentityOf(e.members, e.obs.Registered, cell)
		if c := e.members.Cells[cell]; c != nil {
			epoch = c.Identity.Epoch
		}
	}
	epoch = max(epoch, i.Epoch)
	most := epoch + plan.MaxAhead // a cell's word must not use them up
	if s := e.obs.Cells[cell]; s != nil {
		for _, a := range []*cells.Assignment{s.Granted, s.Running, s.Applying} {
			if a != nil && a.Epoch <= most {
				epoch = max(epoch, a.Epoch)
			}
		}
	}
	return i, epoch
}

func (e *Engine) has(cell string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.members != nil && e.members.Cells[cell] != nil
}

// awaitCell tells whether the repository has a cell. The branch is looked at for one that it has not, and waited for a little.
func (e *Engine) awaitCell(ctx context.Context, cell string) bool {
	end := time.NewTimer(awaitFor)
	defer end.Stop()
	asked := false
	for {
		changed := e.RosterChanged()
		if e.has(cell) {
			return true
		}
		if !asked && cells.ValidName(cell) {
			asked = true
			e.lookSoon()
		}
		select {
		case <-changed:
		case <-end.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// freeKey tells whether a key is well-formed, and no other cell's.
func (e *Engine) freeKey(cell, key string) bool {
	if key == "" || len(key) > maxKeyText {
		return false
	}
	holder, known := e.Roster().Holder(key)
	return !known || holder == cell
}

// Roster is who is who now.
func (e *Engine) Roster() *roster.Roster { return e.roster.Load() }

// RosterChanged is closed when there is another roster than the one that Roster gave before.
func (e *Engine) RosterChanged() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.enlisted
}

// enlist takes a registration into account, and has it committed.
func (e *Engine) enlist(r plan.Registration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	if old, ok := e.obs.Registered[r.Cell]; ok && old.Identity.Serial >= r.Identity.Serial {
		return
	}
	e.obs.Registered[r.Cell] = r
	if e.members != nil {
		if c := e.members.Cells[r.Cell]; c != nil && r.Identity.Serial > c.Identity.Serial {
			e.show(e.Roster().With(r))
		}
	}
	signal(e.moved)
}

// enroll makes the roster anew, if anything is new, under e.mu.
func (e *Engine) enroll() {
	if e.members == nil {
		return
	}
	if r := roster.Of(e.members, e.obs.Registered, e.Roster()); r != e.Roster() {
		e.show(r)
	}
}

// show replaces the roster, under e.mu.
func (e *Engine) show(r *roster.Roster) {
	e.roster.Store(r)
	close(e.enlisted)
	e.enlisted = make(chan struct{})
}
