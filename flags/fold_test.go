package flags

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func compileBundle(t testing.TB, b *Bundle) *Compiled {
	t.Helper()
	parsed, err := ParseBundle(b.Encode())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compile(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// oneFlagBundle returns a bundle of one flag, key "flag", of feature "f", with gates.
func oneFlagBundle(gates ...Gate) *Bundle {
	b := &Bundle{
		Version: BundleVersion, Channel: "dedicated", Flags: map[string]json.RawMessage{"flag": gatedFlag("f", "")},
	}
	for _, g := range gates {
		g.Features = append(g.Features, "f")
		b.Gates = append(b.Gates, g)
	}
	return b
}

var readyFacts = Facts{Cell: "acme", Channel: "dedicated", Release: "2026.11.3", Features: []string{"f"}}

// TestWhatClosesAFlag checks the order of R43 and the conditions of the design's section 8, each alone and together.
func TestWhatClosesAFlag(t *testing.T) {
	killed := Orders{Killed: []KilledFlag{{Flag: "flag", Reason: "it burns"}}}
	held := Orders{Held: []string{"a"}}
	lacking, keeping := readyFacts, readyFacts
	lacking.Features = []string{"other"}
	keeping.Held = []string{"f"}
	both := keeping
	both.Features = nil
	for name, test := range map[string]struct {
		orders Orders
		facts  Facts
		at     int64
		on     bool
		state  CellState
	}{
		"all holds":                        {Orders{}, readyFacts, 100, true, On},
		"a second early":                   {Orders{}, readyFacts, 99, false, Armed},
		"a release lacks it (R38)":         {Orders{}, lacking, 100, false, Waiting},
		"lacking and early":                {Orders{}, lacking, 99, false, Waiting},
		"held by the vendor":               {held, readyFacts, 100, false, Held},
		"held and lacking":                 {held, lacking, 100, false, Held},
		"held by the owner":                {Orders{}, keeping, 100, false, Held},
		"held by the owner, and lacking":   {Orders{}, both, 100, false, Held},
		"killed":                           {killed, readyFacts, 100, false, Killed},
		"killed, lacking, held by both":    {Orders{Killed: killed.Killed, Held: held.Held}, both, 99, false, Killed},
		"another announcement is held":     {Orders{Held: []string{"b"}}, readyFacts, 100, true, On},
		"another flag is killed":           {Orders{Killed: []KilledFlag{{Flag: "other"}}}, readyFacts, 100, true, On},
		"all holds, long after (fault 63)": {killed, readyFacts, MaxInstant, false, Killed},
	} {
		t.Run(name, func(t *testing.T) {
			f := compileBundle(t, oneFlagBundle(Gate{ID: "a", At: 100})).Fold(test.orders, test.facts, test.at)
			want := Result{Value: false, Variant: "off", Reason: ReasonStatic}
			if test.on {
				want = Result{Value: true, Variant: "on", Reason: ReasonStatic}
			}
			got := f.Evaluate("flag", Context{"targetingKey": "ann"}, test.at)
			killed := got.Metadata["killed"]
			got.Metadata = nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (killed == "it burns") != (test.state == Killed) {
				t.Errorf("killed is told as %v", killed)
			}
			if diff := cmp.Diff(map[string]CellState{"a": test.state}, f.States()); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFeatureWithoutAnAnnouncementIsOff(t *testing.T) { // R37
	f := compileBundle(t, oneFlagBundle()).Fold(Orders{}, readyFacts, 100)
	if got := f.Evaluate("flag", nil, 100); got.Value != false || got.Reason != ReasonStatic {
		t.Errorf("got %+v", got)
	}
}

// A feature is on if any of its announcements is.
func TestTheMostOpenAnnouncementCounts(t *testing.T) {
	c := compileBundle(t, oneFlagBundle(
		Gate{ID: "a", At: 100, Steps: []GateStep{{Percent: 0}, {Percent: 100, After: 1000}}},
		Gate{ID: "b", At: 200},
	))
	for at, on := range map[int64]bool{100: false, 199: false, 200: true, 1100: true} {
		if got := c.Fold(Orders{}, readyFacts, at).Evaluate("flag", Context{"targetingKey": "ann"},
			at); got.Value != on {
			t.Errorf("at %d it is %v", at, got.Value)
		}
	}
	if got := c.Fold(Orders{Held: []string{"b"}}, readyFacts, 200).Evaluate("flag", Context{"targetingKey": "ann"},
		200); got.Value != false {
		t.Error("on by an announcement that is held")
	}
}

// A killed flag is off, or as close to off as its definition allows; a kill turns nothing on.
func TestKilledFlags(t *testing.T) {
	const rule = `"targeting":{"if":[true,"b"]}`
	for name, test := range map[string]struct {
		definition string
		want       Result
	}{
		"off variant": {`{"state":"ENABLED","variants":{"a":1,"b":2,"o":0},"defaultVariant":"a",` + rule +
			`,"metadata":{"off":"o"}}`,
			Result{Value: 0.0, Variant: "o", Reason: ReasonStatic}},
		"default": {`{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"a",` + rule + `}`,
			Result{Value: 1.0, Variant: "a", Reason: ReasonStatic}},
		"no default": {`{"state":"ENABLED","variants":{"a":1,"b":2},` + rule + `}`,
			Result{Reason: ReasonDefault}},
		"default is on, a rule turns it off": {
			`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":{"if":[true,"off"]}}`,
			Result{Value: false, Variant: "off", Reason: ReasonMatch}},
		"default is on, a rule by facts": {`{"state":"ENABLED","variants":{"on":"on","none":"off"},` +
			`"defaultVariant":"on","targeting":{"if":[{"==":[{"var":"channel"},"c"]},"none"]}}`,
			Result{Value: "off", Variant: "none", Reason: ReasonMatch}},
		"no default, a rule turns it off": {
			`{"state":"ENABLED","variants":{"on":1,"none":0},"targeting":{"if":[true,"none"]}}`,
			Result{Value: 0.0, Variant: "none", Reason: ReasonMatch}},
		"default is off": {
			`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[true,"on"]}}`,
			Result{Value: false, Variant: "off", Reason: ReasonStatic}},
		"disabled": {`{"state":"DISABLED","variants":{"a":1,"b":2},"defaultVariant":"a"}`,
			Result{Reason: ReasonDisabled}},
		"disabled, with an off variant": {`{"state":"DISABLED","variants":{"a":1,"o":0},"defaultVariant":"a","metadata":{"off":"o"}}`,
			Result{Value: 0.0, Variant: "o", Reason: ReasonStatic}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Bundle{
				Version: BundleVersion, Channel: "c",
				Flags: map[string]json.RawMessage{"k": json.RawMessage(test.definition)},
			}
			f := compileBundle(t,
				b).Fold(Orders{Killed: []KilledFlag{{Flag: "k"}, {Flag: "there is none"}}}, Facts{Channel: "c"}, 5)
			got := f.Evaluate("k", nil, 5)
			if got.Metadata["killed"] != true {
				t.Errorf("it does not tell that it is killed: %v", got.Metadata)
			}
			got.Metadata = nil
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkDocumentAgrees(t, f, "k", nil, 5)
		})
	}
}

// TestRampByUsers checks R44: membership by flagd's bucket of announcement and user, equal for all of an announcement's
// features, and only growing.
func TestRampByUsers(t *testing.T) {
	b := oneFlagBundle(Gate{
		ID: "autumn", At: 100, Features: []string{"g"},
		Steps: []GateStep{{Percent: 10}, {Percent: 50, After: 10}, {Percent: 100, After: 20}},
	})
	b.Flags["second"] = gatedFlag("g", "")
	c := compileBundle(t, b)
	facts := readyFacts
	facts.Features = []string{"f", "g"}
	was := map[string]bool{}
	for _, step := range []struct {
		at       int64
		min, max int // of 1,000 users
	}{{99, 0, 0}, {100, 70, 130}, {109, 70, 130}, {110, 450, 550}, {119, 450, 550}, {120, 1000, 1000}} {
		f := c.Fold(Orders{}, facts, step.at)
		n := 0
		for i := range 1000 {
			user := fmt.Sprintf("user-%d", i)
			ctx := Context{"targetingKey": user}
			on := f.Evaluate("flag", ctx, step.at).Value == true
			if on {
				n++
			}
			if was[user] && !on {
				t.Errorf("%s lost it at %d", user, step.at)
			}
			was[user] = on
			if second := f.Evaluate("second", ctx, step.at).Value == true; second != on {
				t.Errorf("%s has one flag of the announcement and not the other at %d", user, step.at)
			}
		}
		if n < step.min || n > step.max {
			t.Errorf("at %d it is on for %d of 1,000", step.at, n)
		}
		for _, without := range []Context{nil, {}, {"targetingKey": ""}, {"targetingKey": nil}} {
			if on := f.Evaluate("flag", without, step.at).Value == true; on != (step.at >= 120) {
				t.Errorf("without a key it is %v at %d", on, step.at)
			}
		}
	}
	f := c.Fold(Orders{}, facts, 110)
	if got := f.States()["autumn"]; got != Ramping {
		t.Errorf("it is %s", got)
	}
}

// A cell has all or nothing, whatever its users claim.
func TestRampByCells(t *testing.T) {
	g := Gate{ID: "autumn", At: 100, By: ByCell, Steps: []GateStep{{Percent: 50}, {Percent: 100, After: 10}}}
	c := compileBundle(t, oneFlagBundle(g))
	in := 0
	for i := range 200 {
		facts := readyFacts
		facts.Cell = fmt.Sprintf("cell-%d", i)
		f := c.Fold(Orders{}, facts, 100)
		on, state, next := f.Evaluate("flag", Context{"targetingKey": "x"}, 100).Value == true, Armed, int64(110)
		if g.Includes(facts.Cell, 50) {
			in++
			state, next = On, 0
		}
		if on != (state == On) || f.States()["autumn"] != state || f.Next() != next {
			t.Errorf("%s: on %v, %s, next %d", facts.Cell, on, f.States()["autumn"], f.Next())
		}
		if got := f.Evaluate("flag", Context{"targetingKey": "y", "cell": "cell-1"}, 100).Value == true; got != on {
			t.Errorf("%s: another user has another answer", facts.Cell)
		}
		if got := c.Fold(Orders{}, facts, 110).Evaluate("flag", nil, 110).Value; got != true {
			t.Errorf("%s is off at 100 %%", facts.Cell)
		}
	}
	if in < 75 || in > 125 {
		t.Errorf("%d of 200 cells are in at 50 %%", in)
	}
}

// TestEmbargo checks R45: neither key nor time show before the time.
func TestEmbargo(t *testing.T) {
	secret := Gate{ID: "secret", At: 100, Embargo: true}
	hidden := oneFlagBundle()
	hidden.Hidden = []string{"f"}
	for name, test := range map[string]struct {
		bundle *Bundle
		orders Orders
		facts  Facts
		at     int64
		shown  bool
	}{
		"before":                           {oneFlagBundle(secret), Orders{}, readyFacts, 99, false},
		"at its time":                      {oneFlagBundle(secret), Orders{}, readyFacts, 100, true},
		"at its time, where it is lacking": {oneFlagBundle(secret), Orders{}, Facts{}, 100, true},
		"held": {
			oneFlagBundle(secret), Orders{Held: []string{"secret"}}, readyFacts, 100, false,
		},
		"told elsewhere": {
			oneFlagBundle(secret, Gate{ID: "z", At: 500}), Orders{}, readyFacts, 99, true,
		},
		"told elsewhere, held": {
			oneFlagBundle(secret, Gate{ID: "z", At: 500}), Orders{Held: []string{"z"}}, readyFacts, 99, true,
		},
		"without a gate":                {hidden, Orders{}, readyFacts, 99, false},
		"without a gate and an embargo": {oneFlagBundle(), Orders{}, readyFacts, 99, true},
		"killed under embargo stays hidden": {
			oneFlagBundle(secret), Orders{Killed: []KilledFlag{{Flag: "flag"}}}, readyFacts, 99, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := compileBundle(t, test.bundle).Fold(test.orders, test.facts, test.at)
			if all := f.All(nil, test.at, false); (len(all) == 1) != test.shown {
				t.Errorf("in bulk there are %d", len(all))
			}
			if _, ok := documentFlags(t, f)["flag"]; ok != test.shown {
				t.Errorf("in the document: %v", ok)
			}
			if !test.shown && f.Evaluate("flag", nil, test.at).Value != false {
				t.Error("one that asks for it does not get it as off")
			}
		})
	}
}

// Revisions, documents and bulk answers before the time reveal neither key nor time, nor that an announcement is coming
// (R45).
func TestNobodySeesThatSomethingIsArmed(t *testing.T) {
	before := oneFlagBundle()
	before.Hidden = []string{"f"}
	seen := compileBundle(t, before).Fold(Orders{}, readyFacts, 50)
	for name, armed := range map[string]*Bundle{
		"armed": oneFlagBundle(Gate{ID: "secret", At: 100, Embargo: true}),
		"at another time": oneFlagBundle(Gate{
			ID: "secret", At: 99, Embargo: true, Steps: []GateStep{{Percent: 10}, {Percent: 100, After: 5}},
		}),
		"in two parts": oneFlagBundle(Gate{ID: "more", At: 300, Embargo: true, By: ByCell},
			Gate{ID: "secret", At: 100, Embargo: true}),
	} {
		for at := int64(50); at < 99; at += 16 {
			f := compileBundle(t, armed).Fold(Orders{}, readyFacts, at)
			if f.Revision() != seen.Revision() || string(f.Document()) != string(seen.Document()) ||
				len(f.All(nil, at, false)) > 0 {
				t.Errorf("%s: at %d it can be told", name, at)
			}
		}
		if f := compileBundle(t, armed).Fold(Orders{}, readyFacts, 100); f.Revision() == seen.Revision() {
			t.Errorf("%s: at its time it is not told", name)
		}
	}
}

// TestFactsAreNotTheCallers checks R36 and fault 62: a caller's claims of release, cell and the like change nothing.
func TestFactsAreNotTheCallers(t *testing.T) {
	rule := func(name, value string) json.RawMessage {
		return json.RawMessage(
			fmt.Sprintf(
				`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"off","targeting":{"if":[{"==":[{"var":%q},%q]},"on","off"]}}`, name, value))
	}
	b := oneFlagBundle(Gate{ID: "a", At: 100})
	b.Flags["cell"], b.Flags["release"], b.Flags["channel"] = rule("cell", "beta"), rule("release",
		"9.9.9"), rule("channel", "staging")
	b.Flags["region"], b.Flags["labels"] = rule("region", "eu"), rule("labels.tier", "gold")
	b.Flags["mine"] = rule("labels.tier", "silver")
	facts := Facts{
		Cell: "acme", Channel: "dedicated", Release: "2026.11.2", Labels: map[string]string{"tier": "silver"},
	}
	f := compileBundle(t, b).Fold(Orders{}, facts, 100)
	lies := Context{
		"targetingKey": "ann", "cell": "beta", "release": "9.9.9", "channel": "staging", "region": "eu",
		"labels":   map[string]any{"tier": "gold"},
		"features": []any{"f"}, "labels.tier": "gold", "$flagd": map[string]any{"timestamp": 1e12},
	}
	for _, e := range f.All(lies, 100, false) {
		if on := e.Value == true; on != (e.Key == "mine") {
			t.Errorf("%s is %+v", e.Key, e.Result)
		}
		checkDocumentAgrees(t, f, e.Key, lies, 100)
	}
}

func TestExposedToBrowsers(t *testing.T) { // R45; browsers don't see why a flag was killed
	b := smallBundle()
	b.Flags["page"] = json.RawMessage(
		`{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a","metadata":{"expose":"client"}}`,
	)
	f := compileBundle(t, b).Fold(Orders{}, readyFacts, 5000)
	all := f.All(nil, 5000, true)
	if len(all) != 1 || all[0].Key != "page" || !f.Exposed("page") || f.Exposed("plain") || f.Exposed("none") {
		t.Errorf("browsers see %+v", all)
	}
	why := []KilledFlag{{Flag: "page", Reason: "CVE"}, {Flag: "plain", Reason: "CVE"}}
	for _, e := range compileBundle(t, b).Fold(Orders{Killed: why}, readyFacts, 5000).All(nil, 5000, false) {
		if is := e.Metadata["killed"]; e.Key == "page" && is != true || e.Key == "plain" && is != "CVE" {
			t.Errorf("%s is killed: %v", e.Key, is)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, definition := range map[string]string{
		"no JSON object":      `1`,
		"feature without off": `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","metadata":{"feature":"f"}}`,
		"off is no variant":   `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","metadata":{"feature":"f","off":"none"}}`,
		"feature is no text":  `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","metadata":{"feature":5,"off":"off"}}`,
		"feature is empty":    `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","metadata":{"feature":"","off":"off"}}`,
		"no ramp can choose":  `{"state":"ENABLED","variants":{"on":true,"<off>":false},"defaultVariant":"on","metadata":{"feature":"f","off":"<off>"}}`,
		"beyond its bound":    string(gatedFlag("", longRule(sourceBounds().flagBytes))),
	} {
		b := &Bundle{
			Version: BundleVersion, Channel: "c", Flags: map[string]json.RawMessage{"k": json.RawMessage(definition)},
		}
		if _, err := Compile(b); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
	for name, rule := range map[string]string{"deepest": nestedRule(sourceBounds().depth),
		"longest": longRule(sourceBounds().flagBytes - 1000)} {
		b := &Bundle{Version: BundleVersion, Channel: "c",
			Flags: map[string]json.RawMessage{"flag": gatedFlag("f", rule)},
			Gates: []Gate{{ID: strings.Repeat("a", maxName), At: 1, Features: []string{"f"},
				Steps: []GateStep{{Percent: 99}}}}}
		f := compileBundle(t, b).Fold(Orders{}, readyFacts, 2)
		if got := f.Evaluate("flag", Context{"targetingKey": "ann"}, 2); got.Error != "" || got.Reason == ReasonStatic {
			t.Errorf("the %s rule with a ramp around it: %+v", name, got)
		}
		checkDocumentAgrees(t, f, "flag", Context{"targetingKey": "ann"}, 2)
	}
}

// longRule returns a rule of the given size.
func longRule(bytes int) string {
	const head, tail = `{"if":[{"in":["",[`, `0]]},"on","off"]}`
	texts := ""
	for n := bytes - len(head) - len(tail); n > 0; n = bytes - len(head) - len(tail) - len(texts) {
		texts += `"` + strings.Repeat("x", min(16_000, max(n-3, 0))) + `",`
	}
	return head + texts + tail
}
