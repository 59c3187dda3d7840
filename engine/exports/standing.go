package exports

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
)

// AddToStatus adds where the exports of a status's cells stand.
func (k *Keeper) AddToStatus(ctx context.Context, s *view.Status) error {
	if len(s.Cells) == 0 {
		return nil
	}
	first, last := s.Cells[0].Name, s.Cells[len(s.Cells)-1].Name
	found, err := k.standings(ctx, first[:len(first)-1], last, s.Now) // first comes after all but its last byte
	if err == nil {
		s.AddExports(found)
	}
	return err
}

// AddToWhy adds where the exports of a cell stand. Of anything else it adds nothing.
func (k *Keeper) AddToWhy(ctx context.Context, e *view.Explanation, now time.Time) error {
	if e.Kind != view.SubjectCell {
		return nil
	}
	p, _, err := load[Position](ctx, k, positionKind, e.Name)
	if err == nil {
		e.AddExports(p.Standing(now))
	}
	return err
}

// standings returns where the exports stand of the cells whose names come after one and not after last, by name. Cells
// that never exported anything are not there.
func (k *Keeper) standings(ctx context.Context, after, last string, now time.Time) (
	all map[string]*cells.ExportStanding, err error) {

	all = map[string]*cells.ExportStanding{}
	for r, err := range records.All(ctx, k.records, positionKind, records.Page{After: after}) {
		if err != nil {
			return nil, fmt.Errorf("how far cells' exports are: %w", err)
		}
		if r.Key > last {
			break
		}
		var p Position
		if err := json.Unmarshal(r.Body, &p); err != nil {
			return nil, fmt.Errorf("exports of %s: %w", r.Key, err)
		}
		all[r.Key] = p.Standing(now)
	}
	return all, nil
}

// Standing returns where the exports stand at now; nil: nothing ever came.
func (p *Position) Standing(now time.Time) *cells.ExportStanding {
	if p.Received.IsZero() {
		return nil
	}
	began := p.Began
	if began.IsZero() { // kept before this was
		began = p.Received
	}
	s := &cells.ExportStanding{State: cells.ExportsFlow, Since: began, Received: p.Received,
		HeldSeconds: max(0, p.Received.Sub(p.At)).Seconds()}
	if now.Sub(p.Received) > quiet {
		s.State, s.Since = cells.ExportsQuiet, p.Received
	}
	if n := len(p.Gaps); n > 0 {
		s.Gap = &p.Gaps[n-1]
	}
	return s
}
