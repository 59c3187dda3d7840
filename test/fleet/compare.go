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

const concurrency = 64

// loadPair is two loads of the same cells: one on the control plane, one on the bare server.
type loadPair struct {
	ours, theirs *child // loads
	bare         *child
}

// connectPair connects all cells to both servers.
func (b *bench) connectPair(ctx context.Context, f *fleet) (s *loadPair, err error) {
	s = &loadPair{}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	var at bareAddresses
	if s.bare, at, err = b.startBare(ctx); err != nil {
		return s, err
	}
	if s.ours, err = b.startLoad(ctx, f.controlPlane(), f.n); err != nil {
		return s, err
	}
	if s.theirs, err = b.startLoad(ctx, at.controlPlane(at.HTTP), f.n); err != nil {
		return s, err
	}
	if err = s.ours.call("connect", f.n, nil); err != nil {
		return s, err
	}
	return s, s.theirs.call("connect", f.n, nil)
}

func (s *loadPair) stop() {
	for _, c := range []*child{s.ours, s.theirs, s.bare} {
		c.stop()
	}
}

// sideMedians are the results of one side of a comparison: medians, and the server's CPU for one response.
type sideMedians struct {
	rate     float64
	p99, cpu time.Duration
}

// comparePair lets both loads do the same in turn, and returns the results.
func (b *bench) comparePair(ctx context.Context, s *loadPair, do string, h hammerOptions, file string, f *fleet) (ours,
	theirs sideMedians, err error) {
	var all, bareAll []roundResult
	for n := range b.rounds + 1 {
		if ctx.Err() != nil {
			return ours, theirs, ctx.Err()
		}
		profile := ""
		if n == b.rounds {
			profile = profilePath(b.profile, file)
		}
		var r roundResult
		err := f.withProfile(profile, func() (err error) {
			r, err = runRound(s.ours, f.cmd.Process.Pid, do, h)
			return err
		})
		if err != nil {
			return ours, theirs, err
		}
		t, err := runRound(s.theirs, s.bare.cmd.Process.Pid, do, h)
		if err != nil {
			return ours, theirs, err
		}
		if n > 0 { // the first warms up
			all, bareAll = append(all, r), append(bareAll, t)
		}
	}
	return mediansOf(all), mediansOf(bareAll), nil
}

type roundResult struct {
	swarm.Measurement
	cpu time.Duration // of the server, for one response
}

func runRound(l *child, server int, do string, h hammerOptions) (r roundResult, err error) {
	before, err := readUsage(server)
	if err == nil {
		err = l.call(do, h, &r.Measurement)
	}
	if err != nil {
		return r, err
	}
	after, err := readUsage(server)
	r.cpu = (after.cpu - before.cpu) / time.Duration(r.Answered)
	return r, err
}

func mediansOf(all []roundResult) sideMedians {
	var rates []float64
	var p99, cpu []time.Duration
	for _, r := range all {
		rates, p99, cpu = append(rates, r.Rate()), append(p99, r.P99), append(cpu, r.cpu)
	}
	return sideMedians{figures.Median(rates), figures.Median(p99), figures.Median(cpu)}
}

// contextRow returns the figures that explain a comparison.
func (s sideMedians) contextRow(bare sideMedians) figures.Row {
	return figures.NoteRow("  server CPU an answer; answers' p99", figures.Time(s.cpu)+"; "+figures.Time(s.p99),
		"bare "+figures.Time(bare.cpu)+"; "+figures.Time(bare.p99))
}

// profilePath returns the file for a group's profile; empty: no profile.
func profilePath(folder, group string) string {
	if folder == "" {
		return ""
	}
	return filepath.Join(folder, group+".pprof")
}

// storeReadsMetric counts queries to the database.
const storeReadsMetric = "sluice_store_reads_total"

// measurePolls compares polls while nothing changes.
func (b *bench) measurePolls(ctx context.Context) ([]figures.Row, error) {
	f, err := b.openSharedFleet(ctx)
	if err != nil {
		return nil, err
	}
	s, err := b.connectPair(ctx, f)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	rest, before, ok, err := idleReadRate(ctx, f)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	h := hammerOptions{AtOnce: concurrency, Lasts: b.roundLength, Status: 304}
	ours, theirs, err := b.comparePair(ctx, s, "hammerPolls", h, "polls", f)
	if err != nil {
		return nil, err
	}
	after, _, err := f.sumMetric(ctx, storeReadsMetric)
	if err != nil {
		return nil, err
	}
	own := rest * time.Since(begun).Seconds() // reads that no poll causes
	reads := figures.Row{
		What: "  database reads for them, counted by " + storeReadsMetric,
		Got:  fmt.Sprintf("%.0f", max(0, math.Floor(after-before-own-2))),
		Base: fmt.Sprintf("%.0f in all, %.1f a second at rest; limit 0", after-before, rest), Limit: 0,
	}
	if reads.Ratio = max(0, math.Floor(after-before-own-2)); !ok {
		reads.Got, reads.Ratio = "not counted", 1
	}
	return []figures.Row{
		figures.RateRow(fmt.Sprintf("idle polls, mutual TLS, %d at once over %d connections", concurrency, f.n),
			ours.rate, "bare 304", theirs.rate, 0.9),
		ours.contextRow(theirs), reads,
	}, nil
}

// idleReadRate returns how many times a second the database is read without any request, and the reads so far.
func idleReadRate(ctx context.Context, f *fleet) (perSecond, reads float64, ok bool, err error) {
	const interval = 5 * time.Second
	before, _, err := f.sumMetric(ctx, storeReadsMetric)
	if err != nil {
		return 0, 0, false, err
	}
	sleep(ctx, interval)
	reads, ok, err = f.sumMetric(ctx, storeReadsMetric)
	return (reads - before) / interval.Seconds(), reads, ok, err
}

// measureReports compares reports without news, on both databases.
func (b *bench) measureReports(ctx context.Context) ([]figures.Row, error) {
	f, err := b.openSharedFleet(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := b.measureReportsOn(ctx, f, "SQLite (FULL)", "reports-sqlite")
	if err != nil {
		return nil, err
	}
	database, stop, err := b.startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if f, err = b.prepareFleet(ctx, b.reportCells, database); err != nil {
		return nil, fmt.Errorf("on PostgreSQL: %w", err)
	}
	defer f.stop()
	more, err := b.measureReportsOn(ctx, f, "PostgreSQL (fsync on)", "reports-postgres")
	return append(rows, more...), err
}

func (b *bench) measureReportsOn(ctx context.Context, f *fleet, database, file string) ([]figures.Row, error) {
	s, err := b.connectPair(ctx, f)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	running, err := firstAssignment(s.ours)
	if err != nil {
		return nil, err
	}
	h := hammerOptions{AtOnce: concurrency, Lasts: b.roundLength, Like: running, Events: f.snapshots[0].Confirmed}
	ours, theirs, err := b.comparePair(ctx, s, "hammerReports", h, file, f)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.RateRow(fmt.Sprintf("reports durable on %s, %d at once", database, concurrency), ours.rate,
			"bare decode", theirs.rate, 0.7),
		figures.TimeRow("  acknowledged, p99", ours.p99, "bare", theirs.p99, 2),
		ours.contextRow(theirs),
	}, nil
}
