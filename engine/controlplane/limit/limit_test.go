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
