package engine

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
)

func told(height int64, bundle, orders string) *Flags {
	f := &cells.Flags{Height: height, Bundle: cells.FlagBundle{Digest: releases.DigestBytes([]byte(bundle))}, Orders: cells.Sealed{Digest: releases.DigestBytes([]byte(orders))}}
	return &Flags{Height: height, Told: map[string]*cells.Flags{"s1": f}}
}

func flagged(t *testing.T, w *world) *Engine {
	t.Helper()
	e, err := New(t.Context(), newBranch(w), newMemory(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// R31: what a cell is told changes with its bundle, its orders and its labels, and not with the height that they are of.
func TestKeyHasFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, union(policy("staging", ""), release("1.0.0"), head("staging", "1.0.0"), cellFiles("staging", "s1", "s2")))
	view := func(f *Flags) *View { return &View{Desired: w.desired(), Observed: &w.obs, Flags: f} }
	base := view(told(7, "b", "o"))
	key, _ := base.Key("s1")
	d, etag, _ := base.Cell("s1")
	if d.Flags == nil || d.Flags.Height != 7 || d.Flags.Bundle.Digest != key.Flags.Bundle || d.Flags.Orders.Digest != key.Flags.Orders {
		t.Errorf("told %+v under %+v", d.Flags, key)
	}
	if d, _, _ := base.Cell("s2"); d.Flags != nil {
		t.Errorf("s2 is told %+v", d.Flags)
	}
	for what, c := range map[string]struct {
		v    *View
		same bool
	}{
		"the height": {view(told(8, "b", "o")), true},
		"the bundle": {view(told(7, "c", "o")), false},
		"the orders": {view(told(7, "b", "p")), false},
		"no flags":   {view(nil), false},
	} {
		_, got, _ := c.v.Cell("s1")
		if now, _ := c.v.Key("s1"); (now == key) != c.same || (got == etag) != c.same {
			t.Errorf("%s: ETag %s, before %s", what, got, etag)
		}
	}
	w.commit("bob", "label", map[string]string{"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nlabels: {region: eu}\n"})
	labelled := view(told(7, "b", "o"))
	d, got, _ := labelled.Cell("s1")
	if got == etag || d.Flags.Labels["region"] != "eu" {
		t.Errorf("labels: told %+v under %s", d.Flags, got)
	}
	if told := labelled.Flags.Told["s1"]; told.Labels != nil {
		t.Error("what cells share has one cell's labels")
	}
}

// Gates see flags, and each promotion records the commit that they were seen at; a plan says nothing else of them.
func TestGatesSeeFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, union(policy("staging", "gates: [{when: '!(\"editor\" in flags.killed)'}]\n"), release("1.0.0"), cellFiles("staging", "s1")))
	e := flagged(t, w)
	killed := &Flags{Seen: FlagsSeen{Commit: "f1", Killed: []string{"editor"}}}
	e.Announce(killed)
	if _, err := e.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := e.View(); v.Flags != killed || v.Desired.Channels["staging"].Effective != nil {
		t.Fatalf("a killed flag does not hold the release: %+v", v.Plan)
	}
	<-e.moved // of the lease, and of the first Announce
	changed := e.Changed()
	e.Announce(&Flags{Seen: FlagsSeen{Commit: "f1", Killed: []string{"editor"}}})
	select {
	case <-changed:
	default:
		t.Error("no other view was shown")
	}
	select {
	case <-e.moved:
		t.Error("a plan is made though gates see nothing else")
	default:
	}
	e.Announce(&Flags{Seen: FlagsSeen{Commit: "the second"}})
	select {
	case <-e.moved:
	default:
		t.Error("no plan is made though gates see something else")
	}
	if _, err := e.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	var d Decision
	if text := w.files["channels/staging/decision.json"]; json.Unmarshal([]byte(text), &d) != nil || d.Flags != "the second" {
		t.Errorf("the decision: %s", text)
	}
	if plan, err := json.Marshal(e.View().Plan); err != nil || strings.Contains(string(plan), "the second") {
		t.Errorf("the plan says %s (%v)", plan, err)
	}
}

// A cell's other word on flags wakes who announces, and makes no plan of releases sooner.
func TestFlagsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, union(policy("staging", ""), release("1.0.0"), head("staging", "1.0.0"), cellFiles("staging", "s1")))
	e := flagged(t, w)
	if _, err := e.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := func(state flags.CellState) {
		t.Helper()
		r := cells.Report{Cell: "s1", Boot: "b", State: cells.StatePending, Sent: time.Now(), Flags: &cells.FlagsReport{Height: 1, States: map[string]flags.CellState{"classes": state}}}
		if _, err := e.Receive(t.Context(), r); err != nil {
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
		case <-e.moved:
			moved = true
		default:
		}
		return flagged, moved
	}
	report(flags.Ready)
	if flagged, moved := woken(); !flagged || !moved {
		t.Errorf("the first report: %v, %v", flagged, moved)
	}
	report(flags.Ready)
	if flagged, moved := woken(); flagged || moved {
		t.Errorf("the same: %v, %v", flagged, moved)
	}
	report(flags.On)
	if flagged, moved := woken(); !flagged || moved {
		t.Errorf("another state: %v, %v", flagged, moved)
	}
	if s := e.States()["s1"]; s.Flags.States["classes"] != flags.On {
		t.Errorf("kept %+v", s.Flags)
	}
}
