package main

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
)

// rounds of each side of a duel.
const rounds = 7

// cost is what one run of something takes.
type cost struct {
	time   time.Duration
	allocs int64
}

// compareCosts measures things in turn, so that what else the machine does falls on all of them, and gives each one's median.
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
