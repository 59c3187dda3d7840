package plan

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// Receive folds a report into what is known of a cell. It is pure: the instant of receipt is an argument. Gaps between
// reports are measured on the instants' monotonic readings. prev may be nil and is not changed.
//
// Soak is the sum of gaps between reports, each within staleAfter, over which the cell was healthy on the same digest
// at both ends (R9). The first gap after a restart does not count, because no process was listening.
func Receive(prev *CellState, r cells.Report, received time.Time, staleAfter time.Duration) *CellState {
	s, _, _ := ReportArrival{At: received, Local: received}.Fold(prev, &r, staleAfter)
	return s
}

// ReportArrival says when a report was received, and under which identity.
type ReportArrival struct {
	At    time.Time // by the store's clock
	Local time.Time // by this process's clock, with its monotonic reading
	Epoch int64     // epoch of the cell's identity
}

// Fold is Receive for a control plane with several replicas: a report that another replica received counts as if this
// one had received it. Gaps between reports to this process are measured by its own clock, other gaps by the store's
// clock.
func (k ReportArrival) Fold(prev *CellState, r *cells.Report, staleAfter time.Duration) (*CellState,
	Restore, FreshEvents) {
	if prev.isOvertaken(r, k.At) {
		s := *prev
		s.Version++
		restore, events := s.foldBoots(prev, r, k.Epoch, true, staleAfter)
		return &s, restore, events
	}
	s := &CellState{
		Name: r.Cell, State: r.State, Message: r.Message, Unhealthy: r.Unhealthy, LastReport: k.At,
		Running: r.Running, Applying: r.Applying, Owner: r.Owner, Flags: r.Flags, Maintenance: r.Maintenance,
		Debug: r.Debug, Signatures: r.Signatures, Version: 1, watched: true, receivedAt: k.Local,
	}
	if !r.Sent.IsZero() {
		s.Skew = r.Sent.Sub(k.At.Round(0))
	}
	s.foldInfrastructure(prev, r.Infrastructure)
	if a := r.Running; a != nil {
		s.Channel, s.Epoch, s.Sequence, s.Release, s.Digest = a.Channel, a.Epoch, a.Sequence, a.Release, a.Digest
	}
	s.foldTaken(prev, r.Acknowledged)
	if prev != nil {
		s.Version = prev.Version + 1
		s.Granted, s.GrantedAt, s.StartedAt, s.Left = prev.Granted, prev.GrantedAt, prev.StartedAt, prev.Left
		s.ReachedAt, s.IllSince = prev.ReachedAt, prev.IllSince
		if s.Channel == "" {
			s.Channel = prev.Channel
		}
	}
	restore, events := s.foldBoots(prev, r, k.Epoch, false, staleAfter)
	gap := s.reportGap(prev)
	s.foldSoak(prev, gap, staleAfter)
	s.foldGaps(prev, gap, staleAfter)
	s.foldStart(prev)
	s.foldReached()
	s.foldFailures(prev, r.Failures)
	return s, restore, events
}

// foldTaken sets the key of what the cell acknowledged: that of the report before, if it is the same assignment.
func (s *CellState) foldTaken(prev *CellState, acknowledged *cells.Assignment) {
	switch {
	case acknowledged == nil:
	case prev != nil && prev.taken.Identical(acknowledged):
		s.Taken, s.taken = prev.Taken, prev.taken
	default:
		s.Taken, s.taken = acknowledged.Key(), acknowledged
	}
}

// foldInfrastructure sets which update counts as executed, and what the cell says of its infrastructure. s has the
// cell's skew.
func (s *CellState) foldInfrastructure(prev *CellState, actual cells.ActualInfrastructure) {
	before := 0
	if prev != nil {
		before = prev.Infrastructure
	}
	s.Infrastructure = actual.Counted(before)
	if actual.Source == "" {
		return
	}
	if !actual.At.IsZero() {
		actual.At = actual.At.Add(-s.Skew).Truncate(time.Second)
	}
	s.Actual = &actual
}

// clockTolerance is how far two replicas' estimates of the store's clock may differ.
const clockTolerance = time.Second

// reportGap returns the time since the report before.
//
// Replicas' clocks differ by milliseconds. A report that seems to come up to clockTolerance before its predecessor
// counts as received at the same instant. The next gap then starts at the later of the two instants, whichever replica
// measures it, so that no time counts twice.
//
// Between two reports that this process received, its own clock decides if the store's clock differs by more, because
// then one of them was set.
func (s *CellState) reportGap(prev *CellState) time.Duration {
	if prev == nil {
		return 0
	}
	gap, least := s.LastReport.Sub(prev.LastReport), -clockTolerance
	if !prev.receivedAt.IsZero() {
		own := s.receivedAt.Sub(prev.receivedAt)
		if least = own - 2*clockTolerance; gap > own || gap < least {
			return own
		}
	}
	if gap < 0 && gap >= least {
		s.LastReport, gap = prev.LastReport, 0
	}
	return gap
}

