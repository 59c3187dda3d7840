package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/engine/plan"
)

// remember adds what a plan learned to what is observed.
func (e *Engine) remember(l plan.Learned) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	e.obs.Remember(l)
}

// lapse forgets offers that ended untaken (R14). Each replica finds that out by itself, and one may have been taken just now.
func (e *Engine) lapse(names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.obs.Lapse(names)
}

// free ends slots: in the store first, then in what is observed.
func (e *Engine) free(ctx context.Context, freed []plan.Freed) error {
	for _, f := range freed {
		if err := e.store.Free(ctx, f.Channel, f.Cells); err != nil {
			return fmt.Errorf("free %d slots of %s: %w", len(f.Cells), f.Channel, err)
		}
		e.mu.Lock()
		e.writes++
		e.obs.Free(f)
		e.mu.Unlock()
	}
	return nil
}

// grant gives cells their assignments: in the store first, then in what is observed. It returns how many were made.
func (e *Engine) grant(ctx context.Context, offers []plan.Offer) (made int, err error) {
	if len(offers) == 0 {
		return 0, nil
	}
	grants, err := e.store.Grant(ctx, offers)
	if err != nil {
		return 0, fmt.Errorf("grant to %d cells: %w", len(offers), err)
	}
	e.counters.grants.Add(uint64(len(grants)))
	given := make(map[string]bool, len(grants))
	for _, g := range grants {
		given[g.Cell] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	e.obs.Grant(slices.DeleteFunc(offers, func(o plan.Offer) bool { return !given[o.Cell] }))
	return len(grants), nil
}
