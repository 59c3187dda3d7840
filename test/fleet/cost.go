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

// maxGrowth is how much more a cell may cost among ten thousand than among a thousand. Runs vary by ±12 %.
const maxGrowth = 1.25

// measureCost compares the cost of a cell in a large fleet with that in a small one.
func (b *bench) measureCost(ctx context.Context) ([]figures.Row, error) {
	rows := []figures.Row{planningRow()}
	storing, err := b.storingRow(ctx)
	if err != nil {
		return nil, err
	}
	rows = append(rows, storing)
	small, err := b.costPerCell(ctx, b.streamCells/10)
	if err != nil {
		return nil, err
	}
	large, err := b.costPerCell(ctx, b.streamCells)
	if err != nil {
		return nil, err
	}
	per := fmt.Sprintf("%d cells: ", b.streamCells/10)
	bytes := figures.Row{
		What: "memory a connected cell", Got: fmt.Sprintf("%.1f KiB", large.memory/1024),
		Base:  per + fmt.Sprintf("%.1f KiB", small.memory/1024),
		Ratio: large.memory / small.memory, Limit: maxGrowth,
	}
	return append(rows, bytes,
		figures.TimeRow("server CPU to connect a cell and open its stream", large.cpu, per, small.cpu, maxGrowth),
		figures.TimeRow("told of a new head, p99, a cell", large.fanout, per, small.fanout, maxGrowth),
	), nil
}

// fleetSizes are the sizes at which the cost of a cell is compared.
func fleetSizes() [3]int { return [3]int{1_000, 10_000, 100_000} }

// planningRow measures the planner without a server: the best of some runs, since only other load makes a run slower.
func planningRow() figures.Row {
	var best [3]time.Duration
	for range 5 {
		for i, n := range fleetSizes() {
			d, o := rolloutInput(n)
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
		What: "a plan's time a cell, among 100,000", Got: fmt.Sprintf("%d ns", best[2]),
		Base:  fmt.Sprintf("1,000: %d ns, 10,000: %d ns", best[0], best[1]),
		Ratio: float64(best[2]) / float64(best[0]), Limit: 1.5,
	}
}

// rolloutInput returns one channel of n cells in the middle of a rollout in waves.
func rolloutInput(n int) (*plan.Desired, *plan.Observed) {
	now := time.Now()
	release := func(version string, sequence int64) (h plan.EffectiveHead) {
		h.Kind, h.Written, h.Moved = plan.Promote, "c"+version, now.Add(-time.Hour)
		h.Release, h.Digest, h.Commit, h.Sequence = version, releases.DigestBytes([]byte(version)), "c"+
			version, sequence
		return h
	}
	history := []plan.EffectiveHead{release(firstRelease, 1), release("1.1.0", 2)}
	policy := &channels.Channel{}
	policy.Rollout.Waves = []channels.Wave{{Percent: 10, Soak: 30 * time.Minute}, {Percent: 100}}
	policy.Rollout.MaxInFlight = 100
	c := &plan.Channel{State: channels.State{Name: channelName, Policy: policy}, Valid: policy, Effective: &history[1],
		History: history}
	d := &plan.Desired{
		Commit: "c", Channels: map[string]*plan.Channel{channelName: c}, Order: []string{channelName},
		Cells: map[string]*plan.Cell{}, Releases: map[string]*plan.Release{},
	}
	d.Pipeline.StaleAfter = 5 * time.Minute
	o := &plan.Observed{Cells: make(map[string]*plan.CellState, n)}
	for i := range n {
		cell := &plan.Cell{Cell: cells.Cell{Name: fmt.Sprintf("cell-%06d", i), Channel: channelName}}
		d.Cells[cell.Name] = cell
		c.Cells = append(c.Cells, cell)
		o.Cells[cell.Name] = healthyState(cell.Name, now.Add(-10*time.Second))
	}
	return d, o
}

// storingRow measures SQLite: the best of some runs.
func (b *bench) storingRow(ctx context.Context) (figures.Row, error) {
	var best [3]time.Duration
	for range 3 {
		for i, n := range fleetSizes() {
			k, err := b.sqliteOpener(ctx, fmt.Sprintf("cost-%d", n))() // the first run makes the rows
			if err != nil {
				return figures.Row{}, err
			}
			rate, err := b.hammerStore(ctx, k, n, 512)
			if err = errors.Join(err, k.Close()); err != nil {
				return figures.Row{}, err
			}
			if each := time.Duration(float64(time.Second) / rate); best[i] == 0 || each < best[i] {
				best[i] = each
			}
		}
	}
	return figures.Row{
		What: "SQLite's time a report, among 100,000 cells", Got: figures.Time(best[2]),
		Base:  fmt.Sprintf("1,000: %s, 10,000: %s", figures.Time(best[0]), figures.Time(best[1])),
		Ratio: float64(best[2]) / float64(best[0]), Limit: 1.5,
	}, nil
}

type cellCost struct {
	connectCost
	fanout time.Duration
}

func (b *bench) costPerCell(ctx context.Context, n int) (c cellCost, err error) {
	f, err := b.prepareFleet(ctx, n, "")
	if err != nil {
		return c, err
	}
	defer f.stop()
	l, m, err := b.connectStreams(ctx, f, n)
	if err != nil {
		return c, err
	}
	l.stop()
	c.connectCost = m
	medians, _, err := b.compareFanouts(ctx, n, b.rounds)
	c.fanout = medians.P99 / time.Duration(n)
	return c, err
}
