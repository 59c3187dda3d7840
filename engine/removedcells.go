package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
)

// revokeRemovedCells revokes the identities of cells that were removed: a cell that is added again under the same name
// is another cell, for which neither the old key nor an old token may be valid (R25). The commit that was acted upon
// last is compared with d, so that a removal is found even if the cell has come back in between. A force-pushed branch
// proves nothing.
func (e *Engine) revokeRemovedCells(ctx context.Context, d *plan.Desired) error {
	seen, diverged := e.observations.seenCommit()
	if !e.lease.mayAct() || seen == "" || seen == d.Commit || diverged != nil {
		return nil
	}
	registered := e.observations.registrations()
	var due []plan.Registration
	for name, r := range registered {
		if !r.Identity.Revoked && lacksIdentity(d.Cells[name]) {
			due = append(due, r)
		}
	}
	if e.desired != nil { // a cell that never registered may have a token
		for name, cell := range e.desired.Cells {
			if _, known := registered[name]; !known && d.Cells[name] == nil {
				due = append(due, plan.Registration{Cell: name, Identity: cell.Identity})
			}
		}
	}
	if len(due) == 0 {
		return nil
	}
	contained, err := e.repo.Contains(ctx, seen, d.Commit)
	if err != nil || !contained {
		return err
	}
	for _, r := range due {
		removed, err := e.wasRemoved(ctx, seen, d, r.Cell)
		if err != nil {
			return fmt.Errorf("find out whether %s was removed since %s: %w", r.Cell, words.ShortCommit(seen), err)
		}
		if !removed {
			continue
		}
		renamed, err := e.registrar.endIdentity(ctx, d, r)
		if err != nil {
			return fmt.Errorf("end the identity of %s, which was removed: %w", r.Cell, err)
		}
		if renamed != nil {
			e.opts.Log.Info().Str("cell", r.Cell).Str("name", renamed.Name).
				Msg("the cell was renamed, and keeps its key")
			continue
		}
		e.opts.Log.Info().Str("cell", r.Cell).
			Msg("the cell was removed: its key is no longer valid, even if the cell is added again")
	}
	return nil
}

// endIdentity revokes the identity of a cell that is gone. If the cell was renamed, only the old name ends: the key,
// and what git does not have yet of its identity, is the new one's, which is returned.
func (g *registrar) endIdentity(
	ctx context.Context, d *plan.Desired, r plan.Registration,
) (renamed *plan.Cell, err error) {
	end := r.Identity
	end.Revoked, end.Rotate = true, false
	changes := []plan.Registration{{Cell: r.Cell, By: plan.ByRemoval}}
	renamed = renamedTo(d, r)
	if renamed != nil {
		end.PublicKey, end.Previous = "", ""
		if r.Identity.Serial > renamed.Identity.Serial {
			changes = append(changes, plan.Registration{Cell: renamed.Name, Identity: r.Identity, By: r.By})
		}
	}
	changes[0].Identity = successor(end, r.Identity)
	for _, change := range changes {
		change.At = g.clocks.now()
		// ErrStale: another process was faster.
		if err := g.store.Register(ctx, change); err != nil && !errors.Is(err, plan.ErrStale) {
			return nil, err
		}
		g.obs.addRegistration(change)
	}
	return renamed, nil
}

// renamedTo returns the cell that has the key of one that is gone; nil: none has.
func renamedTo(d *plan.Desired, gone plan.Registration) *plan.Cell {
	for _, cell := range d.Cells {
		if key := cell.Identity.PublicKey; key != "" && cell.Name != gone.Cell &&
			(key == gone.Identity.PublicKey || key == gone.Identity.Previous) {
			return cell
		}
	}
	return nil
}

// lacksIdentity reports whether a cell is missing, or is there without an identity. One that can't be read is there
// (R47).
func lacksIdentity(cell *plan.Cell) bool {
	return cell == nil || cell.Identity.Serial == 0 && (cell.Found == nil || !manifest.Fatal(cell.Found.IdentityFaults))
}

// wasRemoved reports whether a cell that d lacks, or that has no identity in d, had its file or its identity in the
// commit seen.
func (e *Engine) wasRemoved(ctx context.Context, seen string, d *plan.Desired, cell string) (bool, error) {
	if before := e.desired; before != nil && before.Commit == seen {
		return before.Cells[cell] != nil && (d.Cells[cell] == nil || !lacksIdentity(before.Cells[cell])), nil
	}
	dir := path.Join(cells.Dir, cell)
	if ended := d.Ended[dir]; ended != "" && d.Cells[cell] == nil { // it kept its value beyond its removal
		known, err := e.repo.Contains(ctx, ended, seen)
		return !known, err
	}
	before, err := e.repo.FS(seen)
	if err != nil {
		return false, err
	}
	file := "cell.yaml"
	if d.Cells[cell] != nil {
		file = plan.IdentityFile
	}
	_, err = fs.Stat(before, path.Join(dir, file))
	return !errors.Is(err, fs.ErrNotExist), nil // what can't be read there is there
}