// foldSoak continues the soak if s and the report before were both healthy on one digest, and close enough in time.
func (s *CellState) foldSoak(prev *CellState, gap, staleAfter time.Duration) {
	if s.State != cells.StateHealthy || s.Digest == "" {
		return
	}
	s.HealthySince = s.LastReport
	if prev == nil || prev.State != cells.StateHealthy || prev.Digest != s.Digest || prev.HealthySince.IsZero() ||
		revisionChanged(prev.Running, s.Running) {
		return
	}
	if !prev.watched {
		// no process was listening in between: the soak pauses
		s.HealthySince, s.Soaked = prev.HealthySince, prev.Soaked
		return
	}
	if gap < 0 || gap > staleAfter {
		return
	}
	s.HealthySince, s.Soaked = prev.HealthySince, prev.Soaked+gap
}

// shortestGap is the shortest time without a listening control plane that is noted: a restart is shorter.
const shortestGap = time.Minute

// foldGaps notes what the soak leaves out. It decides nothing.
func (s *CellState) foldGaps(prev *CellState, gap, staleAfter time.Duration) {
	if prev == nil || s.Digest == "" || prev.Digest != s.Digest || revisionChanged(prev.Running, s.Running) {
		return
	}
	s.Gaps = prev.Gaps
	if gap <= 0 {
		return
	}
	cause := GapUnhealthy
	switch healthy := prev.State == cells.StateHealthy; {
	case !prev.watched && gap >= shortestGap:
		cause = GapUnwatched
	case gap > staleAfter:
		cause = GapSilent
	case healthy || !prev.watched:
		return
	}
	from := s.LastReport.Add(-gap)
	if n := len(s.Gaps); n > 0 && s.Gaps[n-1].Cause == cause && !from.After(s.Gaps[n-1].Until) {
		from = s.Gaps[n-1].From // it goes on
		s.Gaps = s.Gaps[:n-1]
	}
	s.Gaps = append(slices.Clone(s.Gaps[max(0, len(s.Gaps)+1-maxGaps):]), Gap{from, s.LastReport, cause})
}

// revisionChanged reports whether values or profile changed, which restarts the soak (R13).
func revisionChanged(a, b *cells.Assignment) bool {
	return a != nil && b != nil && a.Revision != b.Revision
}

// foldStart keeps when the cell began what it applies: the stall limit counts from there (R14).
func (s *CellState) foldStart(prev *CellState) {
	switch {
	case s.Applying == nil:
		s.StartedAt = time.Time{}
	case s.StartedAt.IsZero(), prev.Applying == nil, prev.Applying.Key() != s.Applying.Key():
		s.StartedAt = s.LastReport
	}
}

// foldReached notes when the cell was first healthy on the release that it was granted, and since when it is ill on it.
func (s *CellState) foldReached() {
	switch {
	case !s.runsGrantedRelease(), s.State != cells.StateHealthy && s.State != cells.StateUnhealthy:
		s.IllSince = time.Time{}
	case s.State == cells.StateUnhealthy:
		if s.IllSince.IsZero() && !s.ReachedAt.IsZero() {
			s.IllSince = s.LastReport
		}
	default:
		s.IllSince = time.Time{}
		if s.ReachedAt.IsZero() {
			s.ReachedAt = s.LastReport
		}
	}
}

func (s *CellState) runsGrantedRelease() bool {
	return s.Granted != nil && s.Running != nil && sameHead(s.Granted, s.Running)
}

// sameHead reports whether two assignments are of one head. Epoch, profile and values may differ.
func sameHead(a, b *cells.Assignment) bool {
	return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest
}

// foldFailures notes when each failure was first reported. A cell's claim that only values had changed is believed only
// if the cell runs, or ran in the report before, the same release with other values (R13).
func (s *CellState) foldFailures(prev *CellState, failures []cells.Failure) {
	for _, f := range failures {
		seen := s.LastReport
		f.Values = f.Values &&
			(differsInValues(s.Running, &f.Assignment) || prev != nil && differsInValues(prev.Running, &f.Assignment))
		if prev != nil {
			for _, known := range prev.Failures {
				if known.Assignment.Key() == f.Assignment.Key() && known.At.Equal(f.At) {
					seen, f.Values = known.Seen, known.Values
				}
			}
		}
		s.Failures = append(s.Failures, Failure{Failure: f, Seen: seen})
	}
}

