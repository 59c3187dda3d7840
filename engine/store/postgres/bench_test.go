package postgres_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/engine/store/storetest"
	server "github.com/sluice-cd/sluice/test/postgres"
)

const fleet = 10_000

// cellOf shuffles cells: keys in order would flatter an index.
func cellOf(i int) string { return fmt.Sprintf("cell-%05d", i*7919%fleet) }

// BenchmarkReport measures how fast a fleet's reports are stored, one a call, each submitter with cells of its own:
// both stores in one run, since ratios are stable and times are not.
func BenchmarkReport(b *testing.B) {
	for _, submitters := range []int{1, 64, 512} {
		for _, kind := range []string{"sqlite", "postgres"} {
			b.Run(fmt.Sprintf("%s/%d", kind, submitters),
				func(b *testing.B) { submit(b, kinds()[kind](b), submitters) })
		}
	}
}

// kinds opens an empty store of each kind.
func kinds() map[string]func(b *testing.B) storetest.Store {
	return map[string]func(b *testing.B) storetest.Store{
		"postgres": func(b *testing.B) storetest.Store {
			return openWith(b, server.NewDatabase(b), postgres.Options{})
		},
		"sqlite": func(b *testing.B) storetest.Store {
			s, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "sluice.db"), zerolog.Nop())
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { s.Close() })
			return s
		},
	}
}

func submit(b *testing.B, s storetest.Store, submitters int) {
	fill(b, s)
	took := make([][]time.Duration, submitters)
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range submitters {
		wg.Go(func() {
			versions := map[string]int64{}
			for i := w; i < b.N; i += submitters {
				name := cellOf(i % (fleet / submitters * submitters)) // the same submitter's in each round
				if versions[name] == 0 {
					versions[name] = 1
				}
				versions[name]++
				r := report(name, versions[name], "all well")
				r[0].State.Running = running
				start := time.Now()
				if err := s.RecordReports(b.Context(), r); err != nil {
					b.Error(err)
					return
				}
				took[w] = append(took[w], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.SortFunc(all, cmp.Compare)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(all[len(all)*99/100].Seconds()*1000, "p99-ms")
}

var running = &cells.Assignment{Channel: "staging", Release: "2026.11.3", Sequence: 3,
	Values: map[string]any{"domain": "example", "replicas": 3}}

func fill(t testing.TB, s storetest.Store) {
	t.Helper()
	var batch []plan.Reported
	for n := range fleet {
		r := report(cellOf(n), 1, "")
		r[0].State.Running = running
		batch = append(batch, r...)
	}
	must(t, s.RecordReports(t.Context(), batch))
}

// BenchmarkCells10k measures how long a replica takes to read a whole fleet.
func BenchmarkCells10k(b *testing.B) {
	s := openWith(b, server.NewDatabase(b), postgres.Options{})
	fill(b, s)
	for b.Loop() {
		if all, err := s.Cells(b.Context()); err != nil || len(all) != fleet {
			b.Fatal(len(all), err)
		}
	}
}

// BenchmarkGrant measures how fast grants are made, many cells a call; each takes a slot, which is freed afterwards.
func BenchmarkGrant(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		for _, kind := range []string{"sqlite", "postgres"} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) { grantAndFree(b, kinds()[kind](b), size) })
		}
	}
}

func grantAndFree(b *testing.B, s storetest.Store, size int) {
	offers, names := make([]plan.Offer, size), make([]string, size)
	for i := range offers {
		names[i] = cellOf(i)
		offers[i] = plan.Offer{Granted: plan.Granted{Cell: names[i], Assignment: *running, At: time.Now()}, Cap: size}
	}
	for b.Loop() {
		made, err := s.RecordGrants(b.Context(), offers)
		if err != nil || len(made) != size {
			b.Fatal(len(made), err)
		}
		must(b, s.FreeSlots(b.Context(), running.Channel, names))
	}
}
