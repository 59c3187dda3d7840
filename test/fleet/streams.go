package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

// fanoutTimeout bounds the time until an event reaches all cells.
const fanoutTimeout = time.Minute

// measureFanout compares sending a new head to all streams with a bare broadcast to as many.
func (b *bench) measureFanout(ctx context.Context) ([]figures.Row, error) {
	ours, theirs, err := b.compareFanouts(ctx, b.streamCells, 2*b.rounds)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.TimeRow(fmt.Sprintf("one new head told to %d streams, p99", b.streamCells), ours.P99, "bare broadcast",
			theirs.P99, 1.2),
		figures.NoteRow("  p50, and the last", figures.Time(ours.P50)+", "+figures.Time(ours.Last),
			"bare "+figures.Time(theirs.P50)+", "+figures.Time(theirs.Last)),
	}, nil
}

// compareFanouts alternates between the control plane's server, without an engine, and a bare server, each with n
// streams, and returns the medians.
func (b *bench) compareFanouts(ctx context.Context, n, rounds int) (ours, theirs spread, err error) {
	stub, err := startChild(ctx, "stub")
	if err != nil {
		return ours, theirs, err
	}
	defer stub.stop()
	var plane swarm.ControlPlane
	if err := stub.call("listen", stubOptions{N: n, Seed: keySeed}, &plane); err != nil {
		return ours, theirs, err
	}
	bare, at, err := b.startBare(ctx)
	if err != nil {
		return ours, theirs, err
	}
	defer bare.stop()
	listeners := make([]*child, 2)
	for i, to := range []swarm.ControlPlane{plane, at.controlPlane(at.Streams)} {
		if listeners[i], err = b.startLoad(ctx, to, n); err != nil {
			return ours, theirs, err
		}
		defer listeners[i].stop()
		if err := listeners[i].call("followHeads", n, nil); err != nil {
			return ours, theirs, err
		}
	}
	size := 0
	measure := func(l *child, send func(*time.Time) error) (s spread, err error) {
		if err := l.call("forgetArrivals", struct{}{}, nil); err != nil {
			return s, err
		}
		var since time.Time
		if err := send(&since); err != nil {
			return s, err
		}
		return s, l.call("awaitHead", headQuery{Since: since, Wait: fanoutTimeout}, &s)
	}
	var all, bareAll []spread
	for round := range rounds + 1 {
		s, err := measure(listeners[0], func(since *time.Time) error { return stub.call("setHead", round+2, since) })
		if err != nil {
			return ours, theirs, fmt.Errorf("the control plane's: %w", err)
		}
		size = s.Size
		t, err := measure(listeners[1], func(since *time.Time) error { return bare.call("broadcast", size, since) })
		if err != nil {
			return ours, theirs, fmt.Errorf("the bare: %w", err)
		}
		if round > 0 { // the first warms up
			all, bareAll = append(all, s), append(bareAll, t)
		}
	}
	return medianSpread(all), medianSpread(bareAll), nil
}

func medianSpread(all []spread) (m spread) {
	pick := func(of func(spread) time.Duration) time.Duration {
		var ds []time.Duration
		for _, s := range all {
			ds = append(ds, of(s))
		}
		return figures.Median(ds)
	}
	m.First = pick(func(s spread) time.Duration { return s.First })
	m.P50 = pick(func(s spread) time.Duration { return s.P50 })
	m.P99 = pick(func(s spread) time.Duration { return s.P99 })
	m.Last = pick(func(s spread) time.Duration { return s.Last })
	return m
}

// measurePush measures a server with all cells on streams: its memory, and the time from a push until the last cell
// learned of it.
func (b *bench) measurePush(ctx context.Context) ([]figures.Row, error) {
	f, err := b.openSharedFleet(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.setPolicy(ctx, wavesPolicy); err != nil {
		return nil, err
	}
	f.stop() // memory is measured on a new process
	if err := f.start(ctx); err != nil {
		return nil, err
	}
	l, m, err := b.connectStreams(ctx, f, b.streamCells)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	rows := []figures.Row{{
		What:  fmt.Sprintf("server memory for each of %d connected cells, RSS settled", b.streamCells),
		Got:   fmt.Sprintf("%.1f KiB", m.memory/1024),
		Base:  fmt.Sprintf("%.0f MiB before, limit 24 KiB", float64(m.memoryBefore)/(1<<20)),
		Ratio: m.memory / 1024 / 24, Limit: 1,
	}}
	var told []spread
	events := 0
	err = f.withProfile(profilePath(b.profile, "push"), func() error {
		for range b.pushCount {
			s, err := b.timePush(ctx, f, l)
			if err != nil {
				return err
			}
			told, events = append(told, s), events+s.Events
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.stop() // the bare server has the machine for itself, too
	bare, err := b.timeBareBroadcasts(ctx, b.streamCells, told[0].Size)
	if err != nil {
		return nil, err
	}
	typical := medianSpread(told)
	slowest := slices.MaxFunc(told, func(s, t spread) int { return cmp.Compare(s.Last, t.Last) }).Last
	return append(rows,
		figures.TimeRow(fmt.Sprintf("push landed, until the last of %d cells was told, median of %d", b.streamCells,
			b.pushCount), typical.Last, "bare broadcast", bare.Last, 3),
		figures.NoteRow("  p50 of the cells; the slowest push", figures.Time(typical.P50)+"; "+figures.Time(slowest),
			fmt.Sprintf("bare %s; %.2f events a cell and push", figures.Time(bare.P50),
				float64(events)/float64(b.pushCount*b.streamCells))),
	), nil
}

// timePush commits a release and waits until the new head reached all cells.
func (b *bench) timePush(ctx context.Context, f *fleet, l *child) (s spread, err error) {
	if err := l.call("forgetArrivals", struct{}{}, nil); err != nil {
		return s, err
	}
	version, landed, err := f.cutRelease(ctx)
	if err != nil {
		return s, err
	}
	err = l.call("awaitHead", headQuery{Since: landed, Release: version, Wait: fanoutTimeout}, &s)
	sleep(ctx, 300*time.Millisecond) // the server becomes idle again
	return s, err
}

// connectCost is what connecting cells cost a server.
type connectCost struct {
	memoryBefore int64         // bytes
	memory       float64       // bytes a cell
	cpu          time.Duration // of the server, a cell
	took         time.Duration // until all had a stream
}

// connectStreams connects streams of n cells to a server that is otherwise idle.
func (b *bench) connectStreams(ctx context.Context, f *fleet, n int) (l *child, c connectCost, err error) {
	pid := f.cmd.Process.Pid
	if c.memoryBefore, err = settledMemory(ctx, pid); err != nil {
		return nil, c, err
	}
	u, err := readUsage(pid)
	if err != nil {
		return nil, c, err
	}
	if l, err = b.startLoad(ctx, f.controlPlane(), n); err != nil {
		return nil, c, err
	}
	defer func() {
		if err != nil {
			l.stop()
		}
	}()
	if err := l.call("followHeads", n, &c.took); err != nil {
		return l, c, err
	}
	v, err := readUsage(pid)
	if err != nil {
		return l, c, err
	}
	after, err := settledMemory(ctx, pid)
	c.memory, c.cpu = float64(after-c.memoryBefore)/float64(n), (v.cpu-u.cpu)/time.Duration(n)
	return l, c, err
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
