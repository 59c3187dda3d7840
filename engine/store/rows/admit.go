package rows

import (
	"fmt"

	"github.com/sluice-cd/sluice/engine/plan"
)

// CellNames returns the cells of a batch, each once.
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

// Admitted is the part of a batch that may be written.
type Admitted struct {
	Cells    []Cell  // the last state of each cell
	Events   []Event // in order of arrival; existing events are not overwritten
	Material bool
	Refused  map[*Report]error // stale reports, of which nothing is written
}

// Admit compares each report of a batch, in order, with the stored versions: all states must have the next version
// (none stored: 0), or the report is refused with ErrStale and does not count for later ones. Admit changes stored to
// the versions after the batch is written.
func Admit(batch []*Report, stored map[string]int64) Admitted {
	a := Admitted{Cells: make([]Cell, 0, len(batch))}
	at := make(map[string]int, len(batch)) // the index of a cell's row in a.Cells
	for _, r := range batch {
		if err := raiseVersions(stored, r.Cells); err != nil {
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
		a.Material = a.Material || r.Material
	}
	return a
}

// raiseVersions increments the versions of all of a report's cells or, if one is stale, of none.
func raiseVersions(stored map[string]int64, all []Cell) error {
	for i, c := range all {
		if c.Version != stored[c.Name]+1 {
			for _, done := range all[:i] {
				stored[done.Name]--
			}
			return fmt.Errorf("store version %d of %s over version %d: %w", c.Version, c.Name, stored[c.Name],
				plan.ErrStale)
		}
		stored[c.Name]++
	}
	return nil
}
