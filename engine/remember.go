package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// remember adds what a plan learned to what is observed.
func (e *Engine) remember(l Learned) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	all := &e.obs.Learned
	all.Accepted = add(all.Accepted, l.Accepted, func(a, b Acceptance) bool {
		return a.Upstream == b.Upstream && a.Downstream == b.Downstream && a.Digest == b.Digest
	})
	all.Finished = add(all.Finished, l.Finished, func(a, b Finish) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest
	})
	all.Waves = add(all.Waves, l.Waves, func(a, b Through) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest && a.Wave == b.Wave
	})
	rollouts := slices.DeleteFunc(slices.Clone(all.Rollouts), func(old Rollout) bool {
		return slices.ContainsFunc(l.Rollouts, func(r Rollout) bool { return r.Channel == old.Channel && r.Sequence >= old.Sequence })
	})
	all.Rollouts = append(rollouts, l.Rollouts...)
}

// add is all with those of fresh that it has not.
func add[T any](all, fresh []T, same func(a, b T) bool) []T {
	all = slices.Clip(all)
	for _, f := range fresh {
		if !slices.ContainsFunc(all, func(a T) bool { return same(a, f) }) {
			all = append(all, f)
		}
	}
	return all
}

// lapse forgets offers that ended untaken (R14). Each replica finds that out by itself.
func (e *Engine) lapse(names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range names {
		if s := e.obs.Cells[name]; s != nil && s.Granted != nil && !s.took() { // it may have been taken just now
			e.obs.Cells[name] = Lapse(s)
		}
	}
}

// free ends slots: in the store first, then in what is observed.
func (e *Engine) free(ctx context.Context, freed []Freed) error {
	for _, f := range freed {
		if err := e.store.Free(ctx, f.Channel, f.Cells); err != nil {
			return fmt.Errorf("free %d slots of %s: %w", len(f.Cells), f.Channel, err)
		}
		e.mu.Lock()
		e.writes++
		left := slices.DeleteFunc(slices.Clone(e.obs.Slots[f.Channel]), func(name string) bool { return slices.Contains(f.Cells, name) })
		e.obs.Slots = with(e.obs.Slots, f.Channel, left)
		e.mu.Unlock()
	}
	return nil
}

// grant gives cells their assignments: in the store first, then in what is observed. It tells how many were made.
func (e *Engine) grant(ctx context.Context, offers []Offer) (made int, err error) {
	if len(offers) == 0 {
		return 0, nil
	}
	grants, err := e.store.Grant(ctx, offers)
	if err != nil {
		return 0, fmt.Errorf("grant to %d cells: %w", len(offers), err)
	}
	e.counters.grants.Add(uint64(len(grants)))
	slots := map[string]bool{}
	for _, o := range offers {
		slots[o.Cell] = o.Cap > 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	for _, g := range grants {
		e.obs.Cells[g.Cell] = Give(e.obs.Cells[g.Cell], g)
		a := g.Assignment
		e.obs.Served[a.Channel] = max(e.obs.Served[a.Channel], a.Sequence)
		if used := e.obs.Slots[a.Channel]; slots[g.Cell] && !slices.Contains(used, g.Cell) {
			e.obs.Slots = with(e.obs.Slots, a.Channel, append(slices.Clone(used), g.Cell))
		}
	}
	return len(grants), nil
}

// with is slots with a channel's replaced.
func with(slots map[string][]string, channel string, names []string) map[string][]string {
	slots = maps.Clone(orEmpty(slots))
	slots[channel] = names
	return slots
}
