package agent

import (
	"slices"

	"github.com/sluice-cd/sluice/cells"
)

// journal.Contained is narrowed and journalled before the first write of an apply, and widened only once the applied
// release is healthy (R38).

// recordFeatures records the features of an assignment's release, read from its verified bytes.
func (s *state) recordFeatures(of *cells.Assignment, features []string) {
	if a := s.Attempt; a != nil && a.Features == nil && a.Assignment.Digest == of.Digest {
		more := *a
		more.Features = features
		s.Attempt = &more
	}
	if s.LastGood != nil && s.Features == nil && s.LastGood.Digest == of.Digest {
		s.Features = features
	}
	s.widenContained()
}

// narrowContained records that a release with these features may be running from now on, beside those that already may.
func (s *state) narrowContained(features []string) {
	s.Contained = slices.DeleteFunc(slices.Clone(s.Contained),
		func(f string) bool { return !slices.Contains(features, f) })
}

// widenContained sets Contained to the features of the one release that may be running, once the release is healthy.
func (s *state) widenContained() {
	a := s.Attempt
	switch {
	case s.health != healthGood:
	case a != nil && a.Applied:
		s.Contained = a.Features
	case s.LastGood != nil && !s.Dirty && (a == nil || a.isUntouched()):
		s.Contained = s.Features
	}
}

// runningRelease returns the release that runs, or that the target is being brought to; empty: none.
func (j *journal) runningRelease() string {
	switch a := j.Attempt; {
	case a != nil && (!a.isUntouched() || j.Dirty):
		return a.Assignment.Release
	case j.LastGood != nil:
		return j.LastGood.Release
	}
	return ""
}
