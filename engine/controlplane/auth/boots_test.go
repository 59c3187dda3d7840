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
	w.see("acme", 1, "old")
	w.bind("acme", 2, "new")
	if s := w.cells["acme"]; s.epoch != 2 || len(s.boots) != 1 || s.boots[0].id != "new" {
		t.Errorf("%+v", s)
	}
	w.see("acme", 3, "newer")
	if s := w.cells["acme"]; s.epoch != 3 || len(s.boots) != 1 {
		t.Errorf("%+v", s)
	}
}
