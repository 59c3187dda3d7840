package rows_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// versions makes a report of cells at versions, with an event each.
func versions(t *testing.T, of ...any) *rows.Report {
	t.Helper()
	var batch []plan.Reported
	for i := 0; i < len(of); i += 2 {
		batch = append(batch, plan.Reported{State: &plan.CellState{Name: of[i].(string),
			Version: int64(of[i+1].(int))}})
	}
	r, err := rows.EncodeReports(batch)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAdmit(t *testing.T) {
	for name, c := range map[string]struct {
		batch []*rows.Report
		stale []int // indices in batch
		want  string
	}{
		"successors, one after the other": {[]*rows.Report{versions(t, "a", 4), versions(t, "a", 5),
			versions(t, "b", 1)}, nil, "a 5, b 1"},
		"twice in one report": {[]*rows.Report{versions(t, "a", 4, "a", 5)}, nil, "a 5"},
		"one of two on the same version": {[]*rows.Report{versions(t, "a", 4), versions(t, "a", 4),
			versions(t, "a", 5)}, []int{1}, "a 5"},
		"one stale cell takes its report with it": {[]*rows.Report{versions(t, "b", 1, "a", 4, "c", 7),
			versions(t, "b", 1)}, []int{0}, "b 1"},
		"what follows on a stale one is stale too": {[]*rows.Report{versions(t, "a", 5), versions(t, "a", 6),
			versions(t, "a", 4)}, []int{0, 1}, "a 4"},
		"an older one": {[]*rows.Report{versions(t, "a", 3), versions(t, "a", 0)},
			[]int{0, 1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			kept := map[string]int64{"a": 3, "c": 9}
			a := rows.Admit(c.batch, kept)
			got := ""
			for _, row := range a.Cells {
				got += fmt.Sprintf(", %s %d", row.Name, row.Version)
				if kept[row.Name] != row.Version {
					t.Errorf("kept says version %d of %s, written is %d", kept[row.Name], row.Name, row.Version)
				}
			}
			if got != "" {
				got = got[2:]
			}
			if got != c.want || kept["c"] != 9 {
				t.Errorf("written: %q, not %q; kept %v", got, c.want, kept)
			}
			for i, r := range c.batch {
				if err := a.Refused[r]; errors.Is(err, plan.ErrStale) != slices.Contains(c.stale, i) {
					t.Errorf("report %d: %v", i, err)
				}
			}
		})
	}
}

// Callers who come while a batch is written share the next one, and each gets its own answer.
func TestQueueShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		write := make(chan struct{})
		var sizes []int
		refused := versions(t, "refused", 1)
		q := rows.NewQueue(func(batch []*rows.Report) (map[*rows.Report]error, error) {
			<-write
			sizes = append(sizes, len(batch))
			return map[*rows.Report]error{refused: plan.ErrStale}, nil
		})
		var wg sync.WaitGroup
		keep := func(r *rows.Report, want error) {
			wg.Go(func() {
				if err := q.Submit(t.Context(), r); !errors.Is(err, want) {
					t.Errorf("answered %v, not %v", err, want)
				}
			})
		}
		keep(versions(t, "first", 1), nil)
		synctest.Wait()
		keep(refused, plan.ErrStale)
		for range 20 {
			keep(versions(t, "next", 1), nil)
		}
		synctest.Wait()
		write <- struct{}{}
		write <- struct{}{}
		wg.Wait()
		if !slices.Equal(sizes, []int{1, 21}) {
			t.Errorf("batches of %v", sizes)
		}
		q.Close()
		q.Close()
		if err := q.Submit(t.Context(), versions(t, "late", 1)); !errors.Is(err, rows.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
