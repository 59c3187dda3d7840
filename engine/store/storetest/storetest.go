// Package storetest is the contract of engine.Store: what every implementation must do, whatever
// database it stands on. An implementation's test calls Run and Kill; the package itself knows none.
//
// The cases run in parallel where they share nothing; each opens a database of its own.
package storetest

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/releases"
)

// Store is what the contract looks at: the engine's port, and the history that reports carried.
type Store interface {
	engine.Store
	io.Closer
	Observed(ctx context.Context) (engine.Observed, error)
	Events(ctx context.Context, cell string, limit int) ([]cells.Event, error)
}

// Open opens the database of the test t. Called again with the same t, after Close, it opens the same data.
type Open func(t *testing.T) Store

// Run holds the contract against the stores that open gives.
func Run(t *testing.T, open Open) {
	cases := map[string]func(t *testing.T, open Open){
		"a new store is empty":                                   fresh,
		"every write survives reopening (invariant 8)":           durable,
		"reports replace the state and add to the history":       reports,
		"a report keeps all of a batch or none":                  wholeBatch,
		"values come back as the same JSON":                      values,
		"grants never go back (R2)":                              grants,
		"a report does not undo a newer grant":                   grantOverReport,
		"the highest sequence served stays (R2)":                 served,
		"what was learned latches (R7)":                          latches,
		"the newest answer to a probe wins":                      observations,
		"a decision is announced once, across crashes (fault 3)": decidedOnce,
		"divergence and refusals are set and cleared (R5)":       setAndCleared,
		"many writers at once lose nothing":                      concurrent,
		"an ended context writes nothing":                        ended,
		"a closed store says so":                                 closed,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, open)
		})
	}
}

// noon is when all these tests happen.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func digest(n int) releases.Digest { return releases.DigestBytes(fmt.Append(nil, n)) }

func assignment(channel string, epoch, sequence int64) *cells.Assignment {
	return &cells.Assignment{
		Channel: channel, Epoch: epoch, Sequence: sequence,
		Release: fmt.Sprintf("1.0.%d", sequence), Digest: digest(int(sequence)), Profile: "small",
	}
}

func state(cell string, sequence int64) *engine.CellState {
	a := assignment("staging", 1, sequence)
	return &engine.CellState{
		Name: cell, Channel: a.Channel, Epoch: a.Epoch, Sequence: a.Sequence, Release: a.Release, Digest: a.Digest,
		State: cells.StateHealthy, Message: "all well", HealthySince: noon.Add(-time.Hour), Soaked: time.Hour, LastReport: noon,
		Skew: -3 * time.Second, Infrastructure: 7, Running: a, StartedAt: noon.Add(-2 * time.Hour),
		Failures: []engine.Failure{{Failure: cells.Failure{Assignment: *assignment("staging", 1, 1), Reason: "probe failed", At: noon}, Seen: noon}},
	}
}

func events(from, to int64) (list []cells.Event) {
	for n := from; n <= to; n++ {
		list = append(list, cells.Event{Number: n, At: noon, Kind: "applied", Release: fmt.Sprintf("1.0.%d", n)})
	}
	return list
}

func reopen(t *testing.T, s Store, open Open) Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return opened(t, open)
}

func opened(t *testing.T, open Open) Store {
	t.Helper()
	s := open(t)
	t.Cleanup(func() { s.Close() })
	return s
}

func observed(t *testing.T, s Store) engine.Observed {
	t.Helper()
	o, err := s.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same compares what a store keeps: unexported fields hold for one process only.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(engine.CellState{})); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// give grants without a cap.
func give(ctx context.Context, s Store, grants []engine.Granted) error {
	offers := make([]engine.Offer, len(grants))
	for i, g := range grants {
		offers[i].Granted = g
	}
	_, err := s.Grant(ctx, offers)
	return err
}
