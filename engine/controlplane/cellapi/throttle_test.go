package cellapi

import (
	"math"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/limit"
)

// Ten thousand cells that poll at one instant are spread over the interval from then on, each polling once an interval.
func TestPollsAreSpread(t *testing.T) {
	t.Parallel()
	const n, period = 10_000, 15 * time.Second
	var a [15]int
	for i := range n {
		hash := hashName(string(rune('a'+i%26)) + "cell" + time.Duration(i).String())
		now := 1000 * time.Second
		for range 4 {
			wait := time.Duration(nextPollSeconds(hash, now, period)) * time.Second
			if wait < period/2 || wait > period*3/2+time.Second {
				t.Fatalf("asked to poll again in %s", wait)
			}
			now += wait
			if next := nextPollSeconds(hash, now, period); next != int(period/time.Second) &&
				next != int(period/time.Second)+1 && next != int(period/time.Second)-1 {
				t.Fatalf("at its offset, and asked to poll again in %d s", next)
			}
		}
		a[now%period/time.Second]++
	}
	for second, got := range a {
		if want := n / 15.; math.Abs(float64(got)-want) > want/3 {
			t.Errorf("%d cells ask in second %d, not about %.0f", got, second, want)
		}
	}
	if got := nextPollSeconds(0, 0, 100*time.Millisecond); got != 1 {
		t.Errorf("a period below a second: %d", got)
	}
}

func TestLimitsDefaults(t *testing.T) {
	t.Parallel()
	l := Limits{Polls: limit.Rate{PerSecond: -1}, Downloads: -1}.withDefaults()
	if l.Polls.PerSecond != -1 || l.Downloads != -1 || l.Reports.PerSecond <= 0 || l.InFlight <= 0 {
		t.Errorf("%+v", l)
	}
}
