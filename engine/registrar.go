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
	maxRegisterTries = 5               // how often a change of identity is tried on what others registered meanwhile
	maxKeyLength     = 128             // bytes of a public key as identity.yaml has it
	awaitCellTimeout = 3 * time.Second // how long a registration waits for a cell that was committed just now
)

// errNoChange: the change changes nothing.
var errNoChange = errors.New("nothing changes")

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
	_, err := g.changeIdentity(ctx, cell, by, func(i *cells.Identity) error {
		change(i)
		return nil
	})
	return err
}

// NewKey takes a cell's new key, presented over a connection of the old one: both are good until the new one was used, see Used.
// Repeated, it changes nothing. ErrDenied.
func (g *registrar) NewKey(ctx context.Context, cell, key string) error {
	if !g.isKeyAvailable(cell, key) {
		return plan.ErrDenied
	}
	_, err := g.changeIdentity(ctx, cell, "the cell", func(i *cells.Identity) error {
		switch {
		case i.PublicKey == "" || i.Revoked || i.Quarantined != "":
			return plan.ErrDenied
		case i.PublicKey == key:
			return errNoChange
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
	_, err := g.changeIdentity(ctx, cell, "the cell", func(i *cells.Identity) error {
		if i.PublicKey != key || i.Previous == "" || i.Revoked || i.Quarantined != "" {
			return errNoChange
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
	if !g.awaitCell(ctx, cell) || !g.isKeyAvailable(cell, key) {
		return cells.Identity{}, plan.ErrDenied
	}
	cur, epoch := g.obs.identityOf(cell)
	shut := cur.Revoked || cur.Quarantined != ""
	if cur.PublicKey == key && !shut {
		// The answer may have been lost: what the first one recorded is asked for again, before anything new.
		if err := g.store.ClaimToken(ctx, tokenHash, plan.Registration{Cell: cell, Identity: cur, By: by, At: g.clocks.now()}); !errors.Is(err, plan.ErrDenied) {
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
	if err := g.store.ClaimToken(ctx, tokenHash, r); err != nil {
		if errors.Is(err, plan.ErrStale) {
			err = plan.ErrDenied
		}
		return cells.Identity{}, err
	}
	g.obs.addRegistration(r)
	return next, nil
}

// successor is next with what every identity.yaml has, in place of cur.
func successor(next, cur cells.Identity) cells.Identity {
	next.APIVersion, next.Kind, next.Serial = "sluice/v1", "Identity", cur.Serial+1
	next.Quarantined = words.OneLine(next.Quarantined)
	return next
}

// changeIdentity records a change of a cell's identity, on what others recorded meanwhile if need be.
func (g *registrar) changeIdentity(ctx context.Context, cell, by string, change func(*cells.Identity) error) (cells.Identity, error) {
	for try := 1; ; try++ {
		if !g.obs.hasCell(cell) {
			return cells.Identity{}, fmt.Errorf("identity of %q: %w", cell, ErrUnknownCell)
		}
		cur, _ := g.obs.identityOf(cell)
		next := cur
		if err := change(&next); err != nil && !errors.Is(err, errNoChange) {
			return cur, err
		} else if err != nil || next == cur {
			return cur, nil
		}
		next = successor(next, cur)
		r := plan.Registration{Cell: cell, Identity: next, By: by, At: g.clocks.now()}
		err := g.store.Register(ctx, r)
		switch {
		case err == nil:
			g.obs.addRegistration(r)
			return next, nil
		case !errors.Is(err, plan.ErrStale) || try == maxRegisterTries:
			return cur, fmt.Errorf("register the identity of %s: %w", cell, err)
		}
		if err := g.obs.reloadKnown(ctx); err != nil {
			return cur, err
		}
		if err := backoff.Sleep(ctx, retryDelay(try)); err != nil {
			return cur, err
		}
	}
}

// awaitCell tells whether the repository has a cell. The branch is looked at for one that it has not, and waited for a little.
func (g *registrar) awaitCell(ctx context.Context, cell string) bool {
	end := time.NewTimer(awaitCellTimeout)
	defer end.Stop()
	asked := false
	for {
		changed := g.RosterChanged()
		if g.obs.hasCell(cell) {
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

// isKeyAvailable tells whether a key is well-formed, and no other cell's.
func (g *registrar) isKeyAvailable(cell, key string) bool {
	if key == "" || len(key) > maxKeyLength {
		return false
	}
	holder, known := g.Roster().Holder(key)
	return !known || holder == cell
}

// Roster is who is who now.
func (g *registrar) Roster() *roster.Roster { return g.obs.membership.roster.Load() }

// RosterChanged is closed when there is another roster than the one that Roster gave before.
func (g *registrar) RosterChanged() <-chan struct{} {
	g.obs.mu.Lock()
	defer g.obs.mu.Unlock()
	return g.obs.membership.rosterChanged
}

// membership is which keys speak as which cell, guarded by the mutex of the observations that it is part of.
type membership struct {
	desired       *plan.Desired                  // whose cells' identities the roster has; nil: nothing was read yet
	roster        *atomic.Pointer[roster.Roster] // never nil; read without the mutex
	rosterChanged chan struct{}                  // closed when roster is replaced
}

func newMembership() membership {
	m := membership{roster: new(atomic.Pointer[roster.Roster]), rosterChanged: make(chan struct{})}
	m.roster.Store(roster.Empty())
	return m
}

// rebuildRoster makes the roster anew, if anything is new.
func (m *membership) rebuildRoster(registered map[string]plan.Registration) {
	if m.desired == nil {
		return
	}
	if r := roster.Of(m.desired, registered, m.roster.Load()); r != m.roster.Load() {
		m.setRoster(r)
	}
}

func (m *membership) setRoster(r *roster.Roster) {
	m.roster.Store(r)
	close(m.rosterChanged)
	m.rosterChanged = make(chan struct{})
}

// setDesired takes the identities of what was read from the repository.
func (o *observations) setDesired(d *plan.Desired) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.membership.desired = d
	o.membership.rebuildRoster(o.obs.Registered)
}

// addRegistration takes a registration into account, and has it committed.
func (o *observations) addRegistration(r plan.Registration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if old, ok := o.obs.Registered[r.Cell]; ok && old.Identity.Serial >= r.Identity.Serial {
		return
	}
	o.obs.Registered[r.Cell] = r
	if d := o.membership.desired; d != nil {
		if c := d.Cells[r.Cell]; c != nil && r.Identity.Serial > c.Identity.Serial {
			o.membership.setRoster(o.membership.roster.Load().With(r))
		}
	}
	o.signals.changed.Notify()
}

// identityOf is what counts of a cell's identity, and the highest epoch that was ever seen of it.
func (o *observations) identityOf(cell string) (i cells.Identity, epoch int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.membership.desired != nil {
		i = plan.IdentityOf(o.membership.desired, o.obs.Registered, cell)
		if c := o.membership.desired.Cells[cell]; c != nil {
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

func (o *observations) hasCell(cell string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.membership.desired != nil && o.membership.desired.Cells[cell] != nil
}
