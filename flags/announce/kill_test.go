package announce

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// R43, fault 63: a kill counts from storage until a commit removes it; its end is a reminder.
func TestKill(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	until := w.now.Add(time.Hour)
	w.kills = []repository.Override{{Flag: "x", Reason: "it\nburns", By: "ada", Until: until}}
	p := w.planOnce()
	if got := w.variant(p, "d1", "x"); got != "off" {
		t.Errorf("x is %s in d1 before the kill is committed", got)
	}
	if got := writeReasons(p); !slices.Equal(got, []string{"kill x: it burns (by ada)"}) ||
		p.Writes[0].Path != "overrides/kill-x.yaml" {
		t.Errorf("%q", got)
	}
	w.planUntilSettled()
	w.kills = nil
	p = w.planUntilSettled()
	if o := w.tip().Overrides; len(o) != 1 || o[0].Reason != "it\nburns" || o[0].By != "ada" ||
		!o[0].Until.Equal(until) {
		t.Errorf("%+v", o)
	}
	if got := p.channelStatus(t, "news", "dedicated").findCell("d1"); got.State != flags.Killed ||
		got.Why != "has x killed: it burns" {
		t.Errorf("%+v", got)
	}
	first := eventIDs(p)
	p = w.advanceTo(until.Add(time.Minute)).planUntilSettled()
	if got := w.variant(p, "d1", "x"); got != "off" {
		t.Errorf("x is %s in d1 after the kill's end (fault 63)", got)
	}
	if !slices.ContainsFunc(eventIDs(p), func(id string) bool { return strings.HasPrefix(id, "warning/kill/x/") }) {
		t.Errorf("no reminder in %q", eventIDs(p))
	}
	p = w.putFiles("overrides/kill-x.yaml", "").planOnce()
	if got := w.variant(p, "d1", "x"); got != "on" {
		t.Errorf("x is %s in d1 after a commit lifted it", got)
	}
	if !slices.ContainsFunc(eventIDs(p), func(id string) bool { return strings.HasPrefix(id, "lifted/x/") }) {
		t.Errorf("%q", eventIDs(p))
	}
	w.putFiles("overrides/kill-x.yaml", "apiVersion: sluice/v1\nkind: Kill\nflag: x\nreason: it\\nburns\nby: ada\n")
	again := eventIDs(w.planUntilSettled())
	for _, id := range again {
		if strings.HasPrefix(id, "killed/") && slices.Contains(first, id) {
			t.Errorf("a second kill is told as the first: %s", id)
		}
	}
}

// R43: a kill never lifts another, and replaces no other file.
func TestKillFiles(t *testing.T) {
	w := newWorld(t)
	w.putFiles("overrides/kill-x.yaml", "apiVersion: sluice/v1\nkind: Kill\nflag: x\nreason: everywhere\n")
	w.kills = []repository.Override{
		{Flag: "x", Reason: "here", Cells: repository.Selector{Names: []string{"d1"}}},
		{Flag: "plain", Reason: "no"}, {Flag: "Ünsafe/..", Reason: "no"},
	}
	w.planUntilSettled()
	var names []string
	for _, o := range w.tip().Overrides {
		names = append(names, o.Name)
	}
	if len(names) != 4 || !slices.Contains(names, "kill-x") || !slices.Contains(names, "kill-x-2") ||
		!slices.Contains(names, "kill-plain") {
		t.Errorf("%q", names)
	}
	w.kills = nil
	p := w.planUntilSettled()
	if k := p.CellFlags["d2"].Orders.Killed; len(k) != 3 {
		t.Errorf("%v", k)
	}
	// A kill of the same flag in the same cells replaces the file.
	w.kills = []repository.Override{{Flag: "x", Reason: "still"}}
	w.planUntilSettled()
	if n := len(w.tip().Overrides); n != 4 {
		t.Errorf("%d overrides", n)
	}
}

// R43: a kill reaches a cell of an unknown channel.
func TestKillWithoutChannel(t *testing.T) {
	w := newWorld(t)
	w.cells = append(w.cells, w.cell("lost", "nowhere"))
	w.kills = []repository.Override{{Flag: "x", Reason: "no"}}
	if told := w.planUntilSettled().CellFlags["lost"]; told == nil || told.Bundle != nil ||
		len(told.Orders.Killed) != 1 {
		t.Errorf("%+v", told)
	}
}
