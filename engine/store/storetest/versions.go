package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

func stale(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	steps := []struct {
		version int64
		kept    bool
	}{{2, false}, {0, false}, {-1, false}, {1, true}, {1, false}, {3, false}, {2, true}, {2, false}, {1, false},
		{3, true}}
	want := int64(0)
	for _, step := range steps {
		c := versioned(state("acme", 10+step.version), step.version)
		err := s.RecordReports(ctx, []plan.Reported{{State: c, Boot: fmt.Sprint(step),
			Events: events(step.version, step.version)}})
		if step.kept {
			must(t, err)
			want = step.version
		} else if !errors.Is(err, plan.ErrStale) {
			t.Errorf("version %d on %d: %v, not ErrStale", step.version, want, err)
		}
		if got, err := s.Cells(ctx, "acme"); err != nil || want > 0 &&
			(got["acme"].Version != want || got["acme"].Sequence != 10+want) {
			t.Fatalf("after version %d the store has %+v (%v), not version %d", step.version, got["acme"], err, want)
		}
		s = reopen(t, s, open)
	}
	kept, err := s.Events(ctx, "acme", 10)
	must(t, err)
	wantSame(t, "the events", events(1, 3), kept)
	if _, err := s.Observed(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Errorf("not ready because a report was stale: %v", err)
	}
}

func staleAmongOthers(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	must(t, report(t, s, plan.Reported{State: state("cell-00", 1), Boot: "b", Events: events(1, 1)}))
	var wg sync.WaitGroup
	for w := range 32 { // enough to share commits
		wg.Go(func() {
			for n := int64(1); n <= 10; n++ {
				name := fmt.Sprintf("cell-%02d", w)
				batch := []plan.Reported{{State: versioned(state(name, n), n), Boot: "b", Events: events(n, n)}}
				if w == 0 { // new, but together with a stale one: neither is stored
					batch = []plan.Reported{{State: versioned(state("late", n), 1)},
						{State: versioned(state(name, 99), 1), Boot: "b", Events: events(n, n)}}
				}
				switch err := s.RecordReports(ctx, batch); {
				case w == 0 && !errors.Is(err, plan.ErrStale):
					t.Errorf("stale: %v", err)
				case w != 0 && err != nil:
					t.Errorf("report: %v", err)
				}
			}
		})
	}
	wg.Wait()
	o := observed(t, s)
	if len(o.Cells) != 32 || o.Cells["late"] != nil {
		t.Errorf("%d cells, late is %+v", len(o.Cells), o.Cells["late"])
	}
	wantSame(t, "the cell with stale reports", state("cell-00", 1), o.Cells["cell-00"])
	for w := range 32 {
		name, want := fmt.Sprintf("cell-%02d", w), events(1, 10)
		if w == 0 {
			want = events(1, 1)
		}
		kept, err := s.Events(ctx, name, 20)
		must(t, err)
		wantSame(t, "the events of "+name, want, kept)
	}
}

func staleRace(t *testing.T, open Open) {
	s := opened(t, open)
	race(t, func(int) Store { return s })
}

func twoFolders(t *testing.T, open Open) {
	two := []Store{opened(t, open), opened(t, open)}
	race(t, func(w int) Store { return two[w%2] })
}

