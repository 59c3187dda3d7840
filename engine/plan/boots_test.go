package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

type report struct {
	boot      string
	after     time.Duration // since the report before; 30 s if zero
	confirmed int64
	events    string // "7a 8b": event numbers, each with its content
	epoch     int64
	sent      time.Duration // against its receipt; zero: the report does not say when it was sent
}

func (s report) toReport(t *testing.T) cells.Report {
	t.Helper()
	r := cells.Report{Cell: "s1", Boot: s.boot, State: cells.StateHealthy, Confirmed: s.confirmed}
	for _, text := range strings.Fields(s.events) {
		var e cells.Event
		if _, err := fmt.Sscanf(text, "%d%s", &e.Number, &e.Detail); err != nil {
			t.Fatal(err)
		}
		e.Kind = "healthy"
		if e.Detail == "gap" {
			e.Kind = "gap"
		}
		r.Events = append(r.Events, e)
	}
	return r
}

// R27, fault 38: which reports show a clone, and which a restore.
func TestClones(t *testing.T) {
	const long = 10 * time.Minute
	for name, c := range map[string]struct {
		story []report
		clone string // evidence of a clone; empty: none
		what  plan.Restore
		at    int64 // confirmed in the end
	}{
		"one agent": {story: []report{{boot: "A"}, {boot: "A"}, {boot: "A"}}},
		"restarts": {
			story: []report{{boot: "A"}, {boot: "B"}, {boot: "C"}, {boot: "D"}, {boot: "E"}, {boot: "F"}},
		},
		"two by turns": {
			story: []report{{boot: "A"}, {boot: "B"}, {boot: "A"}, {boot: "B"}}, clone: "boots A and B report in turns",
		},
		"two, unevenly": {
			story: []report{{boot: "A"}, {boot: "B"}, {boot: "B"}, {boot: "A"}, {boot: "A"}, {boot: "B"}},
			clone: "boots A and B report in turns",
		},
		"three": {
			story: []report{{boot: "A"}, {boot: "B"}, {boot: "C"}, {boot: "A"}, {boot: "B"}},
			clone: "boots A and B report in turns",
		},
		"not yet": {story: []report{{boot: "A"}, {boot: "B"}, {boot: "A"}}},
		"machine put back": {
			story: []report{{boot: "A"}, {boot: "B"}, {boot: "A"}, {boot: "A"}, {boot: "C"}, {boot: "C"}},
		},
		"put back twice": {
			story: []report{
				{boot: "A"}, {boot: "B", after: long}, {boot: "A", after: long}, {boot: "B", after: long},
				{boot: "A", after: long},
			},
		},
		"clone of long ago": {
			story: []report{
				{boot: "A"}, {boot: "B"}, {boot: "A"}, {boot: "B"}, {boot: "C", epoch: 1}, {boot: "A", epoch: 1},
				{boot: "A", epoch: 1},
			},
		},
		"late report": {
			story: []report{{boot: "A"}, {boot: "B"}, {boot: "A", after: -time.Second}, {boot: "B"}, {boot: "B"}},
		},
		"sent again": {
			story: []report{
				{boot: "A", events: "1a 2b"}, {boot: "A", events: "1a 2b"}, {boot: "A", confirmed: 2, events: "3c"},
			},
			at: 3,
		},
		"sent again, restarted": {
			story: []report{
				{boot: "A", events: "1a 2b"}, {boot: "B", events: "1a 2b"}, {boot: "B", confirmed: 2, events: "3c"},
			},
			at: 3,
		},
		"two contents": {
			story: []report{{boot: "A", events: "1a"}, {boot: "A", events: "1x"}},
			clone: "boot A gave event 1 two contents", at: 1,
		},
		"copied while it ran": {
			story: []report{{boot: "A", events: "1a 2b"}, {boot: "A", events: "3c"}, {boot: "A", events: "3x"}},
			clone: "boot A gave event 3 two contents", at: 3,
		},
		"put back to a snapshot": {story: []report{{boot: "A", events: "1a 2b"}, {boot: "A", events: "3c 4d"},
			{boot: "A", after: long, confirmed: 2, events: "3x"},
			{boot: "A", events: "4y"}, {boot: "A", events: "5z"}}, at: 5},
		"outbox full": {story: []report{{boot: "A", events: "1a 2b"}, {boot: "A", events: "2gap 3c"}}, at: 3},
		"agent restored": {
			story: []report{
				{boot: "A", confirmed: 8, events: "9a"}, {boot: "A", confirmed: 9},
				{boot: "B", confirmed: 3, events: "4x"},
			},
			what: plan.AgentRestored, at: 4,
		},
		"store restored": {
			story: []report{{boot: "A", events: "1a"}, {boot: "A", confirmed: 40}}, what: plan.StoreRestored, at: 40,
		},
		"store emptied": {
			story: []report{{boot: "A", confirmed: 40, events: "41a"}}, what: plan.StoreRestored, at: 41,
		},
		"new key, new box": {
			story: []report{
				{boot: "A", confirmed: 9, events: "10a"}, {boot: "B", confirmed: 0, events: "1x", epoch: 1},
			},
			at: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s *plan.CellState
			var what plan.Restore
			at := Start
			for i, one := range c.story {
				if one.after == 0 {
					one.after = 30 * time.Second
				}
				at = at.Add(one.after)
				r := one.toReport(t)
				s, what, _ = plan.ReportArrival{At: at, Local: at, Epoch: one.epoch}.Fold(s, &r, 5*time.Minute)
				if s.Clone != "" && c.clone == "" && one.epoch == c.story[len(c.story)-1].epoch {
					t.Fatalf("after %d: %s", i+1, s.Clone)
				}
			}
			if s.Clone != c.clone || s.Confirmed != c.at {
				t.Errorf("clone %q, want %q; confirmed %d, want %d", s.Clone, c.clone, s.Confirmed, c.at)
			}
			if what != c.what {
				t.Errorf("surprise %d, want %d", what, c.what)
			}
			if len(s.Boots) > plan.MaxBoots || len(s.Boots[len(s.Boots)-1].Marks) > plan.MaxMarks {
				t.Errorf("remembers %+v", s.Boots)
			}
		})
	}
}

