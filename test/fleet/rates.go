package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/test/swarm"
)

// atOnce is how many questions are under way at any time.
const atOnce = 64

// sides are two loads of the same cells, one on the control plane and one on the bare server.
type sides struct {
	ours, theirs *child // loads
	bare         *child
}

// sides connects all cells to both.
func (b *bench) sides(ctx context.Context, f *fleet) (s *sides, err error) {
	s = &sides{}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	var at bareAt
	if s.bare, at, err = b.bareServer(ctx); err != nil {
		return s, err
	}
	if s.ours, err = b.load(ctx, f.plane(), f.n); err != nil {
		return s, err
	}
	if s.theirs, err = b.load(ctx, at.plane(at.HTTP), f.n); err != nil {
		return s, err
	}
	if err = s.ours.do("connect", f.n, nil); err != nil {
		return s, err
	}
	return s, s.theirs.do("connect", f.n, nil)
}

func (s *sides) stop() {
	for _, c := range []*child{s.ours, s.theirs, s.bare} {
		c.stop()
	}
}

// duel lets both do the same in turn, and gives the medians of what came of it.
func (b *bench) duel(s *sides, do string, h, bare hammering, file string, f *fleet) (ours, theirs swarm.Measured, err error) {
	var rates, bareRates []float64
	var p99, bareP99 []time.Duration
	for round := range b.rounds + 1 {
		measure := func() error { return s.ours.do(do, h, &ours) }
		if round == 0 {
			err = measure()
		} else {
			err = f.profiled(b.profileOf(file, round), measure)
		}
		if err == nil {
			err = s.theirs.do(do, bare, &theirs)
		}
		if err != nil {
			return ours, theirs, err
		}
		if round == 0 {
			continue // to warm up
		}
		rates, bareRates = append(rates, ours.Rate()), append(bareRates, theirs.Rate())
		p99, bareP99 = append(p99, ours.P99), append(bareP99, theirs.P99)
	}
	middle := func(rates []float64, p99 []time.Duration) swarm.Measured {
		return swarm.Measured{Answered: int(median(rates) * 1000), Took: 1000 * time.Second, P99: median(p99)}
	}
	return middle(rates, p99), middle(bareRates, bareP99), nil
}

// profileOf names the profile's file, in the last round; empty: none.
func (b *bench) profileOf(group string, round int) string {
	if b.profile == "" || round != b.rounds {
		return ""
	}
	return filepath.Join(b.profile, group+".pprof")
}

// storeReads is the metric of queries to the database.
const storeReads = "sluice_store_reads_total"

// polls asks what is desired, again and again, where nothing is new.
func (b *bench) polls(ctx context.Context) ([]row, error) {
	f, err := b.shared(ctx)
	if err != nil {
		return nil, err
	}
	s, err := b.sides(ctx, f)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	before, ok, err := f.metric(ctx, storeReads)
	if err != nil {
		return nil, err
	}
	h := hammering{AtOnce: atOnce, Lasts: b.lasts, Status: 304}
	ours, theirs, err := b.duel(s, "polls", h, h, "polls", f)
	if err != nil {
		return nil, err
	}
	after, _, err := f.metric(ctx, storeReads)
	if err != nil {
		return nil, err
	}
	reads := row{what: "database reads meanwhile (" + storeReads + ")", got: fmt.Sprintf("%.0f", after-before), base: "limit 0", ratio: after - before, limit: 0}
	if !ok {
		reads.got, reads.ratio = "not counted", 1
	}
	return []row{
		atLeast(fmt.Sprintf("idle polls, mutual TLS, %d at once over %d connections", atOnce, f.n), ours.Rate(), "bare 304", theirs.Rate(), 0.8),
		beside("  the answers' p99", show(ours.P99), "bare "+show(theirs.P99)),
		reads,
	}, nil
}

// reports lets cells say that they are as well as before, on both databases.
func (b *bench) reports(ctx context.Context) ([]row, error) {
	f, err := b.shared(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := b.reportsTo(ctx, f, "SQLite (FULL)", "reports-sqlite")
	if err != nil {
		return nil, err
	}
	database, stop, err := b.postgres(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if f, err = b.settle(ctx, cellCount, database); err != nil {
		return nil, errors.Join(fmt.Errorf("on PostgreSQL: %w", err))
	}
	defer f.stop()
	more, err := b.reportsTo(ctx, f, "PostgreSQL (fsync on)", "reports-postgres")
	return append(rows, more...), err
}

func (b *bench) reportsTo(ctx context.Context, f *fleet, database, file string) ([]row, error) {
	s, err := b.sides(ctx, f)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	like, err := assigned(s.ours)
	if err != nil {
		return nil, err
	}
	h := hammering{AtOnce: atOnce, Lasts: b.lasts, Like: like, Events: f.words[0].Confirmed}
	ours, theirs, err := b.duel(s, "reports", h, h, file, f)
	if err != nil {
		return nil, err
	}
	return []row{
		atLeast(fmt.Sprintf("reports durable on %s, %d at once", database, atOnce), ours.Rate(), "bare decode", theirs.Rate(), 0.5),
		within("  acknowledged, p99", ours.P99, 20*time.Millisecond),
	}, nil
}
