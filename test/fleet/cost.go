package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/figures"
)

// flat is how much more a cell may cost among ten thousand than among a thousand. Runs drift by ±12 %.
const flat = 1.25

// cost holds what a cell costs in a large fleet against what it costs in a small one.
func (b *bench) cost(ctx context.Context) ([]figures.Row, error) {
	rows := []figures.Row{plans()}
	kept, err := b.keeping(ctx)
	if err != nil {
		return nil, err
	}
	rows = append(rows, kept)
	small, err := b.costOf(ctx, b.n/10)
	if err != nil {
		return nil, err
	}
	large, err := b.costOf(ctx, b.n)
	if err != nil {
		return nil, err
	}
	per := fmt.Sprintf("%d cells: ", b.n/10)
	bytes := figures.Row{
		What: "memory a connected cell", Got: fmt.Sprintf("%.1f KiB", large.each/1024), Base: per + fmt.Sprintf("%.1f KiB", small.each/1024),
		Ratio: large.each / small.each, Limit: flat,
	}
	return append(rows, bytes,
		figures.AtMost("server CPU to connect a cell and open its stream", large.cpu, per, small.cpu, flat),
		figures.AtMost("told of a new head, p99, a cell", large.told, per, small.told, flat),
	), nil
}

// sizes are those that a cell's cost is compared at.
func sizes() [3]int { return [3]int{1_000, 10_000, 100_000} }

// plans is the planner's, without a server: the best of some runs in turn, for nothing but the machine's other work makes
// one slower than another.
func plans() figures.Row {
	var best [3]time.Duration
	for range 5 {
		for i, n := range sizes() {
			d, o := planned(n)
			for range 3 {
				begun := time.Now()
				plan.Make(d, o, time.Now())
				if each := time.Since(begun) / time.Duration(n); best[i] == 0 || each < best[i] {
					best[i] = each
				}
			}
		}
	}
	return figures.Row{
		What: "a plan's time a cell, among 100,000", Got: fmt.Sprintf("%d ns", best[2]), Base: fmt.Sprintf("1,000: %d ns, 10,000: %d ns", best[0], best[1]),
		Ratio: float64(best[2]) / float64(best[0]), Limit: 1.5,
	}
}

// planned is one channel of n cells in the midst of a rollout in waves.
func planned(n int) (*plan.Desired, *plan.Observed) {
	now := time.Now()
	release := func(version string, sequence int64) (h plan.EffectiveHead) {
		h.Kind, h.Written, h.Moved = plan.Promote, "c"+version, now.Add(-time.Hour)
		h.Release, h.Digest, h.Commit, h.Sequence = version, releases.DigestBytes([]byte(version)), "c"+version, sequence
		return h
	}
	history := []plan.EffectiveHead{release(first, 1), release("1.1.0", 2)}
	policy := &channels.Channel{}
	policy.Rollout.Waves = []channels.Wave{{Percent: 10, Soak: 30 * time.Minute}, {Percent: 100}}
	policy.Rollout.MaxInFlight = 100
	c := &plan.Channel{State: channels.State{Name: channel, Policy: policy}, Valid: policy, Effective: &history[1], History: history}
	d := &plan.Desired{
		Commit: "c", Channels: map[string]*plan.Channel{channel: c}, Order: []string{channel}, Cells: map[string]*plan.Cell{}, Releases: map[string]*plan.Release{},
	}
	d.Pipeline.StaleAfter = 5 * time.Minute
	o := &plan.Observed{Cells: make(map[string]*plan.CellState, n)}
	for i := range n {
		cell := &plan.Cell{Cell: cells.Cell{Name: fmt.Sprintf("cell-%06d", i), Channel: channel}}
		d.Cells[cell.Name] = cell
		c.Cells = append(c.Cells, cell)
		o.Cells[cell.Name] = stateOf(cell.Name, now.Add(-10*time.Second))
	}
	return d, o
}

// keeping is SQLite's: the best of some runs in turn.
func (b *bench) keeping(ctx context.Context) (figures.Row, error) {
	var best [3]time.Duration
	for range 3 {
		for i, n := range sizes() {
			k, err := b.sqlite(ctx, fmt.Sprintf("cost-%d", n))() // the first time makes the rows
			if err != nil {
				return figures.Row{}, err
			}
			rate, err := b.keep(ctx, k, n, 512)
			if err = errors.Join(err, k.Close()); err != nil {
				return figures.Row{}, err
			}
			if each := time.Duration(float64(time.Second) / rate); best[i] == 0 || each < best[i] {
				best[i] = each
			}
		}
	}
	return figures.Row{
		What: "SQLite's time a report, among 100,000 cells", Got: figures.Time(best[2]), Base: fmt.Sprintf("1,000: %s, 10,000: %s", figures.Time(best[0]), figures.Time(best[1])),
		Ratio: float64(best[2]) / float64(best[0]), Limit: 1.5,
	}, nil
}

// costs are one cell's share.
type costs struct {
	connected
	told time.Duration
}

func (b *bench) costOf(ctx context.Context, n int) (c costs, err error) {
	f, err := b.settle(ctx, n, "")
	if err != nil {
		return c, err
	}
	defer f.stop()
	l, m, err := b.listeners(ctx, f, n)
	if err != nil {
		return c, err
	}
	l.stop()
	c.connected = m
	told, _, err := b.fanouts(ctx, n, b.rounds)
	c.told = told.P99 / time.Duration(n)
	return c, err
}
