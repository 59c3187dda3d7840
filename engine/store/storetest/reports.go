package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

func newStore(t *testing.T, open Open) {
	s := opened(t, open)
	o := observed(t, s)
	if o.Since.IsZero() {
		t.Error("R26: it does not say since when it observes")
	}
	since := o.Since
	wantSame(t, "a new store", plan.Observed{Since: since}, o)
	if o := observed(t, reopen(t, s, open)); !o.Since.Equal(since) {
		t.Errorf("Since moved from %v to %v by reopening", since, o.Since)
	}
}

func durable(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	must(t, report(t, s, plan.Reported{State: state("acme", 3), Boot: "b1", Events: events(1, 3)},
		plan.Reported{State: state("bolt", 4)}))
	must(t, grantUncapped(ctx, s, []plan.Granted{{Cell: "acme", Assignment: *assignment("staging", 1, 9), At: noon}}))
	must(t, s.RecordLearned(ctx, plan.Learned{
		Accepted: []plan.Acceptance{{Upstream: "staging", Downstream: "dedicated", Release: "1.0.3", Digest: digest(3),
			At: noon, Evidence: "2 of 2 cells"}},
		Finished: []plan.Finish{{Channel: "staging", Sequence: 3, Digest: digest(3), At: noon}},
		Cohorts:  []plan.Cohort{{Channel: "staging", Sequence: 3, Since: noon, Eligible: []string{"acme", "bolt"}}},
	}))
	must(t, s.RecordObservations(ctx, []plan.Observation{{Channel: "staging", Gate: "check", Subject: "x", Holds: true,
		Value: "200", ObservedAt: noon}}))
	must(t, s.RecordSeen(ctx, "4f0c", &plan.Divergence{Seen: "4f0c", Tip: "77aa", At: noon}))
	must(t, s.RecordRefusal(ctx, "staging", &plan.Refusal{Reason: "hook", Until: noon}))
	_, err := s.RecordDecisions(ctx, []plan.Decided{{Commit: "c1", Kind: plan.Promote, Channel: "staging", Sequence: 3,
		At: noon}})
	must(t, err)

	before := observed(t, s)
	s = reopen(t, s, open)
	wantSame(t, "after reopening", before, observed(t, s))
	acme := state("acme", 3)
	acme.Granted, acme.GrantedAt = assignment("staging", 1, 9), noon
	wantSame(t, "the cells", map[string]*plan.CellState{"acme": acme, "bolt": state("bolt", 4)}, before.Cells)
	wantSame(t, "the commit that was seen", "4f0c", before.Seen)
	kept, err := s.Events(ctx, "acme", 10)
	must(t, err)
	wantSame(t, "the events", events(1, 3), kept)
}

func reports(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	must(t, s.RecordReports(ctx, nil))
	must(t, report(t, s, plan.Reported{State: state("acme", 3), Boot: "b1", Events: events(1, 3)}))
	// The answer was lost, and the cell sends it again with more, and with another text for number 2 (fault 45).
	again := events(2, 4)
	again[0].Detail = "told differently"
	for range 2 {
		must(t, report(t, s, plan.Reported{State: state("acme", 4), Boot: "b1", Events: again}))
	}
	must(t, report(t, s,
		plan.Reported{State: state("acme", 5), Boot: "b2", Events: events(1, 1)}, // another boot has its own numbers
		plan.Reported{State: state("acme", 6), Boot: "b2", Events: events(2, 2)}, // the last of a batch wins
	))
	wantSame(t, "the state", state("acme", 6), observed(t, s).Cells["acme"])
	kept, err := s.Events(ctx, "acme", 10)
	must(t, err)
	wantSame(t, "the events", append(events(1, 4), events(1, 2)...), kept)
	kept, err = s.Events(ctx, "acme", 2)
	must(t, err)
	wantSame(t, "the newest events", events(1, 2), kept)
}

func wholeBatch(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	for _, broken := range []*plan.CellState{nil, {}} {
		if err := s.RecordReports(ctx, []plan.Reported{{State: versioned(state("acme", 3), 1)},
			{State: broken}}); err == nil {
			t.Error("a report of no cell was kept")
		}
	}
	unencodable := state("bolt", 3)
	unencodable.Running.Values = map[string]any{"f": func() {}}
	if err := report(t, s, plan.Reported{State: state("acme", 3)}, plan.Reported{State: unencodable}); err == nil {
		t.Error("a state that JSON can't hold was kept")
	}
	wantSame(t, "the cells", map[string]*plan.CellState{}, observed(t, s).Cells)
}

func values(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	v := map[string]any{"replicas": 3, "big": int64(9007199254740993), "ratio": 0.1, "domain": "täst.example",
		"on": true, "list": []any{1, "a"}}
	c := state("acme", 3)
	c.Running.Values = v
	must(t, report(t, s, plan.Reported{State: c}))
	a := *assignment("staging", 1, 3)
	a.Values = v
	must(t, grantUncapped(ctx, s, []plan.Granted{{Cell: "acme", Assignment: a, At: noon}}))
	o := observed(t, s)
	want, err := json.Marshal(a)
	must(t, err)
	for what, got := range map[string]*cells.Assignment{"reported": o.Cells["acme"].Running,
		"granted": o.Cells["acme"].Granted} {
		b, err := json.Marshal(got)
		must(t, err)
		wantSame(t, what, string(want), string(b))
	}
}

func concurrent(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	const writers, each = 24, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			name := fmt.Sprintf("cell-%02d", w)
			for n := int64(1); n <= each; n++ {
				c := state(name, n)
				c.Version = n
				if err := s.RecordReports(ctx,
					[]plan.Reported{{State: c, Boot: "b", Events: events(n, n)}}); err != nil {
					t.Errorf("report: %v", err)
				}
				if n%8 != 0 {
					continue
				}
				if err := grantUncapped(ctx, s, []plan.Granted{{Cell: name, Assignment: *assignment("staging", 1, n),
					At: noon}}); err != nil {
					t.Errorf("grant: %v", err)
				}
				if _, err := s.Observed(ctx); err != nil {
					t.Errorf("read: %v", err)
				}
			}
		})
	}
	wg.Wait()
	o := observed(t, s)
	for w := range writers {
		name := fmt.Sprintf("cell-%02d", w)
		want := state(name, each)
		want.Granted, want.GrantedAt = assignment("staging", 1, each-each%8), noon
		wantSame(t, name, want, o.Cells[name])
		kept, err := s.Events(ctx, name, 2*each)
		must(t, err)
		wantSame(t, "the events of "+name, events(1, each), kept)
	}
}

func ended(t *testing.T, open Open) {
	s := opened(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := grantUncapped(ctx, s, []plan.Granted{{Cell: "acme", Assignment: *assignment("staging", 1, 1),
		At: noon}}); !errors.Is(err, context.Canceled) {
		t.Errorf("grant under an ended context: %v", err)
	}
	if err := s.RecordReports(ctx, []plan.Reported{{State: versioned(state("acme", 1), 1)}}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("report under an ended context: %v", err)
	}
	wantSame(t, "the cells", map[string]*plan.CellState{}, observed(t, s).Cells)
}

func closed(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	must(t, report(t, s, plan.Reported{State: state("acme", 1)}))
	must(t, s.Close())
	must(t, s.Close())
	if err := s.RecordReports(ctx, []plan.Reported{{State: versioned(state("acme", 2), 2)}}); err == nil {
		t.Error("a closed store kept a report")
	}
	if err := s.RecordLearned(ctx, plan.Learned{}); err == nil {
		t.Error("a closed store learned")
	}
}
