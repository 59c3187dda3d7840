package engine

import (
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// CellStates returns the newest state of every cell by name, whether or not the plan saw it. The caller may change the
// map, not the states.
func (e *Engine) CellStates() map[string]*plan.CellState { return e.observations.states() }

// FlagsReported returns a channel that signals one receiver after a cell reported other flags, or another release, than
// before.
func (e *Engine) FlagsReported() <-chan struct{} { return e.signals.flagsReported }

// FlagsWritten returns a channel that signals one receiver after another process may have written to the FlagStore.
func (e *Engine) FlagsWritten() <-chan struct{} { return e.signals.flagsWritten }

// Announce publishes f: to cells, by another View of the same plan, and to gates, which are evaluated again if what
// they see of flags changed.
func (e *Engine) Announce(f *view.Flags) {
	if e.publisher.announceFlags(f) {
		e.signals.changed.Notify()
	}
}

// AnnounceDebug publishes, by cell, a hash of its requests for debug access, which its answer has. The map must not be
// changed any more.
func AnnounceDebug(e *Engine, byCell map[string]string) { e.publisher.announceDebug(byCell) }
