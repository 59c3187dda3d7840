package controlplane

import (
	"math"
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	rate := Rate{PerSecond: 2, Burst: 3}
	var b bucket
	for i, c := range []struct {
		at    time.Duration
		ok    bool
		after time.Duration
	}{
		{0, true, 0}, {0, true, 0}, {0, true, 0}, // three at once
		{0, false, 500 * time.Millisecond},
		{400 * time.Millisecond, false, 100 * time.Millisecond},
		{500 * time.Millisecond, true, 0},
		{500 * time.Millisecond, false, 500 * time.Millisecond},
		{time.Minute, true, 0}, {time.Minute, true, 0}, {time.Minute, true, 0}, // never more at once, however long it was quiet
		{time.Minute, false, 500 * time.Millisecond},
	} {
		if after, ok := b.take(rate, c.at); ok != c.ok || after != c.after {
			t.Errorf("%d, at %s: %v after %s, not %v after %s", i, c.at, ok, after, c.ok, c.after)
		}
	}
	var free bucket
	for range 1000 {
		if _, ok := free.take(Rate{PerSecond: -1}, 0); !ok {
			t.Fatal("no limit, and turned away")
		}
	}
}

// Ten thousand cells that ask at one instant ask at ten thousand different ones from then on, and each once a period.
func TestSlotsSpread(t *testing.T) {
	t.Parallel()
	const n, period = 10_000, 15 * time.Second
	var a [15]int
	for i := range n {
		hash := hashName(string(rune('a'+i%26)) + "cell" + time.Duration(i).String())
		now := 1000 * time.Second
		for range 4 {
			wait := time.Duration(nextSlot(hash, now, period)) * time.Second
			if wait < period/2 || wait > period*3/2+time.Second {
				t.Fatalf("told to ask again in %s", wait)
			}
			now += wait
			if next := nextSlot(hash, now, period); next != int(period/time.Second) && next != int(period/time.Second)+1 && next != int(period/time.Second)-1 {
				t.Fatalf("on its slot, and told to ask again in %d s", next)
			}
		}
		a[now%period/time.Second]++
	}
	for second, got := range a {
		if want := n / 15.; math.Abs(float64(got)-want) > want/3 {
			t.Errorf("%d cells ask in second %d, not about %.0f", got, second, want)
		}
	}
	if got := nextSlot(0, 0, 100*time.Millisecond); got != 1 {
		t.Errorf("a period below a second: %d", got)
	}
}

func TestLimitsDefaults(t *testing.T) {
	t.Parallel()
	l := Limits{Polls: Rate{PerSecond: -1}, Downloads: -1}.withDefaults()
	if l.Polls.PerSecond != -1 || l.Downloads != -1 || l.Reports.PerSecond <= 0 || l.InFlight <= 0 || l.Handshakes <= 0 || l.Backlog <= 0 || l.Events <= 0 {
		t.Errorf("%+v", l)
	}
}
