package flags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// smallBundle returns a bundle that uses every field.
func smallBundle() *Bundle {
	return &Bundle{
		Version: BundleVersion,
		Channel: "dedicated",
		Flags: map[string]json.RawMessage{
			"plain":   json.RawMessage(`{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"a"}`),
			"classes": gatedFlag("workspace-classes", `{"if":[{"==":[{"var":"tier"},"gold"]},"on",null]}`),
		},
		Gates: []Gate{
			{
				ID: "autumn", Features: []string{"workspace-classes"}, At: 1_000, By: ByUser,
				Steps: []GateStep{{Percent: 10}, {Percent: 100, After: 3600}},
			},
			{ID: "winter", Features: []string{"sleds", "snow"}, At: 2_000, Embargo: true},
		},
		Hidden: []string{"secret"},
	}
}

// gatedFlag returns a flag that is on by default, and off while its gate is shut.
func gatedFlag(feature, targeting string) json.RawMessage {
	if targeting != "" {
		targeting = `,"targeting":` + targeting
	}
	return json.RawMessage(fmt.Sprintf(
		`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on"%s,"metadata":{"feature":%q,"off":"off"}}`, targeting, feature))
}

func TestBundleHasOneForm(t *testing.T) {
	a, b := smallBundle(), smallBundle()
	b.Gates[0], b.Gates[1] = b.Gates[1], b.Gates[0]
	b.Gates[0].Features = []string{"snow", "sleds", "snow"}
	b.Flags["plain"] = json.RawMessage(`{ "state": "ENABLED", "variants": {"a":1, "b":2}, "defaultVariant": "a" }`)
	if !bytes.Equal(a.Encode(), b.Encode()) {
		t.Errorf("one bundle has two forms:\n%s\n%s", a.Encode(), b.Encode())
	}
	got, err := ParseBundle(a.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got); diff != "" {
		t.Errorf("parsed otherwise than encoded (-encoded +parsed):\n%s", diff)
	}
	empty := &Bundle{Version: BundleVersion, Channel: "staging"}
	if _, err := ParseBundle(empty.Encode()); err != nil {
		t.Errorf("an empty bundle: %v", err)
	}
}

