package announce

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// gold is a rule that turns a flag off for somebody.
const gold = "    targeting: {if: [{\"==\": [{var: plan}, gold]}, \"on\", \"off\"]}\n"

// R42: definitions that are edited without approval reach entry channels only.
func TestEditedDefinitions(t *testing.T) {
	w := newWorld(t)
	w.put(file, told()).approve("news", "ada").settle()
	w.put("flags/all.yaml", flagSet(gold, "a"))
	p := w.settle()
	in := p.in(t, "news", "dedicated")
	if in.State != Armed || p.Announcements[0].Needs == "" {
		t.Fatalf("%s, needs %q", in.State, p.Announcements[0].Needs)
	}
	p = w.pass(noon()).settle()
	if x, y := w.variant(p, "d1", "x"), w.variant(p, "s1", "x"); x != "on" || y != "off" {
		t.Errorf("x is %s in d1, %s in s1", x, y)
	}
	p = w.approve("news", "ada").settle()
	if got := w.variant(p, "d1", "x"); got != "off" {
		t.Errorf("x is %s in d1 after approval", got)
	}
}

// A flag that joins a published feature is shut until it is approved, and there for those who ask.
func TestFlagJoinsFeature(t *testing.T) {
	w := newWorld(t)
	w.put(file, told()).approve("news", "ada").settle()
	w.pass(noon()).settle()
	w.put("flags/more.yaml", "flags:\n  late:\n    state: ENABLED\n    variants: {\"on\": true, \"off\": false}\n    defaultVariant: \"on\"\n    metadata: {feature: f, off: \"off\"}\n")
	w.put("heads/dedicated.yaml", "commit: \""+w.hash()+"\"\n") // as after its soak
	p := w.settle()
	if d, s := w.variant(p, "d1", "late"), w.variant(p, "s1", "late"); d != "off" || s != "on" {
		t.Errorf("late is %s in d1, %s in s1", d, s)
	}
	if got := w.variant(w.approve("news", "ada").settle(), "d1", "late"); got != "on" {
		t.Errorf("late is %s in d1 after approval", got)
	}
}

// What can't be read is off, and said.
func TestLostCommit(t *testing.T) {
	w := newWorld(t)
	w.put(file, told()).approve("news", "ada").settle()
	w.pass(noon()).settle()
	lost := w.tip().Records["news"]["dedicated"].Commit
	delete(w.trees, lost)
	if got := w.variant(w.settle(), "d1", "x"); got != "on" { // the tip says the same
		t.Errorf("x is %s in d1", got)
	}
	w.put("flags/all.yaml", flagSet(gold, "a"))
	p := w.settle()
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
	w.settle()
	w.put("flags/all.yaml", flagSet("", "b"))
	w.at("s1").Silent = true
	w.settle()
	w.pass(w.now.Add(5 * time.Hour)).settle()
	if got := w.variant(w.settle(), "d1", "plain"); got != "a" {
		t.Fatalf("plain is %s in d1, and no cell of staging has it", got)
	}
	w.at("s1").Silent = false
	w.settle()
	p := w.settle()
	began := w.now
	if p.Next.IsZero() || p.Next.After(began.Add(time.Hour)) {
		t.Errorf("the next look is at %s", p.Next)
	}
	if got := w.variant(w.pass(began.Add(time.Hour-2*time.Second)).settle(), "d1", "plain"); got != "a" {
		t.Errorf("plain is %s in d1 before the soak ended", got)
	}
	w.pass(began.Add(time.Hour + 2*time.Second)).settle()
	if got := w.variant(w.settle(), "d1", "plain"); got != "b" {
		t.Errorf("plain is %s in d1 after the soak", got)
	}
}

// A head that can't be read is no reason to have no flags.
func TestLostHead(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.put("heads/dedicated.yaml", "commit: "+strings.Repeat("f", 40)+"\n")
	p := w.settle()
	if got := w.variant(p, "d1", "plain"); got != "a" {
		t.Errorf("plain is %s in d1", got)
	}
	if len(p.Faults) == 0 {
		t.Error("nobody is told")
	}
}

// An announcement that is archived turns nothing off; its flags go as they are removed.
func TestArchived(t *testing.T) {
	w := newWorld(t)
	w.put(file, told()).approve("news", "ada").settle()
	w.pass(noon()).settle()
	w.put(file, told("archived: true"))
	p := w.settle()
	if got := p.in(t, "news", "dedicated"); got.State != Archived || w.variant(p, "d1", "x") != "on" {
		t.Fatalf("%s, and x is %s", got.State, w.variant(p, "d1", "x"))
	}
	w.put("flags/all.yaml", "flags:\n  plain:\n    state: ENABLED\n    variants: {a: 1, b: 2}\n    defaultVariant: a\n")
	p = w.settle()
	if got := w.variant(p, "d1", "x"); got != "on" {
		t.Errorf("x is %s in d1 before staging did without it for the soak", got)
	}
	w.settle()
	w.pass(w.now.Add(2 * time.Hour)).settle()
	p = w.settle()
	if b := p.Told["d1"].Bundle; len(b.Flags) != 1 || len(b.Gates) != 0 {
		t.Errorf("d1 still has %d flags and %d gates", len(b.Flags), len(b.Gates))
	}
	if got := p.in(t, "news", "dedicated"); got.cell("d1").State != flags.Retired {
		t.Errorf("%+v", got)
	}
}

// R45: of an announcement under embargo nobody sees keys before its time, also where its gate is not.
func TestHidden(t *testing.T) {
	w := newWorld(t)
	w.put(file, told("embargo: true", "cells: {names: [d1]}", "channels: {staging: never}")).approve("news", "ada")
	p := w.settle()
	hidden := func(p Plan, name string) string { return strings.Join(p.Told[name].Bundle.Hidden, " ") }
	for name, want := range map[string]string{"d1": "", "d2": "f", "s1": "f"} {
		if got := hidden(p, name); got != want {
			t.Errorf("%s hides %q, not %q", name, got, want)
		}
	}
	if gates := p.Told["d1"].Bundle.Gates; len(gates) != 1 || !gates[0].Embargo {
		t.Errorf("%+v", gates)
	}
	p = w.pass(noon()).settle()
	if got := hidden(p, "d2") + hidden(p, "s1"); got != "" {
		t.Errorf("hidden after its time: %q", got)
	}
}
