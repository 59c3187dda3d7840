package announce

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// fleetWorld returns 20 cells of dedicated, ca to ct, and an announcement that is armed for them.
func fleetWorld(t *testing.T) *world {
	w := newWorld(t)
	w.cells = []Cell{w.cell("s1", "staging")}
	for _, n := range "abcdefghijklmnopqrst" {
		w.cells = append(w.cells, w.cell("c"+string(n), "dedicated"))
	}
	for name, waits := range map[string]HeadWait{"cb": {Text: "soak until 2026-12-01T18:00:00Z"},
		"cd": {Text: "is paused by its owner", Owner: true}} {
		w.downgrade(name)
		w.findCell(name).HeadWait = waits
	}
	w.putFiles(newsFile, newsYAML("ramp: {steps: [{percent: 25}, {percent: 100, after: 2h}]}")).approve("news",
		"ada").planUntilSettled()
	return w
}

func TestSentences(t *testing.T) {
	w := fleetWorld(t)
	waiting := "; cb waits for 2.0.0 (soak until 2026-12-01T18:00:00Z); cd is paused by its owner"
	say := func(want string) {
		t.Helper()
		if got := w.planUntilSettled().Announcements[0].Summary; got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	say("18 of 20 cells will light up on 2026-12-01 at 12:00 Europe/Berlin" + waiting)
	w.advanceTo(noon().Add(-12 * time.Hour))
	say("18 of 20 cells will light up at 12:00 Europe/Berlin" + waiting)
	w.advanceTo(noon())
	say("18 of 20 cells have it, on for 25 %, 18 unconfirmed" + waiting)
	w.upgrade("cb")
	w.upgrade("cd")
	for i := range w.cells {
		w.cells[i].Report = &Report{States: map[string]flags.CellState{"news": flags.On}}
	}
	w.advanceTo(noon().Add(2 * time.Hour))
	say("20 of 20 cells have it")
	w.findCell("ce").Report.States["news"] = flags.Held
	say("19 of 20 cells have it; ce is held by its owner")
	w.downgrade("ca")
	say("18 of 20 cells have it; ca is suspended: it runs 1.0.0 without f; ce is held by its owner")
	for _, n := range []string{"cf", "cg", "ch", "ci"} {
		w.downgrade(n)
	}
	say(
		"14 of 20 cells have it; ca is suspended: it runs 1.0.0 without f; ce is held by its owner; cf is suspended: it runs 1.0.0 without f; 3 more do not",
	)
}

// TestWordsOfADraftAndOfItsCommit checks the words about a draft, and the message of the commit that arms it.
func TestWordsOfADraftAndOfItsCommit(t *testing.T) {
	w := newWorld(t)
	draft := w.putFiles(newsFile, newsYAML()).planUntilSettled()
	if got := draft.channelStatus(t, "news", "dedicated"); got.State != Draft ||
		got.findCell("d1").Why != "ready: 1 approval is missing, from product" {
		t.Errorf("%s: d1 is %+v", got.State, got.findCell("d1"))
	}
	writes := Make(w.approve("news", "ada").input()).Writes
	if len(writes) != 1 || !strings.HasPrefix(writes[0].Why, "arm news in dedicated for ") ||
		!strings.HasSuffix(writes[0].Why, " (approved by ada; 3 of 3 cells ready)") {
		t.Errorf("%+v", writes)
	}
}

func TestCellStates(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	said := func(state flags.CellState) *Report {
		return &Report{States: map[string]flags.CellState{"news": state}}
	}
	for name, c := range map[string]struct {
		do        func(c *Cell)
		state     flags.CellState
		confirmed bool
	}{
		"it says so": {func(c *Cell) { c.Report = said(flags.On) }, flags.On, true},
		"it said so of something older": {
			func(c *Cell) { c.Report, c.Silent, w.inForce[c.Name] = said(flags.On), true, "older" }, flags.On, false,
		},
		"it said so before the time":  {func(c *Cell) { c.Report = said(flags.Armed) }, flags.On, false},
		"it says that its owner does": {func(c *Cell) { c.Report = said(flags.Held) }, flags.Held, true},
		"nothing":                     {func(c *Cell) { c.Report = nil }, flags.On, false},
		"it has the release no more": {
			func(c *Cell) { c.Report, c.Features = said(flags.On), nil }, flags.Suspended, false,
		},
		"and says so": {
			func(c *Cell) { c.Report, c.Features = said(flags.Suspended), nil }, flags.Suspended, true,
		},
		"it never had it": {
			func(c *Cell) { c.Report, c.Features = said(flags.Waiting), nil }, flags.Waiting, true,
		},
		"nothing is known of it": {
			func(c *Cell) { c.Report, c.Features, c.Known = nil, nil, false }, flags.Waiting, false,
		},
		"it runs something, and is mute": {func(c *Cell) { c.Report, c.Features = nil, nil }, flags.Waiting, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := *w.findCell("d1")
			c.do(w.findCell("d1"))
			w.planOnce()
			p := w.planOnce()
			if got := p.channelStatus(t, "news", "dedicated").findCell("d1"); got.State != c.state ||
				got.Confirmed != c.confirmed {
				t.Errorf("%+v", got)
			}
			*w.findCell("d1") = before
		})
	}
}

