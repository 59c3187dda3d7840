package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

func grants(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	other := assignment("staging", 2, 5)
	other.Profile = "large"
	steps := []struct {
		name   string
		offer  *cells.Assignment
		stands bool // the offer is the newest grant afterwards
	}{
		{"the first", assignment("staging", 1, 120), true},
		{"an older sequence", assignment("staging", 1, 119), false},
		{"a newer epoch with a lower sequence", assignment("staging", 2, 5), true},
		{"an older epoch with a higher sequence", assignment("staging", 1, 121), false},
		{"the same with another profile (R13)", other, true},
	}
	var newest *cells.Assignment
	for i, step := range steps {
		at := noon.Add(time.Duration(i) * time.Minute)
		for range 2 { // repeating changes nothing
			must(t, grantUncapped(ctx, s, []plan.Granted{{Cell: "acme", Assignment: *step.offer, At: at}}))
		}
		if step.stands {
			newest = step.offer
		}
		wantSame(t, step.name, newest, observed(t, s).Cells["acme"].Granted)
	}
	// A restored engine's batch of old and new: each cell by itself.
	must(t, grantUncapped(ctx, s, []plan.Granted{
		{Cell: "acme", Assignment: *assignment("staging", 2, 1), At: noon},
		{Cell: "bolt", Assignment: *assignment("staging", 2, 1), At: noon},
	}))
	o := observed(t, s)
	wantSame(t, "acme after the batch", newest, o.Cells["acme"].Granted)
	wantSame(t, "bolt, which never reported", &plan.CellState{Name: "bolt", Granted: assignment("staging", 2, 1),
		GrantedAt: noon}, o.Cells["bolt"])
}

func grantOverReport(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	must(t, grantUncapped(ctx, s, []plan.Granted{{Cell: "acme", Assignment: *assignment("staging", 1, 9), At: noon}}))
	stale := state("acme", 8)
	stale.Granted, stale.GrantedAt = assignment("staging", 1, 8), noon.Add(-time.Hour)
	must(t, report(t, s, plan.Reported{State: stale}))
	wantSame(t, "the grant", assignment("staging", 1, 9), observed(t, s).Cells["acme"].Granted)
	// After a loss of the database a cell knows of a newer grant than the store (R26).
	knows := state("acme", 12)
	knows.Granted, knows.GrantedAt = assignment("staging", 1, 12), noon
	must(t, report(t, s, plan.Reported{State: knows}))
	wantSame(t, "the grant that the cell told of", assignment("staging", 1, 12), observed(t, s).Cells["acme"].Granted)
}

func served(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	must(t, report(t, s, plan.Reported{State: state("acme", 41)})) // R49: a report raises nothing
	must(t, grantUncapped(ctx, s, []plan.Granted{{Cell: "acme", Assignment: *assignment("dedicated", 1, 7), At: noon}}))
	fifth := plan.Decided{Commit: "c1", Channel: "edge", Sequence: 5, Release: "1.0.5", Digest: digest(5)}
	_, err := s.RecordDecisions(ctx, []plan.Decided{fifth})
	must(t, err)
	want := map[string]int64{"dedicated": 7, "edge": 5}
	wantSame(t, "the sequences", want, observed(t, s).Served)
	s = reopen(t, s, open)
	applying := state("acme", 1)
	applying.Applying = assignment("dedicated", 1, 8)
	must(t, report(t, s, plan.Reported{State: applying}))
	// A branch that was rewritten has other decisions: the newest known one stays (R51).
	_, err = s.RecordDecisions(ctx, []plan.Decided{{Commit: "c0", Channel: "edge", Sequence: 4},
		{Commit: "c2", Channel: "edge", Sequence: 5, Release: "1.0.6"}})
	must(t, err)
	wantSame(t, "the sequences later", want, observed(t, s).Served)
	wantSame(t, "the newest decision", map[string]plan.Decided{"edge": fifth}, observed(t, s).Decided)
}

func latches(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	first := plan.Learned{
		Accepted: []plan.Acceptance{{Upstream: "staging", Downstream: "dedicated", Release: "1.0.3", Digest: digest(3),
			At: noon, Evidence: "first"}},
		Finished: []plan.Finish{{Channel: "staging", Sequence: 3, Digest: digest(3), At: noon}},
		Waves:    []plan.Through{{Channel: "staging", Sequence: 3, Digest: digest(3), Wave: 1, At: noon}},
		Cohorts:  []plan.Cohort{{Channel: "staging", Sequence: 3, Since: noon, Eligible: []string{"acme"}}},
	}
	must(t, s.RecordLearned(ctx, first))
	later := noon.Add(time.Hour)
	must(t, s.RecordLearned(ctx, plan.Learned{
		Accepted: []plan.Acceptance{{Upstream: "staging", Downstream: "dedicated", Release: "1.0.3", Digest: digest(3),
			At: later, Evidence: "second"}},
		Finished: []plan.Finish{{Channel: "staging", Sequence: 3, Digest: digest(4), At: later}},
		Waves:    []plan.Through{{Channel: "staging", Sequence: 3, Digest: digest(3), Wave: 1, At: later}},
		Cohorts:  []plan.Cohort{{Channel: "staging", Sequence: 3, Since: later, Eligible: []string{"acme", "bolt"}}},
	}))
	first.Accepted[0].At, first.Accepted[0].Evidence = later, "second" // the last word on an acceptance counts
	wantSame(t, "what was learned", first, observed(t, s).Learned)
	must(t, s.RecordLearned(ctx, plan.Learned{Finished: []plan.Finish{{Channel: "staging", Sequence: 4,
		Digest: digest(4), At: later}}}))
	if got := observed(t, s).Learned.Finished; len(got) != 2 {
		t.Errorf("%d finishes, not 2", len(got))
	}
	next := plan.Through{Channel: "staging", Sequence: 4, Digest: digest(4), Wave: 1, At: later}
	must(t, s.RecordLearned(ctx, plan.Learned{Waves: []plan.Through{next}}))
	wantSame(t, "the waves of the newest head", []plan.Through{next}, observed(t, s).Learned.Waves)
}

