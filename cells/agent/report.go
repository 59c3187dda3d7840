package agent

import (
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// maxReason bounds a stored or sent reason or message, in bytes.
const maxReason = 2 << 10

// buildReport returns the report of the state. The reporter adds the cell, the boot, the time and the history.
func (s *state) buildReport() cells.Report {
	r := cells.Report{Running: s.LastGood, Acknowledged: s.Accepted, Message: s.problemSummary(), Failures: s.Failures,
		Unhealthy: s.unhealthy, Owner: s.reportedOwner(), Maintenance: maintenanceReport(&s.Upkeep)}
	a := s.Attempt
	switch {
	case a == nil && s.LastGood != nil && !s.Dirty:
		r.State = s.watchedState()
	case a == nil:
		r.Running, r.State = nil, cells.StatePending
		if len(s.Failures) > 0 {
			r.State = cells.StateFailed
		}
	case a.Phase == phaseStuck:
		r.Running, r.State = &a.Assignment, cells.StateStuck
	case a.Rollback:
		r.State = cells.StateUnhealthy
		if s.retries > 0 {
			r.State = cells.StateFailed // the rollback has failed so far
		}
	case a.Phase == phasePrepared && s.health != healthUnknown && !s.Dirty: // it has not begun: no stall counts (R14)
		r.State = s.watchedState()
	case s.wasHealthy:
		r.Running, r.State = &a.Assignment, s.watchedState()
	default:
		r.Applying, r.State = &a.Assignment, cells.StateApplying
	}
	return r
}

// watchedState returns the state of something that was good before: healthy only if this process has seen it (fault
// 34).
func (s *state) watchedState() cells.State {
	if s.health == healthGood && s.healProblem == "" {
		return cells.StateHealthy
	}
	return cells.StateUnhealthy
}

func (s *state) problemSummary() string {
	var problems []string
	said := append([]string{s.problem, maintenanceSummary(s), s.unhealthyReason, s.healProblem, s.healBlocked,
		s.healWaits, s.waitReason}, s.notes...)
	for _, m := range said {
		if m != "" && !slices.Contains(problems, m) {
			problems = append(problems, m)
		}
	}
	return words.Clip(strings.Join(problems, "; "), maxReason)
}

// isReportable reports whether the state is worth reporting. Right after a start it is not: health is about to be
// known.
func isReportable(s *state) bool {
	return s.health != healthUnknown || s.Attempt != nil || s.LastGood == nil || s.Dirty || s.Offer != nil
}
