package main

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
)

// rounds is how often each side is measured.
const rounds = 7

// cost is the cost of one run.
type cost struct {
	time   time.Duration
	allocs int64
}

// compareCosts measures sides alternately, so that other load on the machine affects all of them, and returns each
// side's median.
func compareCosts(ctx context.Context, sides ...func()) ([]cost, error) {
	times := make([][]time.Duration, len(sides))
	costs := make([]cost, len(sides))
	for range rounds {
		for i, side := range sides {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			r := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					side()
				}
			})
			times[i] = append(times[i], time.Duration(r.NsPerOp()))
			costs[i].allocs = r.AllocsPerOp()
		}
	}
	for i := range costs {
		costs[i].time = figures.Median(times[i])
	}
	return costs, nil
}
