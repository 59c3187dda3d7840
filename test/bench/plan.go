package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/test/biggit"
	"github.com/sluice-cd/sluice/test/figures"
)

// measurePlan measures a snapshot and a plan of 100 channels, 10,000 cells and 2,000 releases.
func measurePlan(ctx context.Context, dir string) ([]figures.Row, error) {
	url, err := repositoryWithHeads(ctx, dir)
	if err != nil {
		return nil, err
	}
	var d *plan.Desired
	loadAndPlan := func(cacheFile string) error {
		repo, err := gitrepo.Open(ctx, url, gitrepo.Options{Mirror: url + ".mirror"})
		if err != nil {
			return err
		}
		defer repo.Close() //nolint:errcheck // read only
		tip, err := repo.Fetch(ctx)
		if err != nil {
			return err
		}
		loader := engine.Loader{Repo: repo, CacheFile: cacheFile}
		if d, err = loader.Load(ctx, tip); err != nil {
			return err
		}
		plan.Make(d, &plan.Observed{}, time.Now())
		return nil
	}
	if err := loadAndPlan(""); err != nil { // clones
		return nil, err
	}
	first, err := figures.TimeRuns(7, func(int) error { return loadAndPlan("") })
	if err != nil {
		return nil, err
	}
	if err := loadAndPlan(url + ".keep"); err != nil {
		return nil, err
	}
	cold, err := figures.TimeRuns(7, func(int) error { return loadAndPlan(url + ".keep") })
	if err != nil {
		return nil, err
	}
	// The baseline: the git command prints the contents of the same files.
	cat, err := figures.TimeRuns(5, func(int) error { return catFiles(ctx, url) })
	if err != nil {
		return nil, err
	}
	again := newReplanner(d)
	warm, err := again.timeReports(10) // cells report every 10 s, and a plan is made each second
	if err != nil {
		return nil, err
	}
	one, err := again.timeReports(len(d.Cells))
	if err != nil {
		return nil, err
	}
	whole, err := figures.TimeRuns(10, func(int) error {
		plan.Make(d, again.observed, time.Now())
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows := []figures.Row{
		figures.TimeRow("snapshot and plan, cold: a new process on its data folder", figures.Median(cold),
			"git cat-file", figures.Median(cat), 0.5),
		figures.TimeRow("snapshot and plan, cold: the first process ever", figures.Median(first), "git cat-file",
			figures.Median(cat), 2),
		figures.TimeRow("snapshot and plan when a tenth of the cells reported", figures.Median(warm),
			"a plan that remembers nothing", figures.Median(whole), 0.5),
		figures.TimeRow("snapshot and plan when one report of 10,000 changed", figures.Median(one),
			"a plan that remembers nothing", figures.Median(whole), 0.5),
	}
	return append(rows, growthExponent(d), planGrowth(d)), nil
}

// replanner makes one plan after the other, as an engine does.
type replanner struct {
	desired  *plan.Desired
	observed *plan.Observed
	memory   plan.Memory
	names    []string // of the cells
}

func newReplanner(d *plan.Desired) *replanner {
	r := &replanner{desired: d, observed: observedHeads(d)}
	r.names = slices.Sorted(maps.Keys(r.observed.Cells))
	for range 2 { // what the first plan learns counts in the second
		p := r.memory.Make(d, r.observed, time.Now())
		plan.Carry(r.observed, &p)
	}
	return r
}

// report takes a snapshot after reports of one cell of so many, which are others for another i.
func (r *replanner) report(i, oneOf int) {
	o := r.observed
	o.Cells, o.Replaced = maps.Clone(o.Cells), []string{}
	for n := i % oneOf; n < len(r.names); n += oneOf {
		s := *o.Cells[r.names[n]]
		s.LastReport = time.Now()
		o.SetCell(s.Name, &s)
	}
}

func (r *replanner) plan() { r.memory.Make(r.desired, r.observed, time.Now()) }

// timeReports measures snapshots and plans, each after reports of one cell of so many.
func (r *replanner) timeReports(oneOf int) ([]time.Duration, error) {
	return figures.TimeRuns(30, func(i int) error {
		r.report(i, oneOf)
		r.plan()
		return nil
	})
}

// planGrowth measures what a plan costs for each cell, with 1,000 and 100,000 cells in 100 channels of which a tenth
// reported.
func planGrowth(d *plan.Desired) figures.Row {
	cost := map[int]time.Duration{} // for a thousand cells
	for _, n := range []int{1_000, 100_000} {
		r, all := newReplanner(withCells(d, n)), make([]time.Duration, 20)
		for i := range all {
			r.report(i, 10)
			begin := time.Now()
			r.plan()
			all[i] = time.Since(begin)
		}
		slices.Sort(all)
		cost[n] = figures.Median(all) * 1_000 / time.Duration(n)
	}
	return figures.Row{
		What: "a plan after reports of a tenth of the cells, for each thousand cells: 100k beside 1k",
		Got:  figures.Time(cost[100_000]), Base: figures.Time(cost[1_000]),
		Ratio: float64(cost[100_000]) / float64(cost[1_000]), Limit: 1.3,
	}
}

// repositoryWithHeads makes a large repository whose heads an engine wrote.
func repositoryWithHeads(ctx context.Context, dir string) (string, error) {
	url, err := copyRepository(ctx, dir, biggit.Fleet)
	if err != nil {
		return "", err
	}
	repo, err := gitrepo.Open(ctx, url, gitrepo.Options{Mirror: url + ".mirror"})
	if err != nil {
		return "", err
	}
	defer repo.Close() //nolint:errcheck // the push is done
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return "", err
	}
	loader := engine.Loader{Repo: repo}
	d, err := loader.Load(ctx, tip)
	if err != nil {
		return "", err
	}
	p := plan.Plan{Commit: tip, Now: time.Now().Add(-72 * time.Hour)}
	for i, name := range d.Order {
		r := d.Versions[len(d.Versions)-1-i%3]
		p.Actions = append(p.Actions, plan.Action{Kind: plan.Promote, Channel: name, Release: r.Version.String(),
			Digest: r.Digest, Sequence: 1})
	}
	chain, _, err := plan.Drafts(d, p, nil)
	if err != nil {
		return "", err
	}
	if _, err := repo.Push(ctx, tip, chain); err != nil {
		return "", err
	}
	pack := exec.CommandContext(ctx, "git", "repack", "-a", "-d", "-q")
	pack.Dir = url
	if out, err := pack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("git repack: %w: %s", err, out)
	}
	// Without the mirror the next open clones the repository, packed.
	return url, os.RemoveAll(url + ".mirror")
}

