package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

const (
	identityFile   = "identity.yaml"
	identityPushes = "cells/" // what refused pushes of identities are kept under: no channel has such a name
	maxIdentified  = 1000     // cells in one commit
	maxKeyText     = 128      // bytes of a public key as identity.yaml has it
)

// identify writes registrations that git does not have into the cells' files, one commit for all (R25). It goes alone:
// a host that refuses a head must not hold up identities, nor the other way round.
func (p *planner) identify() {
	if p.o.Diverged != nil {
		return
	}
	var due []Registration
	for name, r := range p.o.Registered {
		if cell := p.d.Cells[name]; cell != nil && r.Identity.Serial > cell.Identity.Serial {
			due = append(due, r)
		}
	}
	if len(due) == 0 || slices.ContainsFunc(p.plan.Actions, func(a Action) bool { return a.Kind != Grant }) {
		return
	}
	if r, ok := p.o.Refused[identityPushes]; ok && r.Until.After(p.now) {
		p.block(channels.Verdict{Gate: "push", Reason: "cells' identities: " + r.Reason, Until: r.Until})
		return
	}
	slices.SortFunc(due, func(a, b Registration) int { return strings.Compare(a.Cell, b.Cell) })
	due = due[:min(len(due), maxIdentified)]
	a := Action{Kind: Identify, members: due}
	for _, r := range due {
		a.Cells = append(a.Cells, r.Cell)
	}
	p.act(a)
}

// draftIdentities is the commit that writes identities down.
func draftIdentities(d *Desired, plan Plan, a Action) (releases.Draft, error) {
	out := releases.Draft{When: plan.Now, Files: map[string][]byte{}}
	var text strings.Builder
	if len(a.members) == 1 {
		fmt.Fprintf(&text, "identify %s\n\n", a.members[0].Cell)
	} else {
		fmt.Fprintf(&text, "identify %s\n\n", count(len(a.members), "cell"))
	}
	for _, r := range a.members {
		data, err := yaml.Marshal(r.Identity)
		if err != nil {
			return out, err
		}
		out.Files[path.Join(cells.Dir, r.Cell, identityFile)] = data
		fmt.Fprintf(&text, "Cell: %s %s\n", r.Cell, oneLine(changed(d.Cells[r.Cell].Identity, r.Identity)+", by "+r.By))
	}
	fmt.Fprintf(&text, "Decided-On: %s\n", plan.Commit)
	out.Message = text.String()
	return out, nil
}

// changed says what is new in an identity.
func changed(a, b cells.Identity) string {
	var what []string
	say := func(yes bool, text string) {
		if yes {
			what = append(what, text)
		}
	}
	say(b.Quarantined != "" && a.Quarantined != b.Quarantined, "quarantined: "+b.Quarantined)
	say(b.Revoked && !a.Revoked, "revoked")
	say(a.Revoked && !b.Revoked, "not revoked any more")
	say(a.Quarantined != "" && b.Quarantined == "", "not quarantined any more")
	say(a.PublicKey == "" && b.PublicKey != "", "registered")
	say(a.PublicKey != "" && a.PublicKey != b.PublicKey, "has a new key")
	say(a.Previous != "" && b.Previous == "", "uses its new key only")
	say(b.Rotate && !a.Rotate, "is asked for a new key")
	if len(what) == 0 {
		return fmt.Sprintf("at serial %d", b.Serial)
	}
	return strings.Join(what, ", ")
}

// maxRegister is how often a change of identity is tried on what others registered meanwhile.
const maxRegister = 5

// errSame: the change changes nothing.
var errSame = errors.New("nothing changes")

// Identify changes a cell's identity: it counts at once on this replica, within 2 s on all, and is committed soon (R25).
// by is for the commit. change may be called more than once; Serial is not its to set. ErrUnknownCell.
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
		return ErrDenied
	}
	_, err := e.register(ctx, cell, "the cell", func(i *cells.Identity) error {
		switch {
		case i.PublicKey == "" || i.Revoked || i.Quarantined != "":
			return ErrDenied
		case i.PublicKey == key:
			return errSame
		case i.Previous == "":
			i.Previous = i.PublicKey
		case i.Previous == key:
			return ErrDenied // it is on its way out
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
		return cells.Identity{}, ErrDenied
	}
	cur, epoch := e.known(cell)
	shut := cur.Revoked || cur.Quarantined != ""
	if cur.PublicKey == key && !shut {
		// The answer may have been lost: what the first one recorded is asked for again, before anything new.
		if err := e.store.Claim(ctx, tokenHash, Registration{Cell: cell, Identity: cur, By: by, At: e.now()}); !errors.Is(err, ErrDenied) {
			return cur, err
		}
	}
	if cur.PublicKey == key && shut || cur.Previous == key {
		return cells.Identity{}, ErrDenied // shut out for good: a copy of it is somewhere
	}
	next := cells.Identity{Epoch: epoch + 1, PublicKey: key}
	if cur.PublicKey == key {
		next.Epoch = cur.Epoch
	}
	next = sealed(next, cur)
	r := Registration{Cell: cell, Identity: next, By: by, At: e.now()}
	if err := e.store.Claim(ctx, tokenHash, r); err != nil {
		if errors.Is(err, ErrStale) {
			err = ErrDenied
		}
		return cells.Identity{}, err
	}
	e.enlist(r)
	return next, nil
}

// sealed is next with what every identity.yaml has, as the successor of cur.
func sealed(next, cur cells.Identity) cells.Identity {
	next.APIVersion, next.Kind, next.Serial = "sluice/v1", "Identity", cur.Serial+1
	next.Quarantined = oneLine(next.Quarantined)
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
		next = sealed(next, cur)
		r := Registration{Cell: cell, Identity: next, By: by, At: e.now()}
		err := e.store.Register(ctx, r)
		switch {
		case err == nil:
			e.enlist(r)
			return next, nil
		case !errors.Is(err, ErrStale) || try == maxRegister:
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
		i = identityOf(e.members, e.obs.Registered, cell)
		if c := e.members.Cells[cell]; c != nil {
			epoch = c.Identity.Epoch
		}
	}
	epoch = max(epoch, i.Epoch)
	most := epoch + maxAhead // a cell's word must not use them up
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

// awaitFor is how long a registration waits for a cell that was committed just now.
const awaitFor = 3 * time.Second

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
			e.Pushed()
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
	k, ok := e.Roster().find(key)
	return !ok || k.cell == cell
}

// Roster is who is who now.
func (e *Engine) Roster() *Roster { return e.roster.Load() }

// RosterChanged is closed when there is another roster than the one that Roster gave before.
func (e *Engine) RosterChanged() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.enlisted
}

// enlist takes a registration into account, and has it committed.
func (e *Engine) enlist(r Registration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	if old, ok := e.obs.Registered[r.Cell]; ok && old.Identity.Serial >= r.Identity.Serial {
		return
	}
	e.obs.Registered[r.Cell] = r
	if e.members != nil {
		if c := e.members.Cells[r.Cell]; c != nil && r.Identity.Serial > c.Identity.Serial {
			e.show(e.Roster().with(r))
		}
	}
	signal(e.moved)
}

// enroll makes the roster anew, if anything is new, under e.mu.
func (e *Engine) enroll() {
	if e.members == nil {
		return
	}
	if r := rosterOf(e.members, e.obs.Registered, e.Roster()); r != e.Roster() {
		e.show(r)
	}
}

// show replaces the roster, under e.mu.
func (e *Engine) show(r *Roster) {
	e.roster.Store(r)
	close(e.enlisted)
	e.enlisted = make(chan struct{})
}
