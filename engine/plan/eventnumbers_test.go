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

// eventHistory is a store's history of events: the first event with a number on a line stays.
type eventHistory struct {
	there map[string]bool
	all   []string
}

func (k *eventHistory) add(h plan.FreshEvents) {
	for _, e := range h.Events {
		key := fmt.Sprint(h.Line, " ", e.Number)
		if !k.there[key] {
			k.there[key] = true
			k.all = append(k.all, fmt.Sprint(e.Number, e.Detail))
		}
	}
}

// Fault 45: numbers that go back or skip are noticed and named. Whatever they do, each event is kept, and kept once.
func TestEventNumbersOutOfOrder(t *testing.T) {
	const long = 10 * time.Minute
	for name, c := range map[string]struct {
		story []report
		kept  string
		what  string // the last miscount; empty: none
		times int64
	}{
		"in order": {
			[]report{
				{boot: "A", events: "1a 2b"}, {boot: "A", confirmed: 2, events: "3c"},
				{boot: "B", confirmed: 3, events: "4d"},
			},
			"1a 2b 3c 4d", "", 0,
		},
		"first heard of late": {[]report{{boot: "A", confirmed: 40, events: "41a"}}, "41a", "", 0},
		"sent again": {
			[]report{{boot: "A", events: "1a 2b"}, {boot: "A", events: "1a 2b 3c"}}, "1a 2b 3c", "", 0,
		},
		"sent again by a new one": {
			[]report{
				{boot: "A", events: "1a 2b"}, {boot: "B", events: "1a 2b 3c"}, {boot: "B", confirmed: 3, events: "4d"},
			},
			"1a 2b 3c 4d", "", 0,
		},
		"skipped": {
			[]report{{boot: "A", events: "1a"}, {boot: "A", confirmed: 1, events: "4d 5e"}, {boot: "A", confirmed: 5}},
			"1a 4d 5e", "events 2 to 3 never came", 1,
		},
		"skipped within": {[]report{{boot: "A", events: "1a 3c"}}, "1a 3c", "events 2 to 2 never came", 1},
		"skipped by a new one": {
			[]report{{boot: "A", events: "1a"}, {boot: "B", confirmed: 1, events: "9x"}}, "1a 9x",
			"events 2 to 8 never came", 1,
		},
		"skipped at first": {[]report{{boot: "A", events: "7a"}}, "7a", "events 1 to 6 never came", 1},
		"dropped by the agent": {
			[]report{{boot: "A", events: "1a"}, {boot: "A", confirmed: 1, events: "40gap 41x"}}, "1a 40gap 41x", "", 0,
		},
		"agent restored": {[]report{
			{boot: "A", events: "1a 2b 3c"}, {boot: "A", confirmed: 3, events: "4d"},
			{boot: "B", confirmed: 1, events: "2x"}, {boot: "B", confirmed: 2, events: "3y"},
		},
			"1a 2b 3c 4d 2x 3y", "event numbers went back from 4 to 1", 1},
		"restored, and as far as before": {[]report{
			{boot: "A", events: "1a 2b 3c"}, {boot: "B", confirmed: 1, events: "2x 3y 4z"},
			{boot: "B", confirmed: 4, events: "5v"},
		},
			"1a 2b 3c 2x 3y 4z 5v", "event numbers went back from 3 to 1", 1},
		"machine put back": {[]report{
			{boot: "A", events: "1a 2b"}, {boot: "A", confirmed: 2, events: "3c 4d"},
			{boot: "A", after: long, confirmed: 2, events: "3x"}, {boot: "A", confirmed: 2, events: "3x"},
			{boot: "A", confirmed: 3, events: "4y"},
		},
			"1a 2b 3c 4d 3x 4y", "event numbers went back from 4 to 2", 1},
		"put back by more than is remembered": {[]report{
			{boot: "A", events: "1a 2b 3c"}, {boot: "A", confirmed: 3, events: "4d 5d 6d 7d 8d 9d 10d 11d 12d"},
			{boot: "A", confirmed: 12}, {boot: "A", after: long, confirmed: 1, events: "2x 3y"},
			{boot: "A", confirmed: 3, events: "4z"},
		},
			"1a 2b 3c 4d 5d 6d 7d 8d 9d 10d 11d 12d 2x 3y 4z", "event numbers went back from 12 to 1", 1},
		"two machines, one snapshot": {
			[]report{
				{boot: "A", events: "1a"}, {boot: "A", confirmed: 1, events: "2b"},
				{boot: "A", confirmed: 1, events: "2x"},
			},
			"1a 2b 2x", "event numbers went back from 2 to 1", 1,
		},
		"overtaken": {
			[]report{
				{boot: "A", events: "1a", sent: -time.Second},
				{boot: "A", confirmed: 1, events: "2b 3c", sent: -time.Second},
				{boot: "A", confirmed: 3, events: "4d", sent: -time.Second},
				{boot: "A", confirmed: 1, events: "2b 3c", sent: -80 * time.Second},
				{boot: "A", confirmed: 4, events: "5e", sent: -time.Second},
			},
			"1a 2b 3c 4d 5e", "", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := eventHistory{there: map[string]bool{}}
			var s *plan.CellState
			at := Start
			for _, one := range c.story {
				if one.after == 0 {
					one.after = 30 * time.Second
				}
				at = at.Add(one.after)
				r := one.toReport(t)
				if one.sent != 0 {
					r.Sent = at.Add(one.sent)
				}
				var h plan.FreshEvents
				s, _, h = plan.ReportArrival{At: at, Local: at}.Fold(s, &r, 5*time.Minute)
				k.add(h)
			}
			if got := strings.Join(k.all, " "); got != c.kept {
				t.Errorf("kept %q, want %q", got, c.kept)
			}
			var m plan.Miscount
			if s.Miscount != nil {
				m = *s.Miscount
			}
			if m.What != c.what || m.Times != c.times {
				t.Errorf("said %q, %d times, want %q, %d", m.What, m.Times, c.what, c.times)
			}
		})
	}
}

