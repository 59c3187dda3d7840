package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

var testFreeLimits = FreeFormLimits{Entries: 100_000, Limits: jsondoc.Limits{Depth: 50, Text: 1 << 10}}

func joinFaults(faults []Fault) string {
	var all []string
	for _, f := range faults {
		all = append(all, strings.TrimPrefix(f.String(), f.File+":"))
	}
	return strings.Join(all, "\n")
}

func TestFree(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     string // as JSON
	}{
		{"x.yaml", "on: true\n\"off\": [no, ~, 1, -2.5, 0x10, 1_000, 1e3]\ntrue: a\n7: b\n",
			`{"on":true,"off":["no",null,1,-2.5,16,1000,1000],"true":"a","7":"b"}`},
		{"x.yaml", "a: &x {b: 1}\nc: *x\n", `{"a":{"b":1},"c":{"b":1}}`},
		{"x.json", "{\"a\":\n [1, -0.5, 1e3, \"b\\u0041\\n\", true, false, null, {}, []]}",
			`{"a":[1,-0.5,1000,"bA\n",true,false,null,{},[]]}`},
		{"x.json", ` "x" `, `"x"`},
	} {
		n, faults := DecodeFreeForm(tt.name, []byte(tt.in), testFreeLimits)
		var want any
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		if len(faults) > 0 || !reflect.DeepEqual(n.PlainValue(), want) {
			t.Errorf("%s\nis %v, want %v; %v", tt.in, n.PlainValue(), want, faults)
		}
	}
}

func TestFreeKnowsLines(t *testing.T) {
	for name, in := range map[string]string{"x.yaml": "a:\n  b:\n    - 1\n    - c: 2\n",
		"x.json": "{\"a\":\n{\"b\": [\n1,\n{\"c\": 2}]}}"} {
		n, faults := DecodeFreeForm(name, []byte(in), testFreeLimits)
		list := n.Value.(jsondoc.Members).Get("a").Value.(jsondoc.Members).Get("b").Value.([]jsondoc.Node)
		if c := list[1].Value.(jsondoc.Members).Get("c"); list[0].Line != 3 || c.Line != 4 || len(faults) > 0 {
			t.Errorf("%s: lines %d and %d, want 3 and 4; %v", name, list[0].Line, c.Line, faults)
		}
	}
}

// Fault 29: input that is too large, or that YAML and JSON read differently, is refused with its line.
func TestFreeRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct{ name, in, want string }{
		{"x.yaml", "a: 2026-01-01\n", "1: 2026-01-01 is a date in YAML, and no text: put it in quotes"},
		{"x.yaml", "a: .inf\n", "1: .inf is not a number that JSON has"},
		{"x.yaml", "07: a\n", "1: the key 07 is not text in YAML: put it in quotes"},
		{"x.yaml", "True: a\n", "1: the key True is not text in YAML: put it in quotes"},
		{"x.yaml", "~: a\n", "1: a key must be text"},
		{"x.yaml", "a: 1\nb:\n  <<: {c: 1}\n", "3: merge keys (<<) are not read: write the fields out"},
		{"x.yaml", "&a a: 1\n*a : 2\n", "2: a key can't be an alias: write it out"},
		{"x.yaml", "a: !!bool \"\"\n", "1:  is neither true nor false"},
		{"x.yaml", "a: !!binary aGk=\n", "1: has a YAML tag (!!binary) that is not read"},
		{"x.yaml", "a: 1\nb: 2\na: 3\n", `3: "a" is there twice`},
		{"x.yaml", "a: 9007199254740993\n",
			"1: warning: 9007199254740993 is a number too large to be exact: put it in quotes"},
		{"x.yaml", "a: " + strings.Repeat("9", 70) + "\n", "1: has a number of 70 digits: at most 64 are read"},
		{"x.yaml", "a: " + strings.Repeat("b", 1025) + "\n", "1: has a text of 1025 bytes: at most 1024 are read"},
		{"x.yaml", "a: " + deep(60) + "\n", "1: nests deeper than 50 levels"},
		{"x.yaml", "a: &a [*a]\n", "1: nests deeper than 50 levels"},
		{"x.yaml", strings.Repeat("- a\n", 100_001), " has more than 100000 lines and entries"},
	} {
		_, faults := DecodeFreeForm(tt.name, []byte(tt.in), testFreeLimits)
		if got := joinFaults(faults); got != tt.want {
			t.Errorf("%.60q\nsays  %s\nwants %s", tt.in, got, tt.want)
		}
	}
}

// Free reads a document alike as JSON, as block YAML and as flow YAML.
func TestFreeReadsYAMLAsJSON(t *testing.T) {
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.IntRange(-1<<40, 1<<40), func(i int) any { return float64(i) }),
		rapid.Map(rapid.StringMatching(`[ -~é]{0,9}`), func(s string) any { return s }))
	rapid.Check(t, func(rt *rapid.T) {
		want := map[string]any{"a": leaf.Draw(rt, "a"), "b": rapid.SliceOfN(leaf, 0, 4).Draw(rt, "b"),
			"c": any(rapid.MapOfN(rapid.StringMatching(`[$a-zA-Z=<0-9.~ ]{1,5}`), leaf, 0, 4).Draw(rt, "c"))}
		asJSON, err := json.Marshal(want)
		if err != nil {
			rt.Fatal(err)
		}
		asYAML, err := yaml.Marshal(want)
		if err != nil {
			rt.Fatal(err)
		}
		for name, in := range map[string][]byte{"x.json": asJSON, "x.yaml": asYAML} {
			n, faults := DecodeFreeForm(name, in, testFreeLimits)
			again, err := json.Marshal(n.PlainValue())
			if err != nil || len(faults) > 0 || !bytes.Equal(again, asJSON) {
				rt.Fatalf("%s\nis %s, want %s; %v", in, again, asJSON, faults)
			}
		}
	})
}

func FuzzFree(f *testing.F) {
	for _, in := range []string{`{"a":[1,"b",null]}`, "a:\n  - b: 1\n", "a: &a [*a]\n", "[[[[", "!!bool ''"} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		_, faults := DecodeFreeForm("x.yaml", in, testFreeLimits)
		for _, fault := range faults {
			if fault.Message == "" {
				t.Error(fmt.Sprint(faults))
			}
		}
	})
}
