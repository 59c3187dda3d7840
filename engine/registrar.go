package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	maxRegisterTries = 5               // how often a change is tried on top of other processes' changes
	maxKeyLength     = 128             // bytes of a public key in identity.yaml
	awaitCellTimeout = 3 * time.Second // how long a registration waits for a cell after a fetch was asked for
	// minFetchInterval is between fetches that registrations ask for: git hosts throttle whoever asks more often (R57).
	minFetchInterval = 10 * time.Second
)

var errNoChange = errors.New("nothing changes")

// registrar changes cells' identities: a change is valid at once on this replica, within 2 s on all, and is committed
// soon (R25).
type registrar struct {
	store   Store
	obs     *observations
	clocks  *clocks
	signals *signals
	fetches fetchPacer
}

// ChangeIdentity changes a cell's identity; by is for the commit. change may be called more than once, and must not set
// Serial. ErrUnknownCell; ErrStale: others kept changing the identity meanwhile.
func (g *registrar) ChangeIdentity(ctx context.Context, cell, by string, change func(*cells.Identity)) error {
	_, err := g.changeIdentity(ctx, cell, by, func(i *cells.Identity) error {
		change(i)
		return nil
	})
	return err
}

// ReplaceKey accepts a cell's new key, presented over a connection of the old one, while the cell is asked to make one:
// both keys are valid until the new one is used, see RetirePreviousKey. A repeated call changes nothing. It returns
// plan.ErrDenied where the cell may not.
func (g *registrar) ReplaceKey(ctx context.Context, cell, key string) error {
	if !g.isKeyAvailable(cell, key) {
		return plan.ErrDenied
	}
	_, err := g.changeIdentity(ctx, cell, "the cell", func(i *cells.Identity) error {
		switch {
		case i.PublicKey == "" || i.Revoked || i.Quarantined != "":
			return plan.ErrDenied
		case i.PublicKey == key:
			return errNoChange
		case i.Previous == "" && !i.Rotate:
			return plan.ErrDenied // a copy of the key must not become the only key (R46)
		case i.Previous == "":
			i.Previous = i.PublicKey
		case i.Previous == key:
			return plan.ErrDenied // the key is being replaced
		}
		i.PublicKey, i.Rotate = key, false // a key that was never used is forgotten
		return nil
	})
	return err
}

// RetirePreviousKey notes that a connection proved key: if key is the cell's newest, the previous one becomes invalid.
// It is cheap where there is nothing to do; Roster.IsNewKey reports where there is.
func (g *registrar) RetirePreviousKey(ctx context.Context, cell, key string) error {
	_, err := g.changeIdentity(ctx, cell, "the cell", func(i *cells.Identity) error {
		if i.PublicKey != key || i.Previous == "" || i.Revoked || i.Quarantined != "" {
			return errNoChange
		}
		i.Previous = ""
		return nil
	})
	return err
}

