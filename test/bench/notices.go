package main

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"testing/fstest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/notifier"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/test/figures"
)

const (
	noticeRounds = 12  // with notices and without, in turn
	noticePlans  = 100 // in a round
)

// measureNotices measures what notices cost the engine's loop: plans of 10,000 cells in a rollout, of which more and
// more fail, with a notifier beside it and without.
func measureNotices(ctx context.Context, dir string) ([]figures.Row, error) {
	url, err := repositoryWithHeads(ctx, dir)
	if err != nil {
		return nil, err
	}
	repo, err := gitrepo.Open(ctx, url, gitrepo.Options{Mirror: url + ".mirror"})
	if err != nil {
		return nil, err
	}
	defer repo.Close() //nolint:errcheck // read only
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	loader := engine.Loader{Repo: repo}
	d, err := loader.Load(ctx, tip)
	if err != nil {
		return nil, err
	}
	kept, err := store.Open(ctx, filepath.Join(dir, "notices.db"), zerolog.Nop())
	if err != nil {
		return nil, err
	}
	defer kept.Close() //nolint:errcheck // thrown away
	times := map[bool][]time.Duration{}
	posted := 0
	for round := range 2 * noticeRounds {
		told := round%2 == 0
		p := &planned{changed: make(chan struct{})}
		end := func() {}
		if told {
			n, err := notifier.New(notifier.Options{Engine: p, Files: noticeFiles(), Outbox: kept,
				Records: kept.Records(), Posted: func() { posted++ }, Log: zerolog.Nop(), Gap: 50 * time.Millisecond})
			if err != nil {
				return nil, err
			}
			running, stop := context.WithCancel(ctx)
			var done sync.WaitGroup
			done.Go(func() { _ = n.Run(running) })
			end = func() { stop(); done.Wait() }
		}
		took := p.rollOut(d, noticePlans)
		end()
		times[told] = append(times[told], took)
	}
	return []figures.Row{
		figures.TimeRow("a plan of a rollout of 10,000 cells, with notices", figures.Median(times[true]), "without",
			figures.Median(times[false]), 1.1),
		figures.NoteRow("the same: looks that posted something, in all rounds", fmt.Sprint(posted), ""),
	}, nil
}

// planned is an engine as the notifier sees it.
type planned struct {
	mu      sync.Mutex // guards the fields below
	view    *view.View
	changed chan struct{}
}

func (p *planned) View() *view.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

func (p *planned) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *planned) Leads() bool    { return true }
func (p *planned) Now() time.Time { return time.Now() }

func (p *planned) publish(v *view.View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.view, p.changed = v, make(chan struct{})
}

// rollOut makes plans while cells report, each twentieth of them that it failed, and returns a plan's median time.
func (p *planned) rollOut(d *plan.Desired, plans int) time.Duration {
	o := observedHeads(d)
	var names []string
	for name := range o.Cells {
		names = append(names, name)
	}
	slices.Sort(names)
	took := make([]time.Duration, 0, plans)
	for n := range plans {
		next := &plan.Observed{Cells: make(map[string]*plan.CellState, len(o.Cells))}
		for i, name := range names {
			s := *o.Cells[name]
			if s.LastReport = time.Now(); i%plans <= n && i%20 == 0 {
				s.State = cells.StateUnhealthy
			}
			next.Cells[name] = &s
		}
		begin := time.Now()
		made := plan.Make(d, next, begin)
		took = append(took, time.Since(begin))
		p.publish(&view.View{Desired: d, Observed: next, Plan: made})
	}
	return figures.Median(took)
}

// noticeFiles has a notices.yaml that sends everything to one sink.
func noticeFiles() commits {
	return commits{"notices.yaml": {Data: []byte("apiVersion: sluice/v1\nkind: Notices\n" +
		"sinks: {hook: {type: webhook, url: \"https://hooks.example.com/x\", secret: hook}}\nsubscribe: [{sink: hook}]\n")}}
}

type commits fstest.MapFS

// FS returns the files, whatever the commit.
func (c commits) FS(string) (fs.FS, error) { return fstest.MapFS(c), nil }