// A report that leaves out a new announcement does not mean on: nothing is suspended there.
func TestNotToldYet(t *testing.T) {
	w := newWorld(t)
	for i := range w.cells {
		w.cells[i].Report = &Report{}
	}
	w.planUntilSettled()
	w.putFiles(newsFile,
		strings.Replace(newsYAML("channels: {staging: ready}"), "[f]", "[g]", 1)).approve("news", "ada")
	for range 3 {
		p := w.planOnce()
		if got := p.channelStatus(t, "news", "staging").findCell("s1"); got.State != flags.Waiting ||
			len(p.Memory.Ongoing) != 0 {
			t.Fatalf("%+v, told %q", got, eventIDs(p))
		}
		w.findCell("s1").Report = &Report{States: map[string]flags.CellState{"news": flags.Waiting}}
	}
}

// A suspension and its end are reported once per episode.
func TestSuspended(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	w.findCell("d1").Report = &Report{States: map[string]flags.CellState{"news": flags.On}}
	only := func(p Plan) (ids []string) {
		for _, id := range eventIDs(p) {
			if strings.HasPrefix(id, "suspended/") || strings.HasPrefix(id, "resumed/") {
				ids = append(ids, id)
			}
		}
		return ids
	}
	w.planUntilSettled()
	seen := map[string]bool{}
	for range 2 {
		w.downgrade("d1")
		first := only(w.planUntilSettled())
		if len(first) != 1 || seen[first[0]] ||
			!slices.Equal(first, only(w.advanceTo(w.now.Add(time.Minute)).planUntilSettled())) {
			t.Fatalf("%q after %v", first, seen)
		}
		w.memory = Memory{} // the process restarted
		if again := only(w.planUntilSettled()); !slices.Equal(again, first) {
			t.Errorf("told again: %q after %q", again, first)
		}
		w.upgrade("d1")
		p := w.planOnce()
		if got := only(p); len(got) != 1 || got[0] != "resumed/"+strings.TrimPrefix(first[0], "suspended/") {
			t.Errorf("%q", got)
		}
		if got := only(w.planOnce()); len(got) != 0 {
			t.Errorf("told again: %q", got)
		}
		seen[first[0]] = true
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.downgrade("d1")
	w.putFiles(newsFile, newsYAML("channels: {staging: never}"))
	p := w.planUntilSettled()
	if len(p.Events) != 0 {
		t.Errorf("%q", eventIDs(p))
	}
	p = w.advanceTo(noon().Add(-24 * time.Hour)).planUntilSettled()
	want := []string{"warning/news/dedicated/1796122800/24h/approvals", "warning/news/dedicated/1796122800/24h/cells"}
	if got := eventIDs(p); !slices.Equal(got, want) || len(p.Announcements[0].Warnings) != 2 {
		t.Errorf("%q: %q", got, p.Announcements[0].Warnings)
	}
	w.approve("news", "ada")
	p = w.advanceTo(noon().Add(-time.Hour)).planUntilSettled()
	if got := eventIDs(p); !slices.Equal(got, []string{"warning/news/dedicated/1796122800/1h/cells"}) {
		t.Errorf("%q", got)
	}
	p = w.advanceTo(noon()).planUntilSettled()
	if got := eventIDs(p); !slices.Equal(got, []string{"published/news/dedicated/1796122800"}) {
		t.Errorf("%q", got)
	}
	if got := p.Published(); !slices.Equal(got["dedicated"], []string{"f"}) || len(got["staging"]) != 0 {
		t.Errorf("gates see %v", got)
	}
	p = w.putFiles(newsFile,
		strings.Replace(newsYAML("channels: {staging: never}"), "[f]", "[f, g]", 1)).planUntilSettled()
	if got := p.Published(); !slices.Equal(got["dedicated"], []string{"f"}) {
		t.Errorf("of an edit that nobody approved gates see %v", got)
	}
	w.putFiles(newsFile, newsYAML("channels: {staging: never}", "cancelled: it hurts"))
	p = w.planUntilSettled()
	if got := eventIDs(p); !slices.Equal(got, []string{"retracted/news/dedicated/1796122800"}) ||
		len(p.Published()) != 0 {
		t.Errorf("%q, %v", got, p.Published())
	}
	w.putFiles(newsFile, newsYAML("channels: {staging: never}")).planUntilSettled()
	p = w.putFiles(newsFile, newsYAML("channels: {staging: never}", "cancelled: again")).planUntilSettled()
	if got := eventIDs(p); !slices.Equal(got, []string{"retracted/news/dedicated/1796122800/1"}) {
		t.Errorf("taken back again: %q", got)
	}
	if got := eventIDs(w.advanceTo(noon().Add(30 * 24 * time.Hour)).planUntilSettled()); len(got) != 0 {
		t.Errorf("a month later: %q", got)
	}
}

func TestFaults(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile,
		newsYAML("channels: {nowhere: ready}", "cells: {names: [d1, gone], channels: [dedicated, lost]}"),
		"announcements/more.yaml", strings.Replace(newsYAML(), "[f]", "[g]", 1))
	var got []string
	for _, f := range w.planUntilSettled().Faults {
		got = append(got, f.String())
	}
	want := []string{
		"announcements/more.yaml: warning: no release contains the feature g",
		"announcements/news.yaml: warning: cells.channels: there is no channel lost",
		"announcements/news.yaml: warning: cells.names: there is no cell gone",
		"announcements/news.yaml: warning: channels: there is no channel nowhere",
		"flags/all.yaml:12: warning: flag z: no release contains the feature g",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

func TestStale(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML("ramp: {steps: [{percent: 10}, {percent: 100, after: 1h}]}")).approve("news",
		"ada").planUntilSettled()
	keys := func() (all []string) {
		w.planUntilSettled()
		for _, f := range Stale(w.input()) {
			all = append(all, f.Key+"@"+f.Since)
		}
		return all
	}
	w.releases = w.releases[1:]
	check := func(when string, want ...string) {
		t.Helper()
		if got := keys(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", when, got, want)
		}
	}
	check("before", "plain@")
	w.advanceTo(noon())
	check("on a ramp", "plain@")
	w.advanceTo(noon().Add(time.Hour))
	check("on everywhere", "plain@", "x@2.0.0", "y@2.0.0")
	w.releases = append([]Release{{Version: "1.0.0"}}, w.releases...)
	check("a release lacks it", "plain@")
	w.releases = w.releases[1:]
	w.kills = []repository.Override{{Flag: "y", Reason: "no"}}
	check("killed", "plain@", "x@2.0.0")
	w.putFiles("flags/all.yaml", flagSetYAML(goldRule, "a"))
	check("not a constant", "plain@")
}

// Without the file and the recorded commit the plan still works.
func TestNothingLeft(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	w.downgrade("d1")
	w.findCell("d1").Report = &Report{States: map[string]flags.CellState{"news": flags.Suspended}}
	if p := w.planOnce(); len(p.Memory.Ongoing) != 1 {
		t.Fatalf("what goes on: %v", p.Memory.Ongoing)
	}
	w.putFiles(newsFile, "")
	in := w.input()
	in.Trees = nil
	p := Make(in)
	if got := p.channelStatus(t, "news", "dedicated"); got.State != Publishing || len(got.Cells) > 0 ||
		len(p.Events) > 1 {
		t.Errorf("%+v, and events %v", got, eventIDs(p))
	}
}
