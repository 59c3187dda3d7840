package view_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// R31: the ETag covers head, assignment, hold {gate, until} and notices, and nothing that counts or that is reworded.
func TestWhatChangesACellsAnswer(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Run()
	base := func() *view.View {
		s := *w.Obs.Cells["s1"]
		o := w.Obs
		o.Cells = map[string]*plan.CellState{"s1": &s}
		return &view.View{Desired: w.Desired(), Observed: &o, Plan: plan.Plan{Blocked: []channels.Verdict{
			{
				Channel: "staging", Cell: "s1", Release: "1.1.0", Gate: "wave", Reason: "waits for wave 1: 3 of 5",
				Until: Start.Add(90 * time.Second),
			},
		}}}
	}
	_, etag, _ := base().Cell("s1")
	key, ok := base().Key("s1")
	if !ok || etag == "" {
		t.Fatal("there is no s1")
	}
	for name, c := range map[string]struct {
		change func(*view.View)
		same   bool
	}{
		"nothing":            {func(*view.View) {}, true},
		"the reason's words": {func(v *view.View) { v.Plan.Blocked[0].Reason = "waits for wave 1: 4 of 5" }, true},
		"seconds":            {func(v *view.View) { v.Plan.Blocked[0].Until = Start.Add(110 * time.Second) }, true},
		"a minute":           {func(v *view.View) { v.Plan.Blocked[0].Until = Start.Add(130 * time.Second) }, false},
		"the gate":           {func(v *view.View) { v.Plan.Blocked[0].Gate = "maxInFlight" }, false},
		"no hold":            {func(v *view.View) { v.Plan.Blocked = nil }, false},
		"another's hold": {func(v *view.View) {
			v.Plan.Blocked = append(v.Plan.Blocked, channels.Verdict{
				Channel: "staging", Cell: "s2", Release: "1.1.0", Gate: "wave",
			})
		}, true},
		"the channel's hold": {func(v *view.View) {
			v.Plan.Blocked = append([]channels.Verdict{{Channel: "staging", Release: "1.1.0", Gate: "hold"}},
				v.Plan.Blocked...)
		}, false},
		"a report": {func(v *view.View) {
			s := v.Observed.Cells["s1"]
			s.LastReport, s.Soaked = Start.Add(time.Hour), time.Hour
		}, true},
		"a grant": {func(v *view.View) {
			s := v.Observed.Cells["s1"]
			a := *s.Last()
			a.Sequence++
			s.Granted = &a
		}, false},
		"diverged": {func(v *view.View) { v.Observed.Diverged = &plan.Divergence{} }, false},
		"a new key": {func(v *view.View) {
			id := cells.Identity{Serial: 1, PublicKey: "k"}
			v.Observed.Registered = map[string]plan.Registration{"s1": {Identity: id}}
		}, true},
		"asked for a key": {func(v *view.View) {
			id := cells.Identity{Serial: 1, Rotate: true}
			v.Observed.Registered = map[string]plan.Registration{"s1": {Identity: id}}
		}, false},
	} {
		v := base()
		c.change(v)
		_, got, _ := v.Cell("s1")
		now, _ := v.Key("s1")
		if (got == etag) != c.same || (now == key) != c.same {
			t.Errorf("%s: ETag %s, before %s; key %+v, before %+v", name, got, etag, now, key)
		}
	}
	d, _, _ := base().Cell("s1")
	if want := Start.Add(2 * time.Minute); d.Hold == nil || d.Hold.Reason != "waits for its wave of the rollout" ||
		!d.Hold.Until.Equal(want) {
		t.Errorf("held %+v", d.Hold)
	}
	if _, ok := base().Key("nobody"); ok {
		t.Error("nobody has a key")
	}
}

// BenchmarkKeys measures how long it takes to find that no answer changed from view to view.
func BenchmarkKeys(b *testing.B) {
	d, o := Fleet(b, 100, 10_000, 100)
	blocked := make([]channels.Verdict, 0, 1000)
	for i := range 1000 {
		blocked = append(blocked, channels.Verdict{
			Channel: "c0", Cell: fmt.Sprintf("cell-%06d", i*100), Release: "1.99.0", Gate: "wave",
		})
	}
	same := flagsFor(7, "b", "o")
	for name := range d.Cells {
		same.ByCell[name] = same.ByCell["s1"]
	}
	for name, f := range map[string]*view.Flags{"without flags": nil, "with": same} {
		b.Run(name, func(b *testing.B) {
			v := func() *view.View {
				return &view.View{Desired: d, Observed: o, Plan: plan.Plan{Blocked: blocked}, Flags: f}
			}
			before := v()
			keys := make(map[string]view.Key, len(d.Cells))
			for name := range d.Cells {
				keys[name], _ = before.Key(name)
			}
			for b.Loop() {
				v := v()
				for name, was := range keys {
					if k, _ := v.Key(name); k != was {
						b.Fatal(name)
					}
				}
			}
		})
	}
}

func flagsFor(height int64, bundle, orders string) *view.Flags {
	f := &cells.Flags{
		Height: height, Bundle: cells.FlagBundle{Digest: releases.DigestBytes([]byte(bundle))},
		Orders: cells.Sealed{Digest: releases.DigestBytes([]byte(orders))},
	}
	return &view.Flags{Height: height, ByCell: map[string]*cells.Flags{"s1": f}}
}

// R31: a cell's answer changes with its bundle, its orders and its labels, but not with the height.
func TestKeyHasFlags(t *testing.T) {
	t.Parallel()
	w := NewWorld(t,
		Union(Policy("staging", ""), Release("1.0.0"), Head("staging", "1.0.0"), CellFiles("staging", "s1", "s2")))
	v := func(f *view.Flags) *view.View { return &view.View{Desired: w.Desired(), Observed: &w.Obs, Flags: f} }
	base := v(flagsFor(7, "b", "o"))
	key, _ := base.Key("s1")
	d, etag, _ := base.Cell("s1")
	if d.Flags == nil || d.Flags.Height != 7 || d.Flags.Bundle.Digest != key.Flags.Bundle ||
		d.Flags.Orders.Digest != key.Flags.Orders {
		t.Errorf("told %+v under %+v", d.Flags, key)
	}
	if d, _, _ := base.Cell("s2"); d.Flags != nil {
		t.Errorf("s2 is told %+v", d.Flags)
	}
	for what, c := range map[string]struct {
		v    *view.View
		same bool
	}{
		"the height": {v(flagsFor(8, "b", "o")), true},
		"the bundle": {v(flagsFor(7, "c", "o")), false},
		"the orders": {v(flagsFor(7, "b", "p")), false},
		"no flags":   {v(nil), false},
	} {
		_, got, _ := c.v.Cell("s1")
		if now, _ := c.v.Key("s1"); (now == key) != c.same || (got == etag) != c.same {
			t.Errorf("%s: ETag %s, before %s", what, got, etag)
		}
	}
	w.Commit("bob", "label", map[string]string{
		"cells/s1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nlabels: {region: eu}\n",
	})
	labelled := v(flagsFor(7, "b", "o"))
	d, got, _ := labelled.Cell("s1")
	if got == etag || d.Flags.Labels["region"] != "eu" {
		t.Errorf("labels: told %+v under %s", d.Flags, got)
	}
	if told := labelled.Flags.ByCell["s1"]; told.Labels != nil {
		t.Error("what cells share has one cell's labels")
	}
}
