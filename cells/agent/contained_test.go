package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// R38: what was healthy for a moment counts, and no longer once it is given up, before anything is written.
func TestReturnNarrowsWhatIsContained(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := &state{policy: policy{HealthTimeout: 20 * time.Second, HealthInterval: 5 * time.Second, HealInterval: time.Hour, HealthyFor: 15 * time.Second}}
	begin := func(sequence int64, release string, contains ...string) {
		t.Helper()
		a := cells.Assignment{Channel: "staging", Epoch: 1, Sequence: sequence, Release: release, Digest: releases.DigestBytes([]byte(release))}
		s.offered(&a, now)
		s.confirmed(a.Key(), now)
		s.learned(&a, contains)
		s.prepared(nil, now)
		s.applied(nil, now)
		s.looked(nil, now)
	}
	is := func(when string, want ...string) {
		t.Helper()
		if !slices.Equal(s.Contained, want) {
			t.Errorf("%s %v counts, want %v", when, s.Contained, want)
		}
	}
	begin(1, "1.0.0", "a", "b")
	is("healthy", "a", "b")
	now = now.Add(time.Minute)
	s.looked(nil, now)
	begin(2, "1.1.0", "b", "c")
	is("healthy for a moment", "b", "c")
	now = now.Add(time.Minute)
	s.looked(errBad, now)
	if s.Attempt == nil || !s.Attempt.Back {
		t.Fatalf("it does not go back: %+v", s.journal)
	}
	is("given up", "b")
	s.applied(nil, now)
	is("back", "b")
	s.looked(nil, now)
	is("healthy again", "a", "b")
}
