package engine

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
)

func newFlagsEngine(t *testing.T, w *World) *Engine {
	t.Helper()
	e, err := New(t.Context(), newBranch(w), newMemoryStore(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Gates see flags, and each promotion records their commit; a plan has nothing else of them.
func TestGatesSeeFlags(t *testing.T) {
	t.Parallel()
	w := NewWorld(t, Union(Policy("staging", "gates: [{when: '!(\"editor\" in flags.killed)'}]\n"), Release("1.0.0"),
		CellFiles("staging", "s1")))
	e := newFlagsEngine(t, w)
	killed := &view.Flags{Seen: plan.FlagsSeen{Commit: "f1", Killed: []string{"editor"}}}
	e.Announce(killed)
	if _, err := e.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := e.View(); v.Flags != killed || v.Desired.Channels["staging"].Effective != nil {
		t.Fatalf("a killed flag does not hold the release: %+v", v.Plan)
	}
	<-e.signals.changed // sent by the lease, and by the first Announce
	changed := e.Changed()
	e.Announce(&view.Flags{Seen: plan.FlagsSeen{Commit: "f1", Killed: []string{"editor"}}})
	select {
	case <-changed:
	default:
		t.Error("no other view was shown")
	}
	select {
	case <-e.signals.changed:
		t.Error("a plan is made though gates see nothing else")
	default:
	}
	e.Announce(&view.Flags{Seen: plan.FlagsSeen{Commit: "the second"}})
	select {
	case <-e.signals.changed:
	default:
		t.Error("no plan is made though gates see something else")
	}
	if _, err := e.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	var d plan.Decision
	if text := w.Files["channels/staging/decision.json"]; json.Unmarshal([]byte(text), &d) != nil ||
		d.Flags != "the second" {
		t.Errorf("the decision: %s", text)
	}
	if p, err := json.Marshal(e.View().Plan); err != nil || strings.Contains(string(p), "the second") {
		t.Errorf("the plan says %s (%v)", p, err)
	}
}

// A change of a cell's flags wakes the announcer, and does not hasten the next plan.
func TestFlagsReported(t *testing.T) {
	t.Parallel()
	w := NewWorld(t, Union(Policy("staging", ""), Release("1.0.0"), Head("staging", "1.0.0"),
		CellFiles("staging", "s1")))
	e := newFlagsEngine(t, w)
	if _, err := e.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := func(state flags.CellState) {
		t.Helper()
		r := cells.Report{Cell: "s1", Boot: "b", State: cells.StatePending, Sent: time.Now(),
			Flags: &cells.FlagsReport{Height: 1, States: map[string]flags.CellState{"classes": state}}}
		if _, err := e.Receive(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
	}
	woken := func() (flagged, moved bool) {
		select {
		case <-e.FlagsReported():
			flagged = true
		default:
		}
		select {
		case <-e.signals.changed:
			moved = true
		default:
		}
		return flagged, moved
	}
	report(flags.Armed)
	if flagged, moved := woken(); !flagged || !moved {
		t.Errorf("the first report: %v, %v", flagged, moved)
	}
	report(flags.Armed)
	if flagged, moved := woken(); flagged || moved {
		t.Errorf("the same: %v, %v", flagged, moved)
	}
	report(flags.On)
	if flagged, moved := woken(); !flagged || moved {
		t.Errorf("another state: %v, %v", flagged, moved)
	}
	if s := e.CellStates()["s1"]; s.Flags.States["classes"] != flags.On {
		t.Errorf("kept %+v", s.Flags)
	}
}
