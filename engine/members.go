package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	maxRegister = 5               // how often a change of identity is tried on what others registered meanwhile
	maxKeyText  = 128             // bytes of a public key as identity.yaml has it
	awaitFor    = 3 * time.Second // how long a registration waits for a cell that was committed just now
)

// errSame: the change changes nothing.
var errSame = errors.New("nothing changes")

// registrar takes changes of cells' identities: they count at once on this replica, within 2 s on all, and are committed soon (R25).
type registrar struct {
	store   Store
	obs     *observations
	clocks  *clocks
	signals *signals
}

// Identify changes a cell's identity. by is for the commit. change may be called more than once; Serial is not its to set. ErrUnknownCell; ErrStale: others
// changed it again and again meanwhile.
func (g *registrar) Identify(ctx context.Context, cell, by string, change func(*cells.Identity)) error {
	_, err := g.register(ctx, cell, by, func(i *cells.Identity) error {
		change(i)
		return nil
	})
	return err
}

// NewKey takes a cell's new key, presented over a connection of the old one: both are good until the new one was used, see Used.
// Repeated, it changes nothing. ErrDenied.
func (g *registrar) NewKey(ctx context.Context, cell, key string) error {
	if !g.freeKey(cell, key) {
		return plan.ErrDenied
	}
	_, err := g.register(ctx, cell, "the cell", func(i *cells.Identity) error {
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
func (g *registrar) Used(ctx context.Context, cell, key string) error {
	_, err := g.register(ctx, cell, "the cell", func(i *cells.Identity) error {
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
func (g *registrar) Join(ctx context.Context, cell, tokenHash, key, by string) (cells.Identity, error) {
	if !g.awaitCell(ctx, cell) || !g.freeKey(cell, key) {
		return cells.Identity{}, plan.ErrDenied
	}
	cur, epoch := g.obs.known(cell)
	shut := cur.Revoked || cur.Quarantined != ""
	if cur.PublicKey == key && !shut {
		// The answer may have been lost: what the first one recorded is asked for again, before anything new.
		if err := g.store.Claim(ctx, tokenHash, plan.Registration{Cell: cell, Identity: cur, By: by, At: g.clocks.now()}); !errors.Is(err, plan.ErrDenied) {
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
	r := plan.Registration{Cell: cell, Identity: next, By: by, At: g.clocks.now()}
	if err := g.store.Claim(ctx, tokenHash, r); err != nil {
		if errors.Is(err, plan.ErrStale) {
			err = plan.ErrDenied
		}
		return cells.Identity{}, err
	}
	g.obs.enlist(r)
	return next, nil
}

// successor is next with what every identity.yaml has, in place of cur.
func successor(next, cur cells.Identity) cells.Identity {
	next.APIVersion, next.Kind, next.Serial = "sluice/v1", "Identity", cur.Serial+1
	next.Quarantined = words.OneLine(next.Quarantined)
	return next
}

// register records a change of a cell's identity, on what others recorded meanwhile if need be.
func (g *registrar) register(ctx context.Context, cell, by string, change func(*cells.Identity) error) (cells.Identity, error) {
	for try := 1; ; try++ {
		if !g.obs.has(cell) {
			return cells.Identity{}, fmt.Errorf("identity of %q: %w", cell, ErrUnknownCell)
		}
		cur, _ := g.obs.known(cell)
		next := cur
		if err := change(&next); err != nil && !errors.Is(err, errSame) {
			return cur, err
		} else if err != nil || next == cur {
			return cur, nil
		}
		next = successor(next, cur)
		r := plan.Registration{Cell: cell, Identity: next, By: by, At: g.clocks.now()}
		err := g.store.Register(ctx, r)
		switch {
		case err == nil:
			g.obs.enlist(r)
			return next, nil
		case !errors.Is(err, plan.ErrStale) || try == maxRegister:
			return cur, fmt.Errorf("register the identity of %s: %w", cell, err)
		}
		if err := g.obs.refresh(ctx); err != nil {
			return cur, err
		}
		if err := backoff.Sleep(ctx, pause(try)); err != nil {
			return cur, err
		}
	}
}

// awaitCell tells whether the repository has a cell. The branch is looked at for one that it has not, and waited for a little.
func (g *registrar) awaitCell(ctx context.Context, cell string) bool {
	end := time.NewTimer(awaitFor)
	defer end.Stop()
	asked := false
	for {
		changed := g.RosterChanged()
		if g.obs.has(cell) {
			return true
		}
		if !asked && cells.ValidName(cell) {
			asked = true
			g.signals.pushed.Notify()
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
func (g *registrar) freeKey(cell, key string) bool {
	if key == "" || len(key) > maxKeyText {
		return false
	}
	holder, known := g.Roster().Holder(key)
	return !known || holder == cell
}

// Roster is who is who now.
func (g *registrar) Roster() *roster.Roster { return g.obs.members.roster.Load() }

// RosterChanged is closed when there is another roster than the one that Roster gave before.
func (g *registrar) RosterChanged() <-chan struct{} {
	g.obs.mu.Lock()
	defer g.obs.mu.Unlock()
	return g.obs.members.enlisted
}

// members is which keys speak as which cell, guarded by the mutex of the observations that it is part of.
type members struct {
	desired  *plan.Desired                  // whose cells' identities the roster has; nil: nothing was read yet
	roster   *atomic.Pointer[roster.Roster] // never nil; read without the mutex
	enlisted chan struct{}                  // closed when roster is replaced
}

func newMembers() members {
	m := members{roster: new(atomic.Pointer[roster.Roster]), enlisted: make(chan struct{})}
	m.roster.Store(roster.Empty())
	return m
}

// enroll makes the roster anew, if anything is new.
func (m *members) enroll(registered map[string]plan.Registration) {
	if m.desired == nil {
		return
	}
	if r := roster.Of(m.desired, registered, m.roster.Load()); r != m.roster.Load() {
		m.show(r)
	}
}

func (m *members) show(r *roster.Roster) {
	m.roster.Store(r)
	close(m.enlisted)
	m.enlisted = make(chan struct{})
}

// enroll takes the identities of what was read from the repository.
func (o *observations) enroll(d *plan.Desired) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.members.desired = d
	o.members.enroll(o.obs.Registered)
}

// enlist takes a registration into account, and has it committed.
func (o *observations) enlist(r plan.Registration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if old, ok := o.obs.Registered[r.Cell]; ok && old.Identity.Serial >= r.Identity.Serial {
		return
	}
	o.obs.Registered[r.Cell] = r
	if d := o.members.desired; d != nil {
		if c := d.Cells[r.Cell]; c != nil && r.Identity.Serial > c.Identity.Serial {
			o.members.show(o.members.roster.Load().With(r))
		}
	}
	o.signals.moved.Notify()
}

// known is what counts of a cell's identity, and the highest epoch that was ever seen of it.
func (o *observations) known(cell string) (i cells.Identity, epoch int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.members.desired != nil {
		i = plan.IdentityOf(o.members.desired, o.obs.Registered, cell)
		if c := o.members.desired.Cells[cell]; c != nil {
			epoch = c.Identity.Epoch
		}
	}
	epoch = max(epoch, i.Epoch)
	most := epoch + plan.MaxAhead // a cell's word must not use them up
	if s := o.obs.Cells[cell]; s != nil {
		for _, a := range []*cells.Assignment{s.Granted, s.Running, s.Applying} {
			if a != nil && a.Epoch <= most {
				epoch = max(epoch, a.Epoch)
			}
		}
	}
	return i, epoch
}

func (o *observations) has(cell string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.members.desired != nil && o.members.desired.Cells[cell] != nil
}
