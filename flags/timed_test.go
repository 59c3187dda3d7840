package flags

import (
	"encoding/json"
	"fmt"
	"testing"
)

// timedFlag returns a flag that is on from an instant to another, by its rule.
func timedFlag(from, to int64, metadata string) json.RawMessage {
	return fmt.Appendf(nil, `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",`+
		`"metadata":{%s},"targeting":{"if":[{"<=":[%d,{"var":"$flagd.timestamp"},%d]},"on"]}}`, metadata, from, to-1)
}

// Issue 13, part 10: what a rule on $flagd.timestamp changes is a change of the folding, at that second and only then.
func TestTimedRulesChangeTheFolding(t *testing.T) {
	b := &Bundle{Version: BundleVersion, Channel: "staging", Flags: map[string]json.RawMessage{
		"free": timedFlag(200, 300, ""), "gated": timedFlag(150, 160, `"feature":"f","off":"off"`),
	}, Gates: []Gate{{ID: "a", At: 155, Features: []string{"f"}}}}
	c := compileBundle(t, b)
	fold := func(at int64, killed ...string) *Folded {
		var o Orders
		for _, key := range killed {
			o.Killed = append(o.Killed, KilledFlag{Flag: key})
		}
		return c.Fold(o, Facts{Features: []string{"f"}}, at)
	}
	var changes []int64
	for at, before := int64(100), fold(100); at < 400; at++ {
		now := fold(at)
		if now.Revision() != before.Revision() {
			changes = append(changes, at)
			if before.Next() != at {
				t.Errorf("at %d: it was to change at %d", at, before.Next())
			}
		}
		for _, key := range []string{"free", "gated"} {
			if old := before.Evaluate(key, nil, at-1).Value; old != now.Evaluate(key, nil, at).Value &&
				now.Revision() == before.Revision() {
				t.Errorf("at %d %s changes, and the revision does not", at, key)
			}
		}
		before = now
	}
	if want := "[155 160 200 300]"; fmt.Sprint(changes) != want { // 150 is embargoed by the gate
		t.Errorf("changes at %v, want %s", changes, want)
	}
	if !fold(100).Foreseen() {
		t.Error("comparisons with numbers are not foreseen")
	}
	if a, z := fold(199, "free", "gated"), fold(200, "free", "gated"); a.Revision() != z.Revision() || a.Next() != 0 {
		t.Error("killed flags change")
	}
}

// A program that follows the agent has the rule, and learns of its change by the instant.
func TestDocumentAsOfAnInstant(t *testing.T) {
	c := compileBundle(t, &Bundle{Version: BundleVersion, Channel: "staging",
		Flags: map[string]json.RawMessage{"free": timedFlag(200, 300, "")}})
	document := c.Fold(Orders{}, Facts{}, 100).Document()
	at := func(at int64) string {
		f, err := ParseDocument(document, at)
		if err != nil {
			t.Fatal(err)
		}
		return f.Revision()
	}
	if at(100) != at(199) || at(199) == at(200) || at(200) != at(299) || at(299) == at(300) {
		t.Error("the revision does not change at the rule's instants alone")
	}
}

// A rule that computes with the time is not foreseen while it is in force.
func TestComputedTimeIsNotForeseen(t *testing.T) {
	rule := json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",` +
		`"metadata":{"feature":"f","off":"off"},"targeting":{"if":[{"<":[{"%":[{"var":"$flagd.timestamp"},60]},30]},"on"]}}`)
	c := compileBundle(t, &Bundle{Version: BundleVersion, Channel: "staging",
		Flags: map[string]json.RawMessage{"minute": rule}, Gates: []Gate{{ID: "a", At: 100, Features: []string{"f"}}}})
	for at, want := range map[int64]bool{99: true, 100: false} {
		if got := c.Fold(Orders{}, Facts{Features: []string{"f"}}, at).Foreseen(); got != want {
			t.Errorf("at %d: foreseen %v", at, got)
		}
	}
}
