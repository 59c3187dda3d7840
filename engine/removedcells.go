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
		if cell := d.Cells[name]; !r.Identity.Revoked && (cell == nil || cell.Identity.Serial == 0) {
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
	before, err := e.repo.FS(seen)
	if err != nil {
		return fmt.Errorf("read %s, to find removed cells: %w", words.ShortCommit(seen), err)
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
		void := plan.Registration{
			Cell: r.Cell, Identity: successor(end, r.Identity), By: "its removal", At: e.clocks.now(),
		}
		// ErrStale: another process was faster.
		if err := e.store.Register(ctx, void); err != nil && !errors.Is(err, plan.ErrStale) {
			return fmt.Errorf("end the identity of %s, which was removed: %w", r.Cell, err)
		}
		e.observations.addRegistration(void)
		e.opts.Log.Info().Str("cell", r.Cell).
			Msg("the cell was removed: its key is no longer valid, even if the cell is added again")
	}
	return nil
}

// wasRemoved reports whether a cell of before is missing in d, or is in d without the identity that before has.
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
