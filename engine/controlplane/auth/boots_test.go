package auth

import (
	"strings"
	"testing"
	"time"
)

// R27: two machines with one key are found by the boot ids of their requests, also when one of them only reads; an
// agent that restarts, a machine that was put back, and agents of older versions are not.
func TestR27BootsThatTakeTurns(t *testing.T) {
	t.Parallel()
	type request struct {
		after time.Duration // since the one before
		boot  string
	}
	every := func(d time.Duration, boots ...string) (all []request) {
		for _, b := range boots {
			all = append(all, request{d, b})
		}
		return all
	}
	repeat := func(n int, all ...request) (out []request) {
		for range n {
			out = append(out, all...)
		}
		return out
	}
	agent, reader := "AGENTAGENTAGENTAGENTAGENT", "READERREADERREADERREADER"
	seldom := append(repeat(60, request{10 * time.Second, agent}), request{0, reader})
	updated := append(repeat(9, request{time.Second, ""}), repeat(9, request{time.Second, agent})...)
	for name, c := range map[string]struct {
		requests []request
		want     bool
	}{
		"a reader beside the agent":           {repeat(10, every(300*time.Millisecond, agent, reader)...), true},
		"a reader that asks seldom":           {repeat(6, seldom...), true},
		"a reader of an older version":        {repeat(10, every(time.Second, agent, "")...), true},
		"agents of an older version":          {repeat(100, every(time.Second, "", "")...), false},
		"an agent alone":                      {repeat(100, request{time.Second, agent}), false},
		"it was updated from an older one":    {updated, false},
		"it restarts, and late requests come": {every(100*time.Millisecond, strings.Split("aabababa", "")...), false},
		"it restarts often":                   {every(time.Second, strings.Split("abcdefghijklmnop", "")...), false},
		"its machine is put back once":        {every(time.Minute, "a", "a", "b", "b", "a", "a", "c", "c", "c"), false},
		"and a second time after a while":     {every(2*time.Hour, "a", "b", "a", "b", "a", "b", "a", "b"), false},
		"a reader and an agent that restarts": {append(every(3*time.Second, "a", reader, "a", reader, "b", reader),
			every(3*time.Second, "b", reader, "b", reader)...), true},
	} {
		s, now, found := sightings{}, time.Duration(0), ""
		for _, r := range c.requests {
			now += r.after
			if e := s.see(r.boot, now); e != "" {
				found = e
			}
		}
		if (found != "") != c.want {
			t.Errorf("%s: %q, want evidence: %v", name, found, c.want)
		}
		if strings.Contains(found, agent) {
			t.Errorf("%s: the evidence shows the whole boot id: %s", name, found)
		}
	}
}

// R27: a new registration begins anew, with the boot that registered.
func TestR27BootIsBoundAtRegistration(t *testing.T) {
	t.Parallel()
	w := bootWatch{clockStart: time.Now().Add(-time.Hour), cells: map[string]*sightings{}}
	w.see("acme", 1, "old", lastReport{})
	w.bind("acme", 2, "new")
	if s := w.cells["acme"]; s.epoch != 2 || len(s.boots) != 1 || s.boots[0].id != "new" {
		t.Errorf("%+v", s)
	}
	w.see("acme", 3, "newer", lastReport{})
	if s := w.cells["acme"]; s.epoch != 3 || len(s.boots) != 1 {
		t.Errorf("%+v", s)
	}
}

// R27: a reader is found where another replica serves the cell. The cell's reports reach this replica by the store,
// late and not one by one; nothing else of the cell does.
func TestR27ReaderAtAnotherReplica(t *testing.T) {
	t.Parallel()
	type heard struct {
		after time.Duration // since the one before
		boot  string        // of a request to this replica; "-": none came
		last  string        // boot of the newest report that this replica knows of
		ago   time.Duration // how old that report is
	}
	repeat := func(n int, all ...heard) (out []heard) {
		for range n {
			out = append(out, all...)
		}
		return out
	}
	for name, c := range map[string]struct {
		heard []heard
		want  bool
	}{
		"a reader": {repeat(12, heard{20 * time.Second, "reader", "agent", 3 * time.Second}), true},
		"a reader that asks more often than the cell reports": {repeat(9,
			heard{10 * time.Second, "reader", "agent", 2 * time.Second},
			heard{10 * time.Second, "reader", "agent", 12 * time.Second},
			heard{10 * time.Second, "reader", "agent", 22 * time.Second}), true},
		"the agent reports there and reads here": {
			repeat(50, heard{10 * time.Second, "agent", "agent", 3 * time.Second}), false},
		"it restarts, and its last reports come late": {append(
			repeat(9, heard{10 * time.Second, "agent", "agent", 3 * time.Second}),
			heard{time.Second, "next", "agent", time.Second}, heard{time.Second, "next", "agent", time.Second},
			heard{time.Second, "next", "agent", time.Second}, heard{time.Second, "next", "agent", 2 * time.Second},
			heard{time.Second, "next", "next", time.Second}, heard{10 * time.Second, "next", "next", time.Second}), false},
		"it restarts often": {append(append(append(
			repeat(2, heard{20 * time.Second, "a", "a", time.Second}),
			repeat(2, heard{20 * time.Second, "b", "b", time.Second})...),
			repeat(2, heard{20 * time.Second, "c", "c", time.Second})...), heard{time.Second, "d", "c", time.Second}), false},
		"the cell is silent": {repeat(12, heard{time.Minute, "reader", "agent", time.Hour}), false},
		"an agent that names its boot in reports only": {
			repeat(50, heard{10 * time.Second, "", "agent", 3 * time.Second}), false},
	} {
		now := 2 * time.Hour
		w := bootWatch{cells: map[string]*sightings{}}
		epoch, found := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), ""
		silentSince := epoch.Add(now)
		for _, h := range c.heard {
			now += h.after
			last := lastReport{h.last, epoch.Add(now - h.ago)}
			if h.ago == time.Hour {
				last.at = silentSince
			}
			w.clockStart = time.Now().Add(-now)
			if e := w.see("acme", 1, h.boot, last); e != "" {
				found = e
			}
		}
		if (found != "") != c.want {
			t.Errorf("%s: %q, want evidence: %v", name, found, c.want)
		}
	}
}