func observations(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	answer := func(at time.Time, value string) plan.Observation {
		return plan.Observation{Channel: "dedicated", Gate: "metric", Subject: string(digest(3)), Policy: "p",
			Holds: true, Value: value, ObservedAt: at, ValidUntil: at.Add(time.Minute)}
	}
	must(t, s.RecordObservations(ctx, []plan.Observation{answer(noon, "first"), {Gate: "check", Holds: true}}))
	must(t, s.RecordObservations(ctx, []plan.Observation{answer(noon.Add(2*time.Minute), "newest"),
		answer(noon.Add(time.Minute), "late")}))
	wantSame(t, "the answers", []plan.Observation{{Gate: "check", Holds: true},
		answer(noon.Add(2*time.Minute), "newest")}, observed(t, s).Observations)
}

func decidedOnce(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	a := plan.Decided{Commit: "aaa", Kind: plan.Promote, Channel: "staging", Release: "1.0.3", Digest: digest(3),
		Sequence: 3, At: noon}
	b := plan.Decided{Commit: "bbb", Kind: plan.Rollback, Channel: "staging", Release: "1.0.2", Digest: digest(2),
		Sequence: 4, Replaces: "1.0.3", At: noon}
	decide := func(what string, give, want []plan.Decided) {
		t.Helper()
		fresh, err := s.RecordDecisions(ctx, give)
		must(t, err)
		wantSame(t, what, want, fresh)
	}
	decide("new", []plan.Decided{a, a}, []plan.Decided{a})
	s = reopen(t, s, open) // killed before the announcement
	decide("not announced yet", []plan.Decided{a}, []plan.Decided{a})
	must(t, s.MarkAnnounced(ctx, []string{"aaa"}))
	s = reopen(t, s, open)
	decide("announced", []plan.Decided{a}, nil)
	changed := a
	changed.Release = "9.9.9"
	decide("one commit, one decision", []plan.Decided{changed, b}, []plan.Decided{b})
	s = reopen(t, s, open)
	decide("found again though git is not read from the start", nil, []plan.Decided{b})
	must(t, s.MarkAnnounced(ctx, []string{"bbb", "unknown"}))
	decide("all announced", []plan.Decided{a, b}, nil)
}

func setAndCleared(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	d := &plan.Divergence{Seen: "4f0c", Tip: "77aa", At: noon}
	must(t, s.RecordSeen(ctx, "4f0c", d))
	must(t, s.RecordRefusal(ctx, "staging", &plan.Refusal{Reason: "first", Until: noon}))
	must(t, s.RecordRefusal(ctx, "staging", &plan.Refusal{Reason: "pre-receive hook", Until: noon}))
	must(t, s.RecordRefusal(ctx, "dedicated", &plan.Refusal{Reason: "x", Until: noon}))
	must(t, s.RecordRefusal(ctx, "dedicated", nil))
	must(t, s.RecordRefusal(ctx, "dedicated", nil))
	s = reopen(t, s, open)
	o := observed(t, s)
	wantSame(t, "diverged", d, o.Diverged)
	wantSame(t, "refused", map[string]plan.Refusal{"staging": {Reason: "pre-receive hook", Until: noon}}, o.Refused)
	must(t, s.RecordSeen(ctx, "77aa", nil))
	o = observed(t, s)
	if o.Diverged != nil || o.Seen != "77aa" {
		t.Errorf("acknowledged, yet seen %s and diverged %v", o.Seen, o.Diverged)
	}
}

func decisionsByCursor(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	var all []plan.Decided
	for n := range int64(5) {
		all = append(all, plan.Decided{Commit: fmt.Sprint("c", n), Sequence: n})
	}
	if _, next, err := s.Decisions(ctx, 0, 3); err != nil || next != 0 {
		t.Errorf("none yet: cursor %d (%v)", next, err)
	}
	_, err := s.RecordDecisions(ctx, all)
	must(t, err)
	cursor := int64(0)
	for _, want := range [][]plan.Decided{all[:3], all[3:], nil} {
		found, next, err := s.Decisions(ctx, cursor, 3)
		must(t, err)
		wantSame(t, fmt.Sprint("after ", cursor), want, found)
		if next < cursor || (next == cursor) != (len(want) == 0) {
			t.Errorf("the cursor went from %d to %d", cursor, next)
		}
		cursor = next
	}
	found, next, err := s.Decisions(ctx, -1, 2)
	must(t, err)
	wantSame(t, "the last two", all[3:], found)
	if next != cursor {
		t.Errorf("the cursor of the last is %d, not %d", next, cursor)
	}
}
