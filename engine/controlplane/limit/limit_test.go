package limit

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	rate := Rate{PerSecond: 2, Burst: 3}
	var b Bucket
	for i, c := range []struct {
		at    time.Duration
		ok    bool
		after time.Duration
	}{
		{0, true, 0}, {0, true, 0}, {0, true, 0}, // the burst
		{0, false, 500 * time.Millisecond},
		{400 * time.Millisecond, false, 100 * time.Millisecond},
		{500 * time.Millisecond, true, 0},
		{500 * time.Millisecond, false, 500 * time.Millisecond},
		// never more than the burst, after any pause
		{time.Minute, true, 0}, {time.Minute, true, 0}, {time.Minute, true, 0},
		{time.Minute, false, 500 * time.Millisecond},
	} {
		if after, ok := b.Allow(rate, c.at); ok != c.ok || after != c.after {
			t.Errorf("%d, at %s: %v after %s, not %v after %s", i, c.at, ok, after, c.ok, c.after)
		}
	}
	var free Bucket
	for range 1000 {
		if _, ok := free.Allow(Rate{PerSecond: -1}, 0); !ok {
			t.Fatal("no limit, and turned away")
		}
	}
}

// Take never refuses: who takes more than there is, waits for it.
func TestTake(t *testing.T) {
	t.Parallel()
	rate := Rate{PerSecond: 100, Burst: 200}
	var b Bucket
	for i, c := range []struct {
		at   time.Duration
		n    int64
		wait time.Duration
	}{
		{0, 200, 0}, {0, 100, time.Second}, {0, 0, 0},
		{time.Second, 50, 500 * time.Millisecond},
		{time.Minute, 200, 0}, {time.Minute, 1, 10 * time.Millisecond},
		{time.Hour, 1200, 10 * time.Second}, // more than the burst at once
	} {
		if wait := b.Take(rate, c.n, c.at); wait != c.wait {
			t.Errorf("%d, %d at %s: wait %s, not %s", i, c.n, c.at, wait, c.wait)
		}
	}
	if wait := new(Bucket).Take(Rate{PerSecond: -1}, 1<<40, 0); wait != 0 {
		t.Errorf("no limit, and %s to wait", wait)
	}
}