func differsInValues(a, b *cells.Assignment) bool {
	return a != nil && a.Digest == b.Digest && a.Revision != b.Revision
}

// failedForGood reports whether the cell failed what it runs, and not only because of its values (R13).
func (s *CellState) failedForGood() bool {
	if s.State != cells.StateFailed && s.State != cells.StateStuck {
		return false
	}
	n := len(s.Failures)
	return n == 0 || !s.Failures[n-1].Values || s.Failures[n-1].Assignment.Digest != s.Digest
}

// tookGrant reports whether the cell took its grant: it acknowledged, applied or failed it.
func (s *CellState) tookGrant() bool {
	g := s.Granted
	for _, a := range []*cells.Assignment{s.Running, s.Applying} {
		if a != nil && a.Epoch == g.Epoch && a.Sequence == g.Sequence && a.Revision == g.Revision {
			return true
		}
	}
	key := g.Key()
	return s.Taken == key || slices.ContainsFunc(s.Failures, func(f Failure) bool { return f.Assignment.Key() == key })
}

// WithoutGrant returns a copy of s without its grant (R14).
func WithoutGrant(s *CellState) *CellState {
	c := *s
	c.Granted, c.GrantedAt, c.ReachedAt, c.IllSince = nil, time.Time{}, time.Time{}, time.Time{}
	return &c
}

// WithGrant returns a copy of prev with grant g.
func WithGrant(prev *CellState, g Granted) *CellState {
	s := CellState{Name: g.Cell}
	if prev != nil {
		s = *prev
	}
	s.SetGrant(g.Assignment, g.At)
	s.StartedAt = time.Time{}
	return &s
}

// WithNewestGrant returns a copy of s with the grant of another state of the same cell, or with none.
func (s *CellState) WithNewestGrant(of *CellState) *CellState {
	if of.Granted == nil {
		return WithoutGrant(s)
	}
	c := *s
	c.SetGrant(*of.Granted, of.GrantedAt)
	return &c
}

// SetGrant makes a the newest grant. It remembers what was granted in another channel before.
func (s *CellState) SetGrant(a cells.Assignment, at time.Time) {
	if was := s.Granted; was != nil && was.Channel != a.Channel && !slices.Contains(s.Left, was.Digest) {
		s.Left = append(slices.Clone(s.Left[max(0, len(s.Left)+1-maxLeft):]), was.Digest)
	}
	if s.Granted == nil || !sameHead(s.Granted, &a) {
		s.ReachedAt, s.IllSince = time.Time{}, time.Time{}
	}
	s.Granted, s.GrantedAt = &a, at
}

// maxLeft is how many releases of channels that a cell has left it may still request.
const maxLeft = 4

// StatesDiffer reports whether state b has news that the state before, a, lacks, other than that time passed.
func StatesDiffer(a, b *CellState) bool {
	return a == nil || a.State != b.State || a.Digest != b.Digest || a.Sequence != b.Sequence || a.Epoch != b.Epoch ||
		a.Taken != b.Taken || a.Clone != b.Clone || a.Infrastructure != b.Infrastructure ||
		a.Actual.Differs(b.Actual) ||
		(a.Applying == nil) != (b.Applying == nil) || revisionChanged(a.Running, b.Running) ||
		newestFailureDiffers(a.Failures, b.Failures) || !reflect.DeepEqual(a.Owner, b.Owner)
}

// FlagsDiffer reports whether b has news about flags, or about what decisions on flags depend on. Such news wakes no
// plan of releases.
func FlagsDiffer(a, b *CellState) bool {
	if a == nil {
		return true
	}
	f, g := a.Flags, b.Flags
	switch {
	case a.Digest != b.Digest || assignmentDigest(a.Applying) != assignmentDigest(b.Applying) ||
		(f == nil) != (g == nil):
		return true
	case f == nil:
		return false
	}
	return f.Height != g.Height || f.Bundle != g.Bundle || f.Orders != g.Orders || f.Fault != g.Fault ||
		!maps.Equal(f.States, g.States)
}

func assignmentDigest(a *cells.Assignment) releases.Digest {
	if a == nil {
		return ""
	}
	return a.Digest
}

// newestFailureDiffers reports whether the newest failures differ. Of many failures only the newest are kept.
func newestFailureDiffers(a, b []Failure) bool {
	n := len(a)
	return n != len(b) || n > 0 && (!a[n-1].At.Equal(b[n-1].At) || a[n-1].Assignment.Key() != b[n-1].Assignment.Key())
}
