package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
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

// side is what came of one side of a duel: medians, and the server's CPU for an answer.
type side struct {
	rate     float64
	p99, cpu time.Duration
}

// duel lets both do the same in turn, and gives what came of it.
func (b *bench) duel(ctx context.Context, s *sides, do string, h hammering, file string, f *fleet) (ours, theirs side, err error) {
	var all, bareAll []round
	for n := range b.rounds + 1 {
		if ctx.Err() != nil {
			return ours, theirs, ctx.Err()
		}
		profile := ""
		if n == b.rounds {
			profile = b.profileOf(file)
		}
		var r round
		err := f.profiled(profile, func() (err error) { r, err = hammer(s.ours, f.cmd.Process.Pid, do, h); return err })
		if err != nil {
			return ours, theirs, err
		}
		t, err := hammer(s.theirs, s.bare.cmd.Process.Pid, do, h)
		if err != nil {
			return ours, theirs, err
		}
		if n > 0 { // the first warms up
			all, bareAll = append(all, r), append(bareAll, t)
		}
	}
	return medians(all), medians(bareAll), nil
}

// round is one side's turn.
type round struct {
	swarm.Measured
	cpu time.Duration // of the server, an answer
}

func hammer(l *child, server int, do string, h hammering) (r round, err error) {
	before, err := usageOf(server)
	if err == nil {
		err = l.do(do, h, &r.Measured)
	}
	if err != nil {
		return r, err
	}
	after, err := usageOf(server)
	r.cpu = (after.cpu - before.cpu) / time.Duration(r.Answered)
	return r, err
}

func medians(all []round) side {
	var rates []float64
	var p99, cpu []time.Duration
	for _, r := range all {
		rates, p99, cpu = append(rates, r.Rate()), append(p99, r.P99), append(cpu, r.cpu)
	}
	return side{figures.Median(rates), figures.Median(p99), figures.Median(cpu)}
}

// beside are figures that a duel's rows are read beside.
func (s side) beside(bare side) figures.Row {
	return figures.Beside("  server CPU an answer; answers' p99", figures.Time(s.cpu)+"; "+figures.Time(s.p99), "bare "+figures.Time(bare.cpu)+"; "+figures.Time(bare.p99))
}

// profileOf names a group's profile; empty: none is written.
func (b *bench) profileOf(group string) string {
	if b.profile == "" {
		return ""
	}
	return filepath.Join(b.profile, group+".pprof")
}

// storeReads is the metric of queries to the database.
const storeReads = "sluice_store_reads_total"

// polls asks what is desired, again and again, where nothing is new.
func (b *bench) polls(ctx context.Context) ([]figures.Row, error) {
	f, err := b.shared(ctx)
	if err != nil {
		return nil, err
	}
	s, err := b.sides(ctx, f)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	rest, before, ok, err := restingReads(ctx, f)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	h := hammering{AtOnce: atOnce, Lasts: b.lasts, Status: 304}
	ours, theirs, err := b.duel(ctx, s, "polls", h, "polls", f)
	if err != nil {
		return nil, err
	}
	after, _, err := f.metric(ctx, storeReads)
	if err != nil {
		return nil, err
	}
	own := rest * time.Since(begun).Seconds() // what it reads by itself, now and then
	reads := figures.Row{
		What: "  database reads for them, counted by " + storeReads, Got: fmt.Sprintf("%.0f", max(0, math.Floor(after-before-own-2))),
		Base: fmt.Sprintf("%.0f in all, %.1f a second at rest; limit 0", after-before, rest), Limit: 0,
	}
	if reads.Ratio = max(0, math.Floor(after-before-own-2)); !ok {
		reads.Got, reads.Ratio = "not counted", 1
	}
	return []figures.Row{
		figures.AtLeast(fmt.Sprintf("idle polls, mutual TLS, %d at once over %d connections", atOnce, f.n), ours.rate, "bare 304", theirs.rate, 0.8),
		ours.beside(theirs), reads,
	}, nil
}

// restingReads gives how often a second the database is read while nobody asks anything, and the reads so far.
func restingReads(ctx context.Context, f *fleet) (rest, reads float64, ok bool, err error) {
	const looks = 5 * time.Second
	before, _, err := f.metric(ctx, storeReads)
	if err != nil {
		return 0, 0, false, err
	}
	pause(ctx, looks)
	reads, ok, err = f.metric(ctx, storeReads)
	return (reads - before) / looks.Seconds(), reads, ok, err
}

// reports lets cells say that they are as well as before, on both databases.
func (b *bench) reports(ctx context.Context) ([]figures.Row, error) {
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
	if f, err = b.settle(ctx, b.cells, database); err != nil {
		return nil, fmt.Errorf("on PostgreSQL: %w", err)
	}
	defer f.stop()
	more, err := b.reportsTo(ctx, f, "PostgreSQL (fsync on)", "reports-postgres")
	return append(rows, more...), err
}

func (b *bench) reportsTo(ctx context.Context, f *fleet, database, file string) ([]figures.Row, error) {
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
	ours, theirs, err := b.duel(ctx, s, "reports", h, file, f)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.AtLeast(fmt.Sprintf("reports durable on %s, %d at once", database, atOnce), ours.rate, "bare decode", theirs.rate, 0.5),
		figures.Within("  acknowledged, p99", ours.p99, 20*time.Millisecond),
		ours.beside(theirs),
	}, nil
}
