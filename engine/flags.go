package engine

import (
	"maps"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// States is the newest word of every cell, by name, whatever the plan was made of. The map is the caller's, the states are not.
func (e *Engine) States() map[string]*plan.CellState {
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
func (e *Engine) Announce(f *view.Flags) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.flags
	e.flags = f
	if v := e.view; v != nil {
		e.present(&view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan, Took: v.Took})
	}
	if !before.ForGates().Equal(f.ForGates()) {
		signal(e.moved)
	}
}
