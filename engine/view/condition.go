package view

import (
	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Condition sums up in one word where a cell is, for lists of thousands of cells.
type Condition string

// A cell has the first condition that fits.
const (
	ConditionShutOut  Condition = "shut-out" // its key is revoked, or quarantined because two machines use it
	ConditionFailing  Condition = "failing"  // unhealthy, failed, stuck, or back from its channel's head
	ConditionSilent   Condition = "silent"   // has reported, but not within the stale limit
	ConditionNew      Condition = "new"      // has not reported yet
	ConditionUpdating Condition = "updating" // granted or applying something, not healthy on it yet
	// Its wave, a window, a hold, a maintenance or its owner keeps it from its channel's head
	ConditionHeld Condition = "held"
	// On another release than the head; nothing of its own holds it
	ConditionBehind  Condition = "behind"
	ConditionHealthy Condition = "healthy" // healthy on its channel's head
)

// conditionOf returns a cell's condition. blocked are the verdicts about the cell. Pure.
func conditionOf(v *View, cell *plan.Cell, c *plan.Channel, blocked []channels.Verdict) Condition {
	var head *plan.EffectiveHead
	if c != nil {
		head = c.Effective
	}
	s := v.Observed.Cells[cell.Name]
	if id := v.Identity(cell.Name); id.Revoked || id.Quarantined != "" {
		return ConditionShutOut
	}
	if s == nil || s.LastReport.IsZero() {
		return ConditionNew
	}
	onHead := head != nil && s.Digest == head.Digest
	switch {
	case s.State == cells.StateUnhealthy, s.State == cells.StateFailed, s.State == cells.StateStuck,
		!onHead && wentBack(s, head):
		return ConditionFailing
	case v.Silent(s):
		return ConditionSilent
	case s.Applying != nil, s.State == cells.StateApplying,
		s.Granted != nil && s.Granted.Digest != s.Digest && len(blocked) == 0:
		return ConditionUpdating
	case onHead && s.State == cells.StateHealthy:
		return ConditionHealthy
	case len(blocked) > 0:
		return ConditionHeld
	}
	return ConditionBehind
}

// wentBack reports whether a cell failed its channel's head, other than by its values alone (R13).
func wentBack(s *plan.CellState, head *plan.EffectiveHead) bool {
	if head == nil {
		return false
	}
	for _, f := range s.Failures {
		if f.Assignment.Digest == head.Digest && f.Assignment.Sequence == head.Sequence {
			return true
		}
	}
	return false
}