// R9: a report that was held up describes the time when it was sent. It neither heals a cell nor makes it unhealthy,
// and it does not show that an older boot is alive (R27).
func TestOvertakenReportsSayNothingOfNow(t *testing.T) {
	a := &cells.Assignment{Channel: "staging", Sequence: 1, Release: "1.0.0", Digest: "sha256:a"}
	var s *plan.CellState
	at := Start
	tell := func(boot string, state cells.State, onItsWay time.Duration) {
		at = at.Add(20 * time.Second)
		s, _, _ = plan.ReportArrival{At: at, Local: at}.Fold(s,
			&cells.Report{Cell: "s1", Boot: boot, Sent: at.Add(-onItsWay), State: state, Running: a}, 5*time.Minute)
	}
	tell("A", cells.StateHealthy, 0)
	tell("A", cells.StateHealthy, 0)
	tell("A", cells.StateUnhealthy, 0)
	heard := s.LastReport
	tell("A", cells.StateHealthy, 50*time.Second)
	if s.State != cells.StateUnhealthy || s.LastReport != heard || s.Version != 4 {
		t.Errorf("it is %+v", s)
	}
	tell("A", cells.StateHealthy, 0)
	if s.Soaked != 0 || s.State != cells.StateHealthy {
		t.Errorf("soaked %s, %s", s.Soaked, s.State)
	}
	for range 3 { // the agent restarts, each time while a report of the boot before is held up
		tell("B", cells.StateHealthy, 0)
		tell("A", cells.StateUnhealthy, 25*time.Second)
	}
	if s.Clone != "" || s.State != cells.StateHealthy || s.Soaked < time.Minute {
		t.Errorf("clone %q, %s, soaked %s", s.Clone, s.State, s.Soaked)
	}
	for range 3 { // a clock that is set back costs one report
		at = at.Add(20 * time.Second)
		s, _, _ = plan.ReportArrival{At: at, Local: at}.Fold(s,
			&cells.Report{
				Cell: "s1", Boot: "B", Sent: at.Add(-time.Hour), State: cells.StateFailed, Running: a,
			}, 5*time.Minute)
	}
	if s.State != cells.StateFailed || s.LastReport != at {
		t.Errorf("it is %s at %s", s.State, s.LastReport)
	}
}
