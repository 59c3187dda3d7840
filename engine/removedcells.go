package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

// revokeRemovedCells ends the identities of cells that were removed: one that is added again under the name is another cell, and
// must not find the key before, or a token, still good in the store (R25). What was removed is told by the commit that was acted upon
// last, so that it is found also where the removal and the return came in between. A branch that was force-pushed proves nothing.
func (e *Engine) revokeRemovedCells(ctx context.Context, d *plan.Desired) error {
	seen, diverged := e.observations.seenCommit()
	if !e.lease.mayAct() || seen == "" || seen == d.Commit || diverged != nil {
		return nil
	}
	registered := e.observations.registrations()
	var due []plan.Registration
	for name, r := range registered {
		if cell := d.Cells[name]; !r.Identity.Revoked && (cell == nil || cell.Identity.Serial == 0) {
			due = append(due, r)
		}
	}
	if e.desired != nil { // one that never registered may have a token
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
	before, err := e.repo.FS(seen)
	if err != nil {
		return fmt.Errorf("read %s, to see which cells are gone: %w", words.Short(seen), err)
	}
	for _, r := range due {
		gone, err := wasRemoved(before, d, r.Cell)
		if err != nil {
			return err
		}
		if !gone {
			continue
		}
		end := r.Identity
		end.Revoked, end.Rotate = true, false
		void := plan.Registration{Cell: r.Cell, Identity: successor(end, r.Identity), By: "its removal", At: e.clocks.now()}
		if err := e.store.Register(ctx, void); err != nil && !errors.Is(err, plan.ErrStale) { // stale: somebody was quicker
			return fmt.Errorf("end the identity of %s, which was removed: %w", r.Cell, err)
		}
		e.observations.addRegistration(void)
		e.opts.Log.Info().Str("cell", r.Cell).Msg("the cell was removed: its key is not good any more, also if it is added again")
	}
	return nil
}

// wasRemoved tells whether a cell that before had is gone from d, or has come back without the identity that it had.
func wasRemoved(before fs.FS, d *plan.Desired, cell string) (bool, error) {
	file := "cell.yaml"
	if d.Cells[cell] != nil {
		file = plan.IdentityFile
	}
	_, err := fs.Stat(before, path.Join(cells.Dir, cell, file))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
