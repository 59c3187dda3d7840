package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	pgstore "github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/postgres"
)

// measureDisk times fdatasync, for which every durable write waits.
func (b *bench) measureDisk(ctx context.Context) ([]figures.Row, error) {
	f, err := os.Create(filepath.Join(b.dir, "fsync"))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // temporary
	block := make([]byte, 4096)
	var all []time.Duration
	for i := range 300 {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, err := f.WriteAt(block, int64(i%64)*4096); err != nil {
			return nil, err
		}
		begun := time.Now()
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		all = append(all, time.Since(begun))
	}
	slices.Sort(all)
	return []figures.Row{figures.NoteRow("the disk: fdatasync of 4 KiB, p50, p99", figures.Time(figures.Median(all))+
		", "+figures.Time(figures.Quantile(all, 0.99)), "read what is durable beside it")}, nil
}

// startPostgres starts a PostgreSQL server with an empty database.
func (b *bench) startPostgres(ctx context.Context) (database string, stop func(), err error) {
	s, err := postgres.Launch(ctx, postgres.Options{})
	if err != nil {
		return "", nil, err
	}
	stop = func() { _ = s.Close() } // the folder is temporary
	if database, err = postgres.Create(ctx, s.URL("postgres")); err != nil {
		stop()
	}
	return database, stop, err
}

// measureStores measures both stores without a server in front: reports of ten thousand cells, 64 and 1,024 at once.
func (b *bench) measureStores(ctx context.Context) ([]figures.Row, error) {
	database, stop, err := b.startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	var rows []figures.Row
	for _, s := range []struct {
		name string
		open func() (reportStore, error)
	}{{"SQLite", b.sqliteOpener(ctx, "store")},
		{"PostgreSQL", func() (reportStore, error) { return pgstore.Open(ctx, database, pgstore.Options{}) }}} {
		k, err := s.open()
		if err != nil {
			return nil, err
		}
		few, err := b.hammerStore(ctx, k, b.reportCells, concurrency)
		if err == nil {
			var many float64
			if many, err = b.hammerStore(ctx, k, b.reportCells, 1024); err == nil {
				rows = append(rows, figures.NoteRow("the store alone, "+s.name+": reports kept, 64 and 1,024 at once",
					figures.Rate(few), figures.Rate(many)))
			}
		}
		if err = errors.Join(err, k.Close()); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func (b *bench) sqliteOpener(ctx context.Context, name string) func() (reportStore, error) {
	return func() (reportStore, error) { return store.Open(ctx, filepath.Join(b.dir, name+".db"), zerolog.Nop()) }
}

// reportStore is the part of a store that takes reports.
type reportStore interface {
	engine.Reports
	Cells(ctx context.Context, names ...string) (map[string]*plan.CellState, error)
	Close() error
}

// hammerStore records reports of n cells, atOnce at any time, each cell in its turn, and returns reports a second.
func (b *bench) hammerStore(ctx context.Context, k reportStore, n, atOnce int) (float64, error) {
	known, err := k.Cells(ctx)
	if err != nil {
		return 0, err
	}
	states := make([]*plan.CellState, n)
	for i, at := range rand.Perm(n) { // neighbours would flatter the database
		name := fmt.Sprintf("cell-%06d", at)
		if states[i] = known[name]; states[i] == nil {
			states[i] = healthyState(name, time.Now())
		}
	}
	var over atomic.Bool
	t := time.AfterFunc(b.roundLength, func() { over.Store(true) })
	defer t.Stop()
	var kept atomic.Int64
	var g errgroup.Group
	begun := time.Now()
	atOnce = min(atOnce, n)
	for w := range atOnce {
		g.Go(func() error {
			for i := w; !over.Load(); i += atOnce {
				if i >= n {
					i = w
				}
				next := *states[i]
				next.Version++
				next.LastReport = time.Now()
				if err := k.RecordReports(ctx, []plan.Reported{{State: &next, Boot: "b"}}); err != nil {
					over.Store(true)
					return err
				}
				states[i] = &next
				kept.Add(1)
			}
			return nil
		})
	}
	err = g.Wait()
	return float64(kept.Load()) / time.Since(begun).Seconds(), err
}

// healthyState returns the state of a healthy cell.
func healthyState(name string, now time.Time) *plan.CellState {
	a := &cells.Assignment{Channel: channelName, Epoch: 1, Sequence: 1, Release: firstRelease,
		Digest: releases.DigestBytes([]byte(firstRelease))}
	return &plan.CellState{
		Name: name, Channel: channelName, Epoch: 1, Sequence: 1, Release: firstRelease, Digest: a.Digest,
		State:   cells.StateHealthy,
		Running: a, Granted: a, Soaked: time.Hour, HealthySince: now.Add(-time.Hour), LastReport: now, Taken: a.Key(),
	}
}
