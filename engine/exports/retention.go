package exports

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/records"
)

// Retention is for how long the last values of a cell that exports no more are kept.
const Retention = 90 * 24 * time.Hour

const (
	cleanFirst = time.Minute // after the start
	cleanAgain = time.Hour
)

// Run removes what is kept of cells that are gone, or export no more, until ctx ends. epochs returns those of the
// identities of all cells; nil: it is not known now, or another process does this.
func (k *Keeper) Run(ctx context.Context, epochs func() map[string]int64, log zerolog.Logger) error {
	timer := time.NewTimer(cleanFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if known := epochs(); known != nil {
			if err := k.Clean(ctx, known, time.Now()); err != nil && ctx.Err() == nil {
				log.Warn().Err(err).Msg("what former cells exported stays for now: trying again in an hour")
			}
		}
		timer.Reset(cleanAgain)
	}
}

// Clean removes what is kept of cells that are not among those with these epochs, or have another, or exported nothing
// for Retention.
func (k *Keeper) Clean(ctx context.Context, epochs map[string]int64, now time.Time) error {
	for _, kind := range []string{positionKind, valuesKind} {
		for r, err := range records.All(ctx, k.records, kind, records.Page{}) {
			var p Position
			if err == nil && kind == positionKind {
				err = json.Unmarshal(r.Body, &p)
			}
			if err != nil {
				return fmt.Errorf("find what former cells exported: %w", err)
			}
			epoch, known := epochs[r.Key]
			old := kind == positionKind && (p.isOfAnother(epoch) || now.Sub(p.Received) >= Retention)
			if known && !old {
				continue
			}
			if err := k.forget(ctx, r.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// isOfAnother reports whether the position is that of a former cell of the name: epochs rise. One that was kept before
// epochs were is not known to be.
func (p *Position) isOfAnother(epoch int64) bool { return p.Epoch != 0 && p.Epoch < epoch }

// forget removes what is kept of a cell: the position last, by which Clean finds it.
func (k *Keeper) forget(ctx context.Context, cell string) error {
	for _, kind := range []string{valuesKind, positionKind} {
		r, err := k.records.Get(ctx, kind, cell)
		if err == nil {
			err = k.records.Delete(ctx, kind, cell, r.Version)
		}
		if err != nil && !errors.Is(err, records.ErrNotFound) {
			return fmt.Errorf("remove what %s exported: %w", cell, err)
		}
	}
	return nil
}
