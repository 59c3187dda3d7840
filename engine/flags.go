package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// Flags is what the flags repository says at one commit, for cells, gates and people. Immutable. A nil *Flags: there is none.
type Flags struct {
	Commit   string                     // the tip
	Height   int64                      // of the tip: its place in the first-parent history
	Diverged *Divergence                // R39: what cells have stays until that is acknowledged
	Told     map[string]*cells.Flags    // by cell, without labels: cells that are told the same share one
	Bundles  map[releases.Digest][]byte // what cells may ask for: those that they are told, and were until lately
	Plan     announce.Plan
	Tip      *flags.Tree      // as announce.Input has it; nil: nothing valid was ever read
	Kills    []flags.Override // stored, and not in the branch yet
	Faults   []manifest.Fault // of the tip, and what only both repositories show: a feature that no release contains
	Fault    string           // why the repository can't be read, its tip is not in force, or no time comes (R10); empty: none of them
	Seen     FlagsSeen
}

// FlagsSeen is what gates and decisions see of flags.
type FlagsSeen struct {
	Commit    string              `json:"commit"`
	Killed    []string            `json:"killed,omitempty"`    // flags, sorted
	Published map[string][]string `json:"published,omitempty"` // features that are published, sorted, by channel
}

// told is what a cell is told; nil: nothing.
func (f *Flags) told(cell string) *cells.Flags {
	if f == nil {
		return nil
	}
	return f.Told[cell]
}

// States is the newest word of every cell, by name, whatever the plan was made of. The map is the caller's, the states are not.
func (e *Engine) States() map[string]*CellState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.obs.Cells)
}

// FlagsReported gives a value after a cell said something else of flags, or of what it runs, than before; to one receiver.
func (e *Engine) FlagsReported() <-chan struct{} { return e.flagged }

// FlagsWritten gives a value after another process wrote to the FlagStore, or may have; to one receiver.
func (e *Engine) FlagsWritten() <-chan struct{} { return e.flagNews }

// Now is the instant that plans are made at: the store's time.
func (e *Engine) Now() time.Time { return e.now() }

// Announce shows f from now on: to cells, by another View of the same plan, and to gates, which are asked again where they see
// something else than before.
func (e *Engine) Announce(f *Flags) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.flags
	e.flags = f
	if v := e.view; v != nil {
		e.present(&View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan, Took: v.Took})
	}
	if !before.seen().equal(f.seen()) {
		signal(e.moved)
	}
}

// seen is what gates see; nil: nothing.
func (f *Flags) seen() *FlagsSeen {
	if f == nil {
		return nil
	}
	return &f.Seen
}

func (s *FlagsSeen) equal(other *FlagsSeen) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.Commit == other.Commit && slices.Equal(s.Killed, other.Killed) && maps.EqualFunc(s.Published, other.Published, slices.Equal)
}
