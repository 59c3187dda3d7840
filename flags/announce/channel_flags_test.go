package announce

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// goldRule turns a flag off for some users.
const goldRule = "    targeting: {if: [{\"==\": [{var: plan}, gold]}, \"on\", \"off\"]}\n"

// R42: definitions edited without approval reach entry channels only.
func TestEditedDefinitions(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.putFiles("flags/all.yaml", flagSetYAML(goldRule, "a"))
	p := w.planUntilSettled()
	in := p.channelStatus(t, "news", "dedicated")
	if in.State != Armed || p.Announcements[0].Needs == "" {
		t.Fatalf("%s, needs %q", in.State, p.Announcements[0].Needs)
	}
	p = w.advanceTo(noon()).planUntilSettled()
	if x, y := w.variant(p, "d1", "x"), w.variant(p, "s1", "x"); x != "on" || y != "off" {
		t.Errorf("x is %s in d1, %s in s1", x, y)
	}
	p = w.approve("news", "ada").planUntilSettled()
	if got := w.variant(p, "d1", "x"); got != "off" {
		t.Errorf("x is %s in d1 after approval", got)
	}
}

// A flag that joins a published feature is shut until the flag is approved.
func TestFlagJoinsFeature(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	w.putFiles("flags/more.yaml",
		"flags:\n  late:\n    state: ENABLED\n    variants: {\"on\": true, \"off\": false}\n    defaultVariant: \"on\"\n    metadata: {feature: f, off: \"off\"}\n")
	w.putFiles("heads/dedicated.yaml", "commit: \""+w.hash()+"\"\n") // as after its soak
	p := w.planUntilSettled()
	if d, s := w.variant(p, "d1", "late"), w.variant(p, "s1", "late"); d != "off" || s != "on" {
		t.Errorf("late is %s in d1, %s in s1", d, s)
	}
	if got := w.variant(w.approve("news", "ada").planUntilSettled(), "d1", "late"); got != "on" {
		t.Errorf("late is %s in d1 after approval", got)
	}
}

// An unreadable commit turns features off and is a fault.
func TestLostCommit(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	lost := w.tip().Records["news"]["dedicated"].Commit
	delete(w.trees, lost)
	if got := w.variant(w.planUntilSettled(), "d1", "x"); got != "on" { // the tip says the same
		t.Errorf("x is %s in d1", got)
	}
	w.putFiles("flags/all.yaml", flagSetYAML(goldRule, "a"))
	p := w.planUntilSettled()
	if got := w.variant(p, "d1", "x"); got != "off" {
		t.Errorf("x is %s in d1", got)
	}
	if len(p.Faults) == 0 || !strings.Contains(p.Faults[len(p.Faults)-1].Message, "can't be read") {
		t.Errorf("%v", p.Faults)
	}
}

// R42: flags without an announcement follow after they were in force upstream for the soak.
func TestHeads(t *testing.T) {
	w := newWorld(t)
	w.planUntilSettled()
	w.putFiles("flags/all.yaml", flagSetYAML("", "b"))
	w.findCell("s1").Silent = true
	w.planUntilSettled()
	w.advanceTo(w.now.Add(5 * time.Hour)).planUntilSettled()
	if got := w.variant(w.planUntilSettled(), "d1", "plain"); got != "a" {
		t.Fatalf("plain is %s in d1, and no cell of staging has it", got)
	}
	w.findCell("s1").Silent = false
	w.planUntilSettled()
	p := w.planUntilSettled()
	began := w.now
	if p.Next.IsZero() || p.Next.After(began.Add(time.Hour)) {
		t.Errorf("the next look is at %s", p.Next)
	}
	if got := w.variant(w.advanceTo(began.Add(time.Hour-2*time.Second)).planUntilSettled(), "d1", "plain"); got != "a" {
		t.Errorf("plain is %s in d1 before the soak ended", got)
	}
	w.advanceTo(began.Add(time.Hour + 2*time.Second)).planUntilSettled()
	if got := w.variant(w.planUntilSettled(), "d1", "plain"); got != "b" {
		t.Errorf("plain is %s in d1 after the soak", got)
	}
}

// Without a readable head a channel still has flags.
func TestLostHead(t *testing.T) {
	w := newWorld(t)
	w.planUntilSettled()
	w.putFiles("heads/dedicated.yaml", "commit: "+strings.Repeat("f", 40)+"\n")
	p := w.planUntilSettled()
	if got := w.variant(p, "d1", "plain"); got != "a" {
		t.Errorf("plain is %s in d1", got)
	}
	if len(p.Faults) == 0 {
		t.Error("nobody is told")
	}
}

// An archived announcement turns nothing off; its flags go as they are removed.
func TestArchived(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	w.putFiles(newsFile, newsYAML("archived: true"))
	p := w.planUntilSettled()
	if got := p.channelStatus(t, "news", "dedicated"); got.State != Archived || w.variant(p, "d1", "x") != "on" {
		t.Fatalf("%s, and x is %s", got.State, w.variant(p, "d1", "x"))
	}
	w.putFiles("flags/all.yaml",
		"flags:\n  plain:\n    state: ENABLED\n    variants: {a: 1, b: 2}\n    defaultVariant: a\n")
	p = w.planUntilSettled()
	if got := w.variant(p, "d1", "x"); got != "on" {
		t.Errorf("x is %s in d1 before staging did without it for the soak", got)
	}
	w.planUntilSettled()
	w.advanceTo(w.now.Add(2 * time.Hour)).planUntilSettled()
	p = w.planUntilSettled()
	if b := p.CellFlags["d1"].Bundle; len(b.Flags) != 1 || len(b.Gates) != 0 {
		t.Errorf("d1 still has %d flags and %d gates", len(b.Flags), len(b.Gates))
	}
	if got := p.channelStatus(t, "news", "dedicated"); got.findCell("d1").State != flags.Retired {
		t.Errorf("%+v", got)
	}
}

// R45: keys of an embargoed announcement don't show before its time, even where it has no gate.
func TestHidden(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile,
		newsYAML("embargo: true", "cells: {names: [d1]}", "channels: {staging: never}")).approve("news", "ada")
	p := w.planUntilSettled()
	hidden := func(p Plan, name string) string { return strings.Join(p.CellFlags[name].Bundle.Hidden, " ") }
	for name, want := range map[string]string{"d1": "", "d2": "f", "s1": "f"} {
		if got := hidden(p, name); got != want {
			t.Errorf("%s hides %q, not %q", name, got, want)
		}
	}
	if gates := p.CellFlags["d1"].Bundle.Gates; len(gates) != 1 || !gates[0].Embargo {
		t.Errorf("%+v", gates)
	}
	p = w.advanceTo(noon()).planUntilSettled()
	if got := hidden(p, "d2") + hidden(p, "s1"); got != "" {
		t.Errorf("hidden after its time: %q", got)
	}
}