// Fold does not change the state that it is given.
func TestBootsShareNothing(t *testing.T) {
	r := report{boot: "A", events: "1a"}.toReport(t)
	a, _, _ := plan.ReportArrival{At: Start}.Fold(nil, &r, time.Minute)
	first := *a
	first.Boots = []plan.Boot{a.Boots[0]}
	first.Boots[0].Marks = []plan.Mark{a.Boots[0].Marks[0]}
	r = report{boot: "A", events: "1x 2b"}.toReport(t)
	b, _, _ := plan.ReportArrival{At: Start.Add(time.Second)}.Fold(a, &r, time.Minute)
	if a.Boots[0].Last != first.Boots[0].Last || a.Boots[0].Marks[0] != first.Boots[0].Marks[0] ||
		len(b.Boots[0].Marks) != 2 {
		t.Errorf("%+v became %+v", first, *a)
	}
}

// R27: one boot id under which a cell says in turns that something runs and that nothing was installed is used by two
// machines. One that goes back once was put back to a snapshot; one that failed its first release says so.
func TestR27OneBootSaysTwoThings(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	runs := &cells.Assignment{Channel: "c", Epoch: 1, Sequence: 1, Release: "1.0.0", Digest: "sha256:1"}
	for name, c := range map[string]struct {
		states string // p: pending, h: healthy, f: failed
		every  time.Duration
		want   bool
	}{
		"in turns":                   {"phphph", time.Second, true},
		"put back once":              {"pphhphh", time.Second, false},
		"put back twice, days apart": {"hphp", 24 * time.Hour, false},
		"failed and tried again":     {"phfhfhf", time.Second, false},
		"installed":                  {"ppphhh", time.Second, false},
	} {
		var s *plan.CellState
		for i, state := range c.states {
			r := cells.Report{Cell: "acme", Boot: "b", State: map[rune]cells.State{'p': cells.StatePending,
				'h': cells.StateHealthy, 'f': cells.StateFailed}[state]}
			if state == 'h' {
				r.Running = runs
			}
			s = plan.Receive(s, r, start.Add(time.Duration(i)*c.every), time.Minute)
		}
		if (s.Clone != "") != c.want {
			t.Errorf("%s: %q, want evidence: %v", name, s.Clone, c.want)
		}
	}
}
