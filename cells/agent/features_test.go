package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// R38: features that were healthy for a moment count, and stop counting once the release is given up, before any write.
func TestReturnNarrowsWhatIsContained(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := &state{policy: policy{HealthTimeout: 20 * time.Second, HealthInterval: 5 * time.Second,
		HealInterval: time.Hour, HealthyFor: 15 * time.Second}}
	begin := func(sequence int64, release string, contains ...string) {
		t.Helper()
		a := cells.Assignment{Channel: "staging", Epoch: 1, Sequence: sequence, Release: release,
			Digest: releases.DigestBytes([]byte(release))}
		s.handleOffer(&a, now)
		s.handleConfirmation(a.Key(), now)
		s.recordFeatures(&a, contains)
		s.handlePrepared(nil, now)
		s.handleApplied(nil, now)
		s.handleHealth(nil, now)
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
	s.handleHealth(nil, now)
	begin(2, "1.1.0", "b", "c")
	is("healthy for a moment", "b", "c")
	now = now.Add(time.Minute)
	s.handleHealth(errBad, now)
	if s.Attempt == nil || !s.Attempt.Rollback {
		t.Fatalf("it does not go back: %+v", s.journal)
	}
	is("given up", "b")
	s.handleApplied(nil, now)
	is("back", "b")
	s.handleHealth(nil, now)
	is("healthy again", "a", "b")
}