func catFiles(ctx context.Context, url string) error {
	script := `git ls-tree -r main -- cells releases | grep -E '(cell|release)\.yaml$' | cut -d' ' -f3 | cut -f1 |
		git cat-file --batch >/dev/null`
	c := exec.CommandContext(ctx, "sh", "-c", script)
	c.Dir = url
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// observedHeads returns reports by which every cell runs its channel's head.
func observedHeads(d *plan.Desired) *plan.Observed {
	o := &plan.Observed{Cells: map[string]*plan.CellState{}}
	now := time.Now()
	for name, cell := range d.Cells {
		c := d.Channels[cell.Channel]
		if c == nil || c.Effective == nil {
			continue
		}
		a := plan.Assign(d, cell, c.Effective, nil)
		o.Cells[name] = &plan.CellState{
			Name: name, Channel: a.Channel, Sequence: a.Sequence, Release: a.Release, Digest: a.Digest,
			State:   cells.StateHealthy,
			Running: &a, Granted: &a, Soaked: 23 * time.Hour, HealthySince: now.Add(-23 * time.Hour), LastReport: now,
		}
	}
	return o
}

// growthExponent fits time = a · cells^b over 1,000, 10,000 and 100,000 cells in 100 channels.
func growthExponent(d *plan.Desired) figures.Row {
	var xs, ys []float64
	for _, n := range []int{1_000, 10_000, 100_000} {
		e := withCells(d, n)
		o := observedHeads(e)
		all, err := figures.TimeRuns(max(5, 200_000/n), func(int) error { plan.Make(e, o, time.Now()); return nil })
		if err != nil {
			continue
		}
		xs, ys = append(xs, math.Log(float64(n))), append(ys, math.Log(float64(figures.Median(all))))
	}
	b := (ys[2] - ys[0]) / (xs[2] - xs[0])
	return figures.Row{
		What: "exponent of a plan's time in cells: 1k, 10k, 100k", Got: fmt.Sprintf("%.2f", b),
		Base: fmt.Sprintf("%s, %s, %s", figures.Time(expDuration(ys[0])), figures.Time(expDuration(ys[1])),
			figures.Time(expDuration(ys[2]))), Ratio: b, Limit: 1.2,
	}
}

func expDuration(y float64) time.Duration { return time.Duration(math.Exp(y)) }

// withCells returns a copy of d with n cells, spread over its channels.
func withCells(d *plan.Desired, n int) *plan.Desired {
	e := *d
	e.Cells, e.Channels = map[string]*plan.Cell{}, map[string]*plan.Channel{}
	for name, c := range d.Channels {
		clone := *c
		clone.Cells = nil
		e.Channels[name] = &clone
	}
	for i := range n {
		cell := &plan.Cell{Cell: cells.Cell{Name: fmt.Sprintf("cell-%06d", i), Channel: d.Order[i%len(d.Order)]}}
		e.Cells[cell.Name] = cell
		c := e.Channels[cell.Channel]
		c.Cells = append(c.Cells, cell)
	}
	return &e
}
