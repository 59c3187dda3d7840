package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

// measureReconnect kills the control plane during a rollout to cells that report, and restarts it. It measures how long
// until all cells are connected and current, and counts acknowledged reports that are lost.
func (b *bench) measureReconnect(ctx context.Context) ([]figures.Row, error) {
	f, err := b.openSharedFleet(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.setPolicy(ctx, atOncePolicy); err != nil {
		return nil, err
	}
	l, err := b.startLoad(ctx, f.controlPlane(), b.streamCells)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	if err := l.call("startSwarm", swarmOptions{Apply: [2]time.Duration{100 * time.Millisecond, 2 * time.Second},
		ReportEvery: 30 * time.Second, Spread: time.Duration(b.streamCells) * time.Millisecond,
		Resume: f.snapshots[:b.streamCells]}, nil); err != nil {
		return nil, err
	}
	if err := l.call("awaitCells", cellCondition{Connected: b.streamCells, Within: 4 * time.Minute}, nil); err != nil {
		return nil, err
	}
	var ours, theirs, outages []time.Duration
	var made, forReports []float64
	shed := map[string]int64{}
	rounds := max(1, b.rounds-2)
	for round := range rounds {
		bare, err := b.timeBareHandshakes(ctx)
		if err != nil {
			return nil, err
		}
		r, err := b.killAndRestart(ctx, f, l, round == rounds-1)
		if err != nil {
			return nil, err
		}
		ours, theirs, outages = append(ours, r.took), append(theirs, bare), append(outages, r.outage)
		cells := float64(b.streamCells)
		for reason, n := range r.shed {
			shed[reason] += n
		}
		made = append(made, float64(r.after.Streams-r.before.Streams)/cells)
		others := r.after.Connects - r.after.Streams - r.before.Connects + r.before.Streams
		forReports = append(forReports, float64(others)/cells)
	}
	var all []swarm.Snapshot
	if err := l.call("snapshots", struct{}{}, &all); err != nil {
		return nil, err
	}
	var counts swarm.Counts
	if err := l.call("counts", struct{}{}, &counts); err != nil {
		return nil, err
	}
	lost, events, err := b.countLost(ctx, f, all)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.TimeRow(fmt.Sprintf("killed and started again: %d cells connected and current", b.streamCells),
			figures.Median(ours), "bare handshakes", figures.Median(theirs), 1.5),
		{What: "  connections made for each cell's stream until then", Got: fmt.Sprintf("%.2f", figures.Median(made)),
			Base: fmt.Sprintf("and %.2f for reports", figures.Median(forReports)), Ratio: figures.Median(made),
			Limit: 1.1},
		figures.NoteRow("  from the kill until it listens again", figures.Time(figures.Median(outages)),
			"not counted above"),
		figures.NoteRow("  in all turned away, and broken connections",
			fmt.Sprintf("%d, %d", counts.Refused, counts.Failed), fmt.Sprintf("%d made, %d tries while nobody listened",
				counts.Connects, counts.Unheard)),
		figures.NoteRow("  how they broke, and what the control plane shed", describeCounts(counts.Broken),
			describeCounts(shed)),
		{What: fmt.Sprintf("acknowledged reports lost over %d kills in a rollout", rounds), Got: fmt.Sprint(lost),
			Base: fmt.Sprintf("%d cells, %d events", len(all), events), Ratio: float64(lost), Limit: 0},
	}, nil
}

// comeback is how cells came back after a kill.
type comeback struct {
	took          time.Duration    // from the instant at which the control plane listened
	outage        time.Duration    // from the kill until that instant
	before, after swarm.Counts     // at the kill, and when all were back
	shed          map[string]int64 // what the control plane turned away until then, by reason
}

// killAndRestart begins a rollout, kills the control plane during it, and restarts it.
func (b *bench) killAndRestart(ctx context.Context, f *fleet, l *child, profile bool) (r comeback, err error) {
	version, _, err := f.cutRelease(ctx)
	if err != nil {
		return r, err
	}
	sleep(ctx, 1500*time.Millisecond)
	killed := time.Now()
	f.kill()
	if err := l.call("awaitCells", cellCondition{None: true, Within: time.Minute}, nil); err != nil {
		return r, err
	}
	if err := l.call("counts", struct{}{}, &r.before); err != nil {
		return r, err
	}
	if err := f.launch(ctx); err != nil {
		return r, err
	}
	r.outage = f.listened.Sub(killed)
	file := ""
	if profile {
		file = profilePath(b.profile, "reconnect")
	}
	var at time.Time
	err = f.withProfile(file, func() error {
		return l.call("awaitCells", cellCondition{Connected: b.streamCells, Within: 4 * time.Minute}, &at)
	})
	if err == nil {
		err = l.call("counts", struct{}{}, &r.after)
	}
	if err == nil {
		r.shed, err = f.countShed(ctx)
	}
	if err == nil {
		err = l.call("awaitCells", cellCondition{Connected: b.streamCells, Release: version, Within: 4 * time.Minute},
			nil)
	}
	r.took = at.Sub(f.listened.Round(0))
	return r, err
}

// countShed returns what the control plane turned away since its start, by reason.
func (s *server) countShed(ctx context.Context) (map[string]int64, error) {
	all := map[string]int64{}
	for _, reason := range []string{"backlog", "busy", "connections", "late", "polls", "reports", "stranger"} {
		n, _, err := s.sumMetric(ctx, "sluice_shed_total", `reason="`+reason+`"`)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			all[reason] = int64(n)
		}
	}
	return all, nil
}

// describeCounts returns counts by name, in one line.
func describeCounts(all map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, fmt.Sprintf("%d %s", all[name], name))
	}
	return strings.Join(parts, ", ")
}

// timeBareHandshakes returns how long a bare server takes for as many handshakes at once.
func (b *bench) timeBareHandshakes(ctx context.Context) (took time.Duration, err error) {
	bare, at, err := b.startBare(ctx)
	if err != nil {
		return 0, err
	}
	defer bare.stop()
	l, err := b.startLoad(ctx, at.controlPlane(at.Handshakes), b.streamCells)
	if err != nil {
		return 0, err
	}
	defer l.stop()
	return took, l.call("timeHandshakes", b.streamCells, &took)
}

// countLost stops the control plane, and counts cells of which the store lacks something that was acknowledged.
func (b *bench) countLost(ctx context.Context, f *fleet, all []swarm.Snapshot) (lost int, events int64, err error) {
	f.stop()
	b.sharedFleet = nil
	s, err := store.Open(ctx, filepath.Join(f.data, "sluice.db"), zerolog.Nop())
	if err != nil {
		return 0, 0, err
	}
	defer s.Close() //nolint:errcheck // read only
	states, err := s.Cells(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, w := range all {
		history, err := s.Events(ctx, w.Name, 1000)
		if err != nil {
			return 0, 0, err
		}
		have := map[int64]bool{}
		for _, e := range history {
			have[e.Number] = true
		}
		missing := false
		for n := int64(1); n <= w.Confirmed; n++ {
			missing = missing || !have[n]
		}
		events += w.Confirmed
		state, acknowledged := states[w.Name], w.Acknowledged
		if missing || state == nil || acknowledged == nil || state.State != acknowledged.State ||
			acknowledged.Running != nil &&
				state.Release != acknowledged.Running.Release {
			lost++
		}
	}
	return lost, events, nil
}
