package flagserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
)

// R39, R43: heights never fall, at one height a kill is never lost, and whatever is reported is in force.
func TestOrdersOnlyGrowAtOneHeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b flagsRecord
		everyKill := map[int64]map[string]bool{}
		toldAs := map[releases.Digest]flags.Orders{}
		for range rapid.IntRange(1, 30).Draw(t, "words") {
			f := &cells.Flags{Height: rapid.Int64Range(1, 4).Draw(t, "height"),
				Bundle: cells.FlagBundle{Digest: releases.DigestBytes(
					[]byte{byte(rapid.IntRange(0, 3).Draw(t, "bundle"))})}}
			kills := slices.Compact(slices.Sorted(
				slices.Values(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3).Draw(t, "kills"))))
			f.Orders = agenttest.KillOrders(kills...)
			var o flags.Orders
			if err := json.Unmarshal(f.Orders.Payload, &o); err != nil {
				t.Fatal(err)
			}
			toldAs[f.Orders.Digest] = o
			before := b
			after, err := b.merge(f)
			if (err != nil) != (f.Height < before.Height) || err != nil && !errors.Is(err, errBehind) {
				t.Fatalf("height %d after %d: %v", f.Height, before.Height, err)
			}
			b = after
			if err != nil {
				continue
			}
			if everyKill[f.Height] == nil {
				everyKill[f.Height] = map[string]bool{}
			}
			for _, k := range kills {
				everyKill[f.Height][k] = true
			}
			var killed []string
			for _, k := range b.Orders.Killed {
				killed = append(killed, k.Flag)
			}
			if want := slices.Sorted(maps.Keys(everyKill[f.Height])); !slices.Equal(killed, want) {
				t.Fatalf("at height %d %v are killed, want %v", f.Height, killed, want)
			}
			if b.Bundle.Digest != f.Bundle.Digest {
				t.Fatalf("bundle %s, want %s", b.Bundle.Digest, f.Bundle.Digest)
			}
			if told := toldAs[b.OrdersDigest]; !sameOrders(joinOrders(told, b.Orders), b.Orders) {
				t.Fatalf("%v are reported as in force, and %v are", told, b.Orders)
			}
			if sameOrders(o, b.Orders) && b.OrdersDigest != f.Orders.Digest && !sameOrders(toldAs[b.OrdersDigest], o) {
				t.Fatalf("exactly what was told is in force, and is not reported")
			}
		}
	})
}

// Inconsistent flags are refused and change nothing.
func TestWordsThatAreRefused(t *testing.T) {
	bundle := cells.FlagBundle{Digest: releases.DigestBytes(nil)}
	b, err := flagsRecord{}.merge(&cells.Flags{Height: 3, Bundle: bundle, Orders: agenttest.KillOrders("a")})
	if err != nil {
		t.Fatal(err)
	}
	other := agenttest.KillOrders("b")
	for want, f := range map[string]*cells.Flags{
		"height 2": {Height: 2, Bundle: bundle, Orders: agenttest.KillOrders("a")},
		"have digest": {Height: 4, Bundle: bundle,
			Orders: cells.Sealed{Payload: []byte(`{"killed":[]}`), Digest: other.Digest}},
		"orders of": {Height: 4, Bundle: bundle,
			Orders: cells.Sealed{Payload: []byte("["), Digest: releases.DigestBytes([]byte("["))}},
		"flags of hei": {Height: 4, Bundle: cells.FlagBundle{Digest: "sha256:../../x"},
			Orders: agenttest.KillOrders()},
		"flags of heig": {Height: 4, Orders: agenttest.KillOrders()},
	} {
		after, err := b.merge(f)
		if err == nil || !strings.Contains(err.Error(), want) || after.Height != 3 || len(after.Orders.Killed) != 1 {
			t.Errorf("%s: %v, and then %+v", want, err, after)
		}
	}
}

// Reported states are bounded, and those that are not simply on come first.
func TestReportedStatesAreBounded(t *testing.T) {
	states := map[string]flags.CellState{}
	for i := range 500 {
		states[fmt.Sprintf("on-%03d", i)] = flags.On
	}
	states["dead"], states["late"] = flags.Killed, flags.Suspended
	some := reportedStates(states)
	if len(some) != cells.MaxFlagStates || some["dead"] != flags.Killed || some["late"] != flags.Suspended {
		t.Errorf("%d states: %v", len(some), some)
	}
	for i := range 500 {
		states[strings.Repeat("x", 110)+fmt.Sprint(i)] = flags.Waiting
	}
	states[strings.Repeat("y", 200)] = flags.Killed
	text, err := json.Marshal(reportedStates(states))
	if err != nil || len(text) > maxStates+100 || len(reportedStates(states)) < 50 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	r := cells.Report{Cell: "acme", Boot: "b", State: cells.StatePending,
		Flags: &cells.FlagsReport{States: reportedStates(states)}}
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
}