func TestParseBundleRefuses(t *testing.T) {
	edit := func(old, new string) string {
		raw := string(smallBundle().Encode())
		if !strings.Contains(raw, old) {
			t.Fatalf("the bundle has no %s:\n%s", old, raw)
		}
		return strings.Replace(raw, old, new, 1)
	}
	many := func(n int, item func(i int) string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = item(i)
		}
		return strings.Join(items, ",")
	}
	const head = `{"version":1,"channel":"dedicated","flags":{`
	for name, raw := range map[string]string{
		"nothing":                 "",
		"no object":               `[]`,
		"null":                    `null`,
		"cut off":                 string(smallBundle().Encode()[:100]),
		"something after it":      string(smallBundle().Encode()) + " {}",
		"white space":             string(smallBundle().Encode()) + "\n",
		"unknown field":           edit(`"channel"`, `"colour":1,"channel"`),
		"unknown field of a gate": edit(`"id":"autumn"`, `"id":"autumn","cells":["acme"]`),
		"another case":            edit(`"channel"`, `"Channel"`),
		"a field twice":           edit(`"channel":"dedicated"`, `"channel":"staging","channel":"dedicated"`),
		"a flag twice":            edit(`"plain":{`, `"plain":{"state":"ENABLED"},"plain":{`),
		"another version":         edit(`"version":1`, `"version":2`),
		"no channel":              edit(`"channel":"dedicated"`, `"channel":""`),
		"no gates":                edit(`"gates":[`, `"gates":null,"hidden":[`),
		"gates out of order":      edit(`"id":"autumn"`, `"id":"zebra"`),
		"one gate twice":          edit(`"id":"winter"`, `"id":"autumn"`),
		"gate without an ID":      edit(`"id":"autumn"`, `"id":""`),
		"long name of a feature":  edit(`"sleds"`, `"`+strings.Repeat("s", 257)+`"`),
		"features out of order":   edit(`["sleds","snow"]`, `["snow","sleds"]`),
		"time before time":        edit(`"at":1000`, `"at":-1`),
		"time beyond 9999":        edit(`"at":1000`, `"at":253402300800`),
		"time that is no integer": edit(`"at":1000`, `"at":1e3`),
		"endless number":          edit(`"at":1000`, `"at":`+strings.Repeat("9", 4000)),
		"ramp by nobody":          edit(`"by":"user"`, `"by":"moon"`),
		"share beyond all":        edit(`"percent":100`, `"percent":101`),
		"share that shrinks":      edit(`"percent":100`, `"percent":5`),
		"step that is not later":  edit(`"after":3600`, `"after":0`),
		"step in a hundred years": edit(`"after":3600`, `"after":3153600000`),
		"hidden without a name":   edit(`["secret"]`, `[""]`),
		"more flags than any cell": head +
			many(MaxFlags+1, func(i int) string { return fmt.Sprintf(`"f%06d":{}`, i) }) + `},"gates":[]}`,
		"more gates than any cell": head + `},"gates":[` + many(MaxGates+1, func(i int) string { return `{}` }) + `]}`,
		"a gate of many features": head + `},"gates":[{"id":"a","features":[` +
			many(1001, func(i int) string { return fmt.Sprintf(`"f%04d"`, i) }) + `],"at":0}]}`,
		"a gate of many steps": head + `},"gates":[{"id":"a","features":[],"at":9,"steps":[` +
			many(maxGateSteps+1, func(i int) string { return fmt.Sprintf(`{"percent":1,"after":%d}`, i) }) + `]}]}`,
		"deeply nested":          head + `"a":` + strings.Repeat(`[`, 100_000),
		"text that is not UTF-8": edit(`"winter"`, "\"wint\xffer\""),
		"a gate as large as a bomb": head + `},"gates":[{"id":"a","features":[` +
			many(600_000, func(int) string { return `""` }) + `],"at":0}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := ParseBundle([]byte(raw)); err == nil {
				t.Errorf("accepted as %.300s", b.Encode())
			}
		})
	}
	if _, err := ParseBundle(make([]byte, MaxBundle+1)); err == nil {
		t.Error("a bundle beyond the size was accepted")
	}
}

// FuzzParseBundle checks that no bundle and no flag makes ParseBundle, Compile, Fold, Evaluate or Document panic, and
// that accepted input is in canonical form.
func FuzzParseBundle(f *testing.F) {
	f.Add(smallBundle().Encode())
	f.Add([]byte(gatedFlag("f", `{"if":[{"in":[{"var":"tier"},["gold"]]},"on",{"fractional":[["on",1],["off",2]]}]}`)))
	f.Add(
		[]byte(
			`{"state":"DISABLED","variants":{"on":null},"targeting":{"reduce":[{"var":"labels"},{"+":[{"var":"current"},1]},0]},"metadata":{"off":"on"}}`,
		),
	)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := ParseBundle(raw); err == nil {
			if !bytes.Equal(b.Encode(), raw) {
				t.Fatalf("another form was accepted: %q", raw)
			}
			exerciseBundle(t, b)
		}
		b := &Bundle{Version: BundleVersion, Channel: "c", Flags: map[string]json.RawMessage{"k": raw},
			Gates: []Gate{{ID: "a", Features: []string{"f"}, At: 1, Steps: []GateStep{{Percent: 50}}}}}
		if parsed, err := ParseBundle(b.Encode()); err == nil {
			exerciseBundle(t, parsed)
		}
	})
}

// exerciseBundle does with a bundle all that an agent does.
func exerciseBundle(t *testing.T, b *Bundle) {
	t.Helper()
	c, err := Compile(b)
	if err != nil {
		return
	}
	for _, orders := range []Orders{{},
		{Killed: []KilledFlag{{Flag: "plain"}, {Flag: "k", Reason: "slow"}}, Held: []string{"a"}}} {
		folded := c.Fold(orders, Facts{Cell: "acme", Features: []string{"f", "workspace-classes"}}, 1_500)
		for _, e := range folded.All(Context{"targetingKey": "ann", "tier": "gold"}, 1_500, false) {
			if (e.Reason == ReasonError) != (e.Error != "") {
				t.Fatalf("%s: reason %s with error %q", e.Key, e.Reason, e.Error)
			}
		}
		if !json.Valid(folded.Document()) {
			t.Fatalf("the document is not JSON: %s", folded.Document())
		}
	}
}
