package view

import (
	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// Flags is what the flags repository says at one commit, for cells, gates and people. Immutable. A nil *Flags: there is none.
type Flags struct {
	Commit   string                     // the tip
	Height   int64                      // of the tip: its place in the first-parent history
	Diverged *plan.Divergence           // R39: what cells have stays until that is acknowledged
	Told     map[string]*cells.Flags    // by cell, without labels: cells that are told the same share one
	Bundles  map[releases.Digest][]byte // what cells may ask for: those that they are told, and were until lately
	Plan     announce.Plan
	Tip      *repository.Tree      // as announce.Input has it; nil: nothing valid was ever read
	Kills    []repository.Override // stored, and not in the branch yet
	Faults   []manifest.Fault      // of the tip, and what only both repositories show: a feature that no release contains
	Fault    string                // why the repository can't be read, its tip is not in force, or no time comes (R10); empty: none of them
	Seen     plan.FlagsSeen
}

// forCell is what a cell is told; nil: nothing.
func (f *Flags) forCell(cell string) *cells.Flags {
	if f == nil {
		return nil
	}
	return f.Told[cell]
}

// ForGates is what gates see; nil: nothing.
func (f *Flags) ForGates() *plan.FlagsSeen {
	if f == nil {
		return nil
	}
	return &f.Seen
}
