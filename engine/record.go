package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
)

// recordLearned records what a plan found out, in the store first, then in the observations.
func (e *Engine) recordLearned(ctx context.Context, l plan.Learned) error {
	if len(l.Accepted)+len(l.Finished)+len(l.Waves)+len(l.Cohorts) > 0 {
		if err := e.store.RecordLearned(ctx, l); err != nil {
			return fmt.Errorf("record what was learned: %w", err)
		}
		e.observations.applyWrite(func(o *plan.Observed) { o.AddLearned(l) })
	}
	e.observations.forgetOffers(l.Lapsed)
	return e.freeSlots(ctx, l.Freed)
}

// freeSlots ends slots, in the store first, then in the observations.
func (e *Engine) freeSlots(ctx context.Context, freed []plan.Freed) error {
	for _, f := range freed {
		if err := e.store.FreeSlots(ctx, f.Channel, f.Cells); err != nil {
			return fmt.Errorf("free %d slots of %s: %w", len(f.Cells), f.Channel, err)
		}
		e.observations.applyWrite(func(o *plan.Observed) { o.FreeSlots(f) })
	}
	return nil
}

// recordGrants records assignments of cells, in the store first, then in the observations, and returns how many were
// made.
func (e *Engine) recordGrants(ctx context.Context, offers []plan.Offer) (made int, err error) {
	if len(offers) == 0 {
		return 0, nil
	}
	grants, err := e.store.RecordGrants(ctx, offers)
	if err != nil {
		return 0, fmt.Errorf("grant to %d cells: %w", len(offers), err)
	}
	e.counters.grants.Add(uint64(len(grants)))
	given := make(map[string]bool, len(grants))
	for _, g := range grants {
		given[g.Cell] = true
	}
	offers = slices.DeleteFunc(offers, func(o plan.Offer) bool { return !given[o.Cell] })
	e.observations.applyWrite(func(o *plan.Observed) { o.RecordGrants(offers) })
	return len(grants), nil
}

// auditEvery is how often the audit is read at most: a commit of it is due once a day.
const auditEvery = time.Minute

// auditReader reads how far the audit is. It belongs to the tick.
type auditReader struct {
	audit Audit // nil: there is none
	log   zerolog.Logger
	chain *audithead.Chain // nil: it was not read yet
	at    time.Time
}

// read reads the rows after the one that was committed last. What can't be read is told and tried again: nothing else
// waits for it.
func (r *auditReader) read(ctx context.Context, now time.Time, committed int64) {
	if r.audit == nil || now.Sub(r.at) < auditEvery {
		return
	}
	r.at = now
	chain, err := r.audit.AuditChain(ctx, committed)
	if err != nil {
		r.log.Warn().Err(err).Msg("how far the audit is can't be committed")
		return
	}
	r.chain = &chain
}
