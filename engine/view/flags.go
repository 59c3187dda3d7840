package view

import (
	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// Flags holds what the flags repository says at one commit, for cells, gates and people. Immutable. A nil *Flags means
// that there is no flags repository.
type Flags struct {
	Commit   string                     // the tip
	Height   int64                      // the tip's place in the first-parent history
	Diverged *plan.Divergence           // cells keep what they have until a person acknowledges the divergence (R39)
	ByCell   map[string]*cells.Flags    // by cell, without labels; cells with equal flags share one value
	Bundles  map[releases.Digest][]byte // bundles that cells may request: current ones, and recent ones
	Plan     announce.Plan
	Tip      *repository.Tree      // as announce.Input has it; nil: no valid tree was ever read
	Kills    []repository.Override // kills in the store that are not in the branch yet
	// Faults of the tip, and contradictions with the release repository, such as a feature that no release contains.
	Faults []manifest.Fault
	// Why the repository can't be read, its tip or a file of it is not in force, or no announcement becomes due (R10);
	// empty: none of these.
	Fault string
	Seen  plan.FlagsSeen
}

func (f *Flags) forCell(cell string) *cells.Flags {
	if f == nil {
		return nil
	}
	return f.ByCell[cell]
}

// ForGates returns what gates see of flags; nil: nothing.
func (f *Flags) ForGates() *plan.FlagsSeen {
	if f == nil {
		return nil
	}
	return &f.Seen
}