// race makes many processes report one cell at a time: each success is one version, and no version is lost.
func race(t *testing.T, of func(writer int) Store) {
	ctx := t.Context()
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := 0
	for w := range 16 {
		wg.Go(func() {
			s := of(w)
			for range 10 {
				known, err := s.Cells(ctx, "acme")
				if err != nil {
					t.Error(err)
					return
				}
				version := int64(1)
				if c := known["acme"]; c != nil {
					version = c.Version + 1
				}
				switch err := s.RecordReports(ctx,
					[]plan.Reported{{State: versioned(state("acme", version), version)}}); {
				case err == nil:
					mu.Lock()
					kept++
					mu.Unlock()
				case !errors.Is(err, plan.ErrStale):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	o := observed(t, of(0))
	if c := o.Cells["acme"]; c == nil || c.Version != int64(kept) || c.Sequence != int64(kept) || kept == 0 {
		t.Errorf("%d reports were kept, and the cell is %+v", kept, c)
	}
}

func byName(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	const many = 1200
	var batch []plan.Reported
	var names []string
	for n := range many {
		name := fmt.Sprintf("cell-%04d", n)
		names = append(names, name)
		if n%2 == 0 {
			batch = append(batch, plan.Reported{State: versioned(state(name, int64(n)), 1)})
		}
	}
	must(t, s.RecordReports(ctx, batch))
	must(t, grantUncapped(ctx, s, []plan.Granted{
		{Cell: "cell-0001", Assignment: *assignment("staging", 1, 1), At: noon},
		{Cell: "cell-0002", Assignment: *assignment("staging", 1, 99), At: noon},
	}))
	granted := state("cell-0002", 2)
	granted.Granted, granted.GrantedAt = assignment("staging", 1, 99), noon
	for _, step := range []struct {
		names []string
		want  map[string]*plan.CellState
	}{
		{[]string{"cell-0004"}, map[string]*plan.CellState{"cell-0004": state("cell-0004", 4)}},
		{[]string{"cell-0004", "nobody", "cell-0004", "", `"'%`},
			map[string]*plan.CellState{"cell-0004": state("cell-0004", 4)}},
		{[]string{"nobody"}, nil},
		{[]string{"cell-0001", "cell-0002"}, map[string]*plan.CellState{
			"cell-0001": {Name: "cell-0001", Granted: assignment("staging", 1, 1), GrantedAt: noon},
			"cell-0002": granted,
		}},
	} {
		got, err := s.Cells(ctx, step.names...)
		must(t, err)
		wantSame(t, fmt.Sprint("cells ", step.names), step.want, got)
	}
	for _, list := range [][]string{nil, names} {
		if got, err := s.Cells(ctx, list...); err != nil || len(got) != many/2+1 || got["cell-1198"].Version != 1 {
			t.Errorf("%d cells of %d asked for: %v", len(got), len(list), err)
		}
	}
	known, err := s.Known(ctx)
	must(t, err)
	all := observed(t, s)
	if len(known.Cells) != 0 || len(all.Cells) != many/2+1 {
		t.Errorf("Known has %d cells, Observed %d", len(known.Cells), len(all.Cells))
	}
	all.Cells = nil
	wantSame(t, "Known", all, known)
}

func reportsWithoutLease(t *testing.T, open Open) {
	leader, s := opened(t, open), opened(t, open)
	mustLead(t, leader, 1)
	must(t, report(t, s, plan.Reported{State: state("acme", 1)}))
	wantSame(t, "the cell as the leader sees it", state("acme", 1), observed(t, leader).Cells["acme"])
}

func twoReporters(t *testing.T, open Open) {
	ctx := t.Context()
	two := []Store{opened(t, open), opened(t, open)}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("cell-%d", w)
			for n := int64(1); n <= 25; n++ {
				if err := two[w%2].RecordReports(ctx, []plan.Reported{{State: versioned(state(name, n), n), Boot: "b",
					Events: events(n, n)}}); err != nil {
					t.Errorf("report: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range two {
		o := observed(t, s)
		if len(o.Cells) != 8 {
			t.Errorf("%d cells, not 8", len(o.Cells))
		}
		for name, c := range o.Cells {
			wantSame(t, name, state(name, 25), c)
			kept, err := s.Events(ctx, name, 50)
			must(t, err)
			wantSame(t, "the events of "+name, events(1, 25), kept)
		}
	}
	next := versioned(state("cell-0", 26), 26) // the cell moves to the other process
	must(t, two[1].RecordReports(ctx, []plan.Reported{{State: next, Events: []cells.Event{}}}))
}
