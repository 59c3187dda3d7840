package agent

import (
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// maxReason bounds, in bytes, a reason or message that is kept or sent.
const maxReason = 2 << 10

// buildReport says how things stand. It fills in what the state knows: who, when and history are the reporter's.
func (s *state) buildReport() cells.Report {
	r := cells.Report{Running: s.LastGood, Acknowledged: s.Accepted, Message: s.problemSummary(), Failures: s.Failures, Owner: s.reportedOwner()}
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
			r.State = cells.StateFailed // could not go back, so far
		}
	case s.wasHealthy:
		r.Running, r.State = &a.Assignment, s.watchedState()
	default:
		r.Applying, r.State = &a.Assignment, cells.StateApplying
	}
	return r
}

// watchedState is the state of something that was good before: healthy only if this process has seen it (fault 34).
func (s *state) watchedState() cells.State {
	if s.health == healthGood && s.healProblem == "" {
		return cells.StateHealthy
	}
	return cells.StateUnhealthy
}

// problemSummary is all that is wrong, in one line; nothing if nothing is.
func (s *state) problemSummary() string {
	var all []string
	for _, m := range []string{s.problem, s.unhealthyReason, s.healProblem, s.healBlocked, s.waitReason} {
		if m != "" && !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return words.Clip(strings.Join(all, "; "), maxReason)
}

// isReportable reports whether there is anything to tell yet: just started, health is about to be known.
func (s *state) isReportable() bool {
	return s.health != healthUnknown || s.Attempt != nil || s.LastGood == nil || s.Dirty || s.Offer != nil
}
