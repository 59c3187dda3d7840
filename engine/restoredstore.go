package engine

import (
	"context"
	"errors"

	"github.com/sluice-cd/sluice/engine/plan"
)

// detectRestoredStore finds out, at the beginning of a term, whether the store was restored from a backup: then git has
// decisions that the store lacks. A process killed between a push and its record leaves one such decision for a
// channel, directly on the commit that was seen last. A restored store has lost reports, and the rest is old: so
// nothing is promoted or granted until all cells have reported, as with an empty store (R26).
func (e *Engine) detectRestoredStore(ctx context.Context, d *plan.Desired) error {
	if !e.lease.mayAct() || len(e.recordedSequences) > 0 {
		return nil
	}
	obs := e.observations.snapshot()
	missing, mostMissing := map[string]bool{}, 0
	for name, c := range d.Channels {
		n := 0
		for _, h := range c.History {
			if h.Kind != plan.Adopted && h.Sequence > obs.Served[name] {
				missing[h.Written] = true
				n++
			}
		}
		mostMissing = max(mostMissing, n)
	}
	if obs.Seen == "" || obs.Diverged != nil || mostMissing == 0 {
		return nil
	}
	if mostMissing == 1 {
		after, err := e.repo.Changes(ctx, obs.Seen, d.Commit)
		switch {
		case errors.Is(err, ErrDiverged):
			return nil // a force-push, which stops everything elsewhere
		case err != nil || len(after) > 0 && missing[after[0].Commit]:
			return err
		}
	}
	e.observations.restartObserving(e.clocks.now().UTC())
	e.opts.Log.Warn().Int("decisions", len(missing)).
		Msg("the store was restored and lacks decisions that git has: nothing moves until the cells have reported")
	return nil
}
