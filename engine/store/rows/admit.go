package rows

import (
	"fmt"

	"github.com/sluice-cd/sluice/engine/plan"
)

// CellNames gives the cells of a batch, each once.
func CellNames(batch []*Report) []string {
	seen := make(map[string]struct{}, len(batch))
	names := make([]string, 0, len(batch))
	for _, r := range batch {
		for _, c := range r.Cells {
			if _, twice := seen[c.Name]; !twice {
				seen[c.Name] = struct{}{}
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// Admitted is what of a batch may be written.
type Admitted struct {
	Cells    []Cell  // the last of each cell
	Events   []Event // in order of arrival; one that is kept already stays as it was
	Served   []Sequence
	Material bool
	Refused  map[*Report]error // those that are stale: nothing of them is written
}

// Admit holds each report of a batch, in order, against the versions that are kept: all its states must be their
// successors (none kept: 0), or it is refused with ErrStale. The reports after it are judged as if it had not come.
// It changes kept to what the versions are once the batch is written.
func Admit(batch []*Report, kept map[string]int64) Admitted {
	a := Admitted{Cells: make([]Cell, 0, len(batch)), Served: make([]Sequence, 0, 4*len(batch))}
	at := make(map[string]int, len(batch)) // of a cell's row in a.Cells
	for _, r := range batch {
		if err := raiseVersions(kept, r.Cells); err != nil {
			if a.Refused == nil {
				a.Refused = map[*Report]error{}
			}
			a.Refused[r] = err
			continue
		}
		for _, c := range r.Cells {
			if i, twice := at[c.Name]; twice {
				a.Cells[i] = c
				continue
			}
			at[c.Name] = len(a.Cells)
			a.Cells = append(a.Cells, c)
		}
		a.Events = append(a.Events, r.Events...)
		a.Served = append(a.Served, r.Served...)
		a.Material = a.Material || r.Material
	}
	return a
}

// raiseVersions counts kept up for all of a report's cells, or, if one is stale, for none.
func raiseVersions(kept map[string]int64, all []Cell) error {
	for i, c := range all {
		if c.Version != kept[c.Name]+1 {
			for _, done := range all[:i] {
				kept[done.Name]--
			}
			return fmt.Errorf("keep version %d of %s, of which there is %d: %w", c.Version, c.Name, kept[c.Name], plan.ErrStale)
		}
		kept[c.Name]++
	}
	return nil
}
