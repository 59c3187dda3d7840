package backoff

import (
	"testing"
	"time"
)

// Pauses double, end at the limit however many failures there were, and jitter stays within its bounds.
func TestPauses(t *testing.T) {
	for failures, want := range map[int]time.Duration{0: 100, 1: 200, 5: 3200, 9: 30_000, 1 << 30: 30_000} {
		if got := Exponential(100*time.Millisecond, 30*time.Second, failures); got != want*time.Millisecond {
			t.Errorf("after %d failures %s", failures, got)
		}
	}
	for range 1000 {
		if d := FullJitter(time.Second); d <= 0 || d > time.Second+time.Millisecond {
			t.Fatalf("full jitter: %s", d)
		}
		if d := Shorten(time.Second); d < 900*time.Millisecond || d > time.Second {
			t.Fatalf("shortened: %s", d)
		}
		if d := Lengthen(time.Second); d < time.Second || d > 1500*time.Millisecond {
			t.Fatalf("lengthened: %s", d)
		}
	}
}
