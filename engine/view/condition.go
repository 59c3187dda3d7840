package view

import (
	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Condition is where a cell is, in a word, for whoever looks at thousands of them.
type Condition string

// A cell is in one of these: the first that fits.
const (
	ConditionShutOut  Condition = "shut-out" // its key is revoked, or used from two places: nobody is let in under it
	ConditionFailing  Condition = "failing"  // unhealthy, failed, stuck, or went back from its channel's head
	ConditionSilent   Condition = "silent"   // reported once, and not within the stale limit
	ConditionNew      Condition = "new"      // has not reported yet
	ConditionUpdating Condition = "updating" // was granted or has begun something, and it is not healthy on it yet
	ConditionHeld     Condition = "held"     // its turn, a window, a hold or its owner keeps it from its channel's head
	ConditionBehind   Condition = "behind"   // on something else than its channel's head, and nothing of its own holds it
	ConditionHealthy  Condition = "healthy"  // on its channel's head
)

// conditionOf tells in which condition a cell is; blocked says whether a verdict is about it. Pure.
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
	case s.State == cells.StateUnhealthy, s.State == cells.StateFailed, s.State == cells.StateStuck, !onHead && wentBack(s, head):
		return ConditionFailing
	case v.Silent(s):
		return ConditionSilent
	case s.Applying != nil, s.State == cells.StateApplying, s.Granted != nil && s.Granted.Digest != s.Digest && len(blocked) == 0:
		return ConditionUpdating
	case onHead && s.State == cells.StateHealthy:
		return ConditionHealthy
	case len(blocked) > 0:
		return ConditionHeld
	}
	return ConditionBehind
}

// wentBack reports whether a cell failed its channel's head itself, not only values of its own with it (R13).
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
