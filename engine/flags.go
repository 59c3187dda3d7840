package engine

import (
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// CellStates is the newest word of every cell, by name, whatever the plan was made of. The map is the caller's, the states are not.
func (e *Engine) CellStates() map[string]*plan.CellState { return e.observations.states() }

// FlagsReported gives a value after a cell said something else of flags, or of what it runs, than before; to one receiver.
func (e *Engine) FlagsReported() <-chan struct{} { return e.signals.flagsReported }

// FlagsWritten gives a value after another process wrote to the FlagStore, or may have; to one receiver.
func (e *Engine) FlagsWritten() <-chan struct{} { return e.signals.flagsWritten }

// Announce shows f from now on: to cells, by another View of the same plan, and to gates, which are asked again where they see
// something else than before.
func (e *Engine) Announce(f *view.Flags) {
	if e.publisher.announceFlags(f) {
		e.signals.changed.Notify()
	}
}