// RegisterKey registers the key that a connection proved as a cell's, if the token is valid. Repeated with the same
// token and key, it succeeds again (R28). The first key has epoch 1; a later key has an epoch above all known ones of
// the cell. Every error of the caller is ErrDenied.
func (g *registrar) RegisterKey(ctx context.Context, cell, tokenHash, key, by string) (cells.Identity, error) {
	known, err := g.awaitCell(ctx, cell, tokenHash)
	if err != nil {
		return cells.Identity{}, err
	}
	if !known || !g.isKeyAvailable(cell, key) {
		return cells.Identity{}, plan.ErrDenied
	}
	cur, epoch := g.obs.identityOf(cell)
	shut := cur.Revoked || cur.Quarantined != ""
	if cur.PublicKey == key && !shut {
		// The answer may have been lost: first repeat the claim with the recorded identity.
		r := plan.Registration{Cell: cell, Identity: cur, By: by, At: g.clocks.now()}
		if err := g.store.ClaimToken(ctx, tokenHash, r); !errors.Is(err, plan.ErrDenied) {
			return cur, err
		}
	}
	if cur.PublicKey == key && shut || cur.Previous == key {
		return cells.Identity{}, plan.ErrDenied // shut out for good: a copy of the key exists
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

// successor returns next, completed to follow cur in identity.yaml.
func successor(next, cur cells.Identity) cells.Identity {
	next.APIVersion, next.Kind, next.Serial = "sluice/v1", "Identity", cur.Serial+1
	next.Quarantined = words.OneLine(next.Quarantined)
	return next
}

// changeIdentity records a change of a cell's identity, if need be on top of what other processes recorded meanwhile.
func (g *registrar) changeIdentity(
	ctx context.Context, cell, by string, change func(*cells.Identity) error,
) (cells.Identity, error) {
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

// awaitCell reports whether the repository has a cell. A cell whose commit was not fetched yet is waited for, and the
// branch fetched, if the token was made for the cell: a stranger, who has none, has no effect on the git host (R57).
func (g *registrar) awaitCell(ctx context.Context, cell, tokenHash string) (bool, error) {
	if g.obs.hasCell(cell) {
		return true, nil
	}
	if !cells.ValidName(cell) {
		return false, nil
	}
	if made, err := g.store.HasToken(ctx, cell, tokenHash); err != nil || !made {
		return false, err
	}
	fetchIn, mine := g.fetches.reserve(time.Now())
	fetch, end := time.NewTimer(fetchIn), time.NewTimer(fetchIn+awaitCellTimeout)
	defer fetch.Stop()
	defer end.Stop()
	for {
		changed := g.RosterChanged()
		if g.obs.hasCell(cell) {
			return true, nil
		}
		select {
		case <-changed:
		case <-fetch.C:
			if mine {
				g.signals.pushed.Notify()
			}
		case <-end.C:
			return false, nil
		case <-ctx.Done():
			return false, nil
		}
	}
}

// fetchPacer spaces fetches of the branch. The zero pacer allows one at once. Its method may be called by any
// goroutine.
type fetchPacer struct {
	mu   sync.Mutex
	last time.Time // of the last fetch that was reserved, perhaps in the future
}

// reserve returns in how long a fetch is due, and whether the caller is to ask for it: whoever comes while a fetch is
// reserved shares that one.
func (p *fetchPacer) reserve(now time.Time) (in time.Duration, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if mine = !p.last.After(now); mine {
		if p.last = p.last.Add(minFetchInterval); p.last.Before(now) {
			p.last = now
		}
	}
	return p.last.Sub(now), mine
}

// isKeyAvailable reports whether a key is well-formed and not of another cell.
func (g *registrar) isKeyAvailable(cell, key string) bool {
	if key == "" || len(key) > maxKeyLength {
		return false
	}
	holder, known := g.Roster().CellOfAnyKey(key)
	return !known || holder == cell
}

// Roster returns which keys may speak as which cell.
func (g *registrar) Roster() *roster.Roster { return g.obs.membership.roster.Load() }

// RosterChanged returns a channel that is closed when the roster that Roster returned is replaced.
func (g *registrar) RosterChanged() <-chan struct{} {
	g.obs.mu.Lock()
	defer g.obs.mu.Unlock()
	return g.obs.membership.rosterChanged
}

// membership holds which keys speak as which cell. The mutex of the observations guards it.
type membership struct {
	desired       *plan.Desired                  // the roster's source; nil: the repository was not read yet
	roster        *atomic.Pointer[roster.Roster] // never nil; read without the mutex
	rosterChanged chan struct{}                  // closed when roster is replaced
}

func newMembership() membership {
	m := membership{roster: new(atomic.Pointer[roster.Roster]), rosterChanged: make(chan struct{})}
	m.roster.Store(roster.Empty())
	return m
}

// rebuildRoster replaces the roster, if anything changed.
func (m *membership) rebuildRoster(registered map[string]plan.Registration) {
	if m.desired == nil {
		return
	}
	if r := roster.Update(m.desired, registered, m.roster.Load()); r != m.roster.Load() {
		m.setRoster(r)
	}
}

func (m *membership) setRoster(r *roster.Roster) {
	m.roster.Store(r)
	close(m.rosterChanged)
	m.rosterChanged = make(chan struct{})
}

// setDesired takes the identities of a newly loaded Desired into the roster.
func (o *observations) setDesired(d *plan.Desired) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.membership.desired = d
	o.membership.rebuildRoster(o.obs.Registered)
}

// addRegistration adds a registration to the roster, and has it committed.
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
			o.membership.setRoster(o.membership.roster.Load().WithRegistration(r))
		}
	}
	o.signals.changed.Notify()
}

// identityOf returns a cell's current identity, and the highest epoch that was ever seen of the cell.
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
	most := epoch + plan.MaxAhead // a cell's report must not use up the epochs
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
