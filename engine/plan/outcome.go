package plan

import (
	"slices"

	"github.com/sluice-cd/sluice/cells"
)

// outcome says how a head did not work in a cell that was granted it.
type outcome uint8

const (
	works           outcome = iota // or there is no result yet
	machineTrouble                 // the cell's machine is at fault
	stalled                        // the cell began, and has had no result for longer than the stall limit
	failedUnknown                  // it failed, and nobody knows why
	failedByRelease                // the release is at fault
)

// minUnknown is how many cells must have a stall or an unexplained failure for it to count against the release: what
// happens to one cell alone may be the cell's (R49).
const minUnknown = 2

// outcomeOf returns how the head did not work in a cell, given by its index. A cell's word counts only about what it
// was granted (R49); its last report may be about the channel that it comes from. A failure under an earlier sequence,
// or of values only, does not count (R13, R21).
func (t *tally) outcomeOf(i int) outcome {
	s, e := t.cells[i].last, t.channel.Effective
	if s == nil || len(s.Failures) == 0 && s.Applying == nil && s.State == cells.StateHealthy { // the usual case
		return works
	}
	if !t.grantedHead(s) {
		return works
	}
	if f := t.failureOfHead(s); f != nil {
		return outcomeOfCause(f.Cause)
	}
	switch {
	case s.Digest == e.Digest && s.failedForGood():
		return failedUnknown
	case t.hasStalled(s):
		return stalled
	case t.fellIll(s) && !t.isExcluded(i):
		return failedByRelease
	}
	return works
}

func outcomeOfCause(c cells.Cause) outcome {
	switch c {
	case cells.CauseRelease:
		return failedByRelease
	case cells.CauseCell:
		return machineTrouble
	}
	return failedUnknown
}

// grantedHead reports whether the cell was granted the head. A store that is younger than the head may have lost the
// grant: then the cell's own word is all there is (R26).
func (t *tally) grantedHead(s *CellState) bool {
	if s.Granted != nil {
		return t.isOfHead(s.Granted)
	}
	if !t.channel.planner.observed.Since.After(t.channel.Effective.Moved) {
		return false
	}
	return s.Running != nil && t.isOfHead(s.Running) || s.Applying != nil && t.isOfHead(s.Applying) ||
		slices.ContainsFunc(s.Failures, func(f Failure) bool { return t.isOfHead(&f.Assignment) })
}

func (t *tally) isOfHead(a *cells.Assignment) bool {
	e := t.channel.Effective
	return a.Channel == t.channel.Name && a.Sequence == e.Sequence && a.Digest == e.Digest
}

// failureOfHead returns the newest failure of the head that a cell reports; nil: none.
func (t *tally) failureOfHead(s *CellState) *Failure {
	for i := range slices.Backward(s.Failures) {
		if f := &s.Failures[i]; t.isOfHead(&f.Assignment) && !f.Values {
			return f
		}
	}
	return nil
}

// hasStalled reports whether a cell began the head and has had no result for longer than the stall limit.
func (t *tally) hasStalled(s *CellState) bool {
	return s.Applying != nil && t.isOfHead(s.Applying) && s.Digest != t.channel.Effective.Digest &&
		t.channel.planner.hasStalled(t.channel.Channel, s)
}

// fellIll reports whether a cell turned ill on the head soon after its own rollout, and stayed ill for so long that it
// is not just a moment (R50).
func (t *tally) fellIll(s *CellState) bool {
	c := t.channel
	if s.IllSince.IsZero() || c.Valid == nil || s.IllSince.Sub(s.ReachedAt) > c.Valid.Rollout.Watch ||
		!c.planner.inContact(s) {
		return false
	}
	counts := s.IllSince.Add(c.planner.desired.StaleAfter())
	c.planner.replanAt(counts)
	return !c.planner.now.Before(counts)
}

// countsAgainst reports whether a cell's outcome may count against the head: while the cell's own rollout is under way,
// and for the watch after it. The first install of a cell that joined later never counts, nor does a late word once the
// rollout is finished, nor a machine that was installed anew (R49).
func (t *tally) countsAgainst(cell *cellTally) bool {
	s, c := cell.last, t.channel
	switch {
	case cell.outcome <= machineTrouble:
		return false
	case s.ReachedAt.IsZero():
		return !c.isFinished(c.Effective) && (cell.inCohort || s.Digest != "")
	case s.Digest == "", cell.outcome == stalled:
		return false
	}
	f := t.failureOfHead(s)
	return f == nil || c.Valid == nil || f.Seen.Sub(s.ReachedAt) <= c.Valid.Rollout.Watch
}

// weighOutcomes finds out which cells' outcomes count against the head (R49).
func (t *tally) weighOutcomes() {
	if t.channel.memory.sums.troubled == 0 {
		return
	}
	var counted, unknown int
	for i := range t.cells {
		if cell := &t.cells[i]; t.countsAgainst(cell) {
			if counted++; cell.outcome != failedByRelease {
				unknown++
			}
		}
	}
	if counted == 0 {
		return
	}
	enough := unknown >= min(minUnknown, t.waveSize())
	for i := range t.cells {
		if cell := &t.cells[i]; t.countsAgainst(cell) && (cell.outcome == failedByRelease || enough) {
			t.failed = append(t.failed, t.channel.Cells[i].Name)
		}
	}
}

// waveSize returns how many cells the open wave lets have the head, at least 1.
func (t *tally) waveSize() int {
	n := t.eligible
	if r := t.channel.rollout; r != nil && r.progress.openWave > 0 {
		n = r.progress.sizes[r.progress.openWave-1]
	}
	return max(n, 1)
}

// reached reports whether the cell was once healthy on a head that it was granted.
func (s *CellState) reached(e *EffectiveHead) bool {
	return !s.ReachedAt.IsZero() && s.Granted.Sequence == e.Sequence && s.Granted.Digest == e.Digest
}
