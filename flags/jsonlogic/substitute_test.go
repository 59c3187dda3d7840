package jsonlogic_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

func cellFacts() map[string]any {
	return map[string]any{
		"cell": "acme", "channel": "dedicated", "release": "2026.11.3", "region": nil,
		"labels": map[string]any{"tier": "gold", "zone": "a"},
	}
}

// TestSubstitute checks references to facts in rules for other readers (R36).
func TestSubstitute(t *testing.T) {
	for rule, want := range map[string]string{
		`{"==":[{"var":"cell"},"acme"]}`:            `{"==":["acme","acme"]}`,
		`{"in":[{"var":["cell","x"]},["a"]]}`:       `{"in":["acme",["a"]]}`,
		`{"==":[{"var":"labels.tier"},"gold"]}`:     `{"==":["gold","gold"]}`,
		`{"==":[{"var":["labels.no","free"]},"x"]}`: `{"==":["free","x"]}`,
		`{"==":[{"var":"region"},"eu"]}`:            `{"==":[null,"eu"]}`,
		`{"==":[{"var":["region",{"var":"r"}]},1]}`: `{"==":[{"var":"r"},1]}`,
		`{"var":"cell"}`:                            `{"if":[true,"acme"]}`,
		`{"if":[{"<":["a<b",{"var":"cell"}]},1]}`:   `{"if":[{"<":["a<b","acme"]},1]}`,
		`{"var":["email",{"var":"cell"}]}`:          `{"var":["email","acme"]}`,
		`{"var":{"var":"cell"}}`:                    `{"var":"acme"}`,
		`{"missing":["a","cell","region","b","c"]}`: `{"merge":[{"missing":["a"]},["region"],{"missing":["b","c"]}]}`,
		`{"missing":"labels.tier"}`:                 `{"missing":[]}`,
		`{"missing_some":[2,["cell","a","b"]]}`:     `{"missing_some":[1,["a","b"]]}`,
		`{"a":{"var":"cell"},"b":1}`:                `{"a":{"var":"cell"},"b":1}`, // a value, not a rule

		// In bodies, variables are the element's, unless the body is solved with all data first.
		`{"map":[{"var":"list"},{"var":"cell"}]}`:                `{"map":[{"var":"list"},{"var":"cell"}]}`,
		`{"all":[{"var":"list"},{"==":[{"var":"cell"},1]}]}`:     `{"all":[{"var":"list"},{"==":[{"var":"cell"},1]}]}`,
		`{"reduce":[[1],{"var":"cell"},{"var":"cell"}]}`:         `{"reduce":[[1],{"var":"cell"},"acme"]}`,
		`{"some":[{"var":"list"},{"==":[{"var":"cell"},1]}]}`:    `{"some":[{"var":"list"},{"==":["acme",1]}]}`,
		`{"filter":[{"var":"list"},{"==":[{"var":".cell"},1]}]}`: `{"filter":[{"var":"list"},{"==":[{"var":".cell"},1]}]}`,
		`{"none":[{"var":"list"},{"==":[{"var":"region"},1]}]}`:  `{"none":[{"var":"list"},{"==":[{"var":".region"},1]}]}`,
		`{"map":[{"filter":[{"var":"labels.tier"},1]},1]}`:       `{"map":[{"filter":[{"if":[true,"gold"]},1]},1]}`,

		`{"var":"$flagd.flagKey","cell":1}`: `{"cell":1,"var":"$flagd.flagKey"}`,
		`{"var":"email"}`:                   `{"var":"email"}`,
		`{"var":"cell"`:                     `{"var":"cell"`, // no rule
		`{"var":"\u0063ell"}`:               `{"if":[true,"acme"]}`,
	} {
		if got := string(jsonlogic.Substitute([]byte(rule), cellFacts())); got != want {
			t.Errorf("%s gives %s, want %s", rule, got, want)
		}
	}
	unchanged := `{"if": [ {"var":"email"}, 1 ]}`
	if got := jsonlogic.Substitute([]byte(unchanged), cellFacts()); string(got) != unchanged {
		t.Errorf("a rule without facts became %s", got)
	}
}

// TestSubstituteMeansTheSame checks that a rule with substituted facts evaluates, whatever a caller claims, as the rule
// with the facts.
func TestSubstituteMeansTheSame(t *testing.T) {
	lies := map[string]any{
		"cell": "beta", "channel": 1.0, "region": "eu", "labels": map[string]any{"tier": "free"},
		"email": "jo@example.com", "targetingKey": "k",
		"list": []any{
			"acme", "beta", map[string]any{"cell": "acme", "region": "us", "n": 1.0}, 1.0, nil, []any{"gold"},
		},
	}
	rapid.Check(t, func(t *rapid.T) {
		rule := rules(4, append(something(), "region", "labels.none", "cell.more")...).Draw(t, "rule")
		text, err := json.Marshal(rule)
		if err != nil {
			t.Fatal(err)
		}
		substituted := jsonlogic.Substitute(text, cellFacts())
		want, wantErr := evaluate(t, text, lies, cellFacts())
		got, gotErr := evaluate(t, substituted, lies, nil)
		if (wantErr == nil) != (gotErr == nil) || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\nbecame %s\nwhich gives %v (%v), want %v (%v)", text, substituted, got, gotErr, want, wantErr)
		}
	})
}

func evaluate(t *rapid.T, rule []byte, data, facts map[string]any) (any, error) {
	t.Helper()
	compiled, err := jsonlogic.Compile(rule)
	if err != nil {
		t.Fatalf("%s: %v", rule, err)
	}
	return compiled.Evaluate(jsonlogic.Input{Data: data, Facts: facts, FlagKey: "flag", At: 1})
}

// rules generates rules that read facts everywhere except where Substitute leaves them: computed names, and all data.
// In the body of some, a null fact is the element's and is not substituted, so null facts are left out there.
func rules(depth int, names ...string) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		variable := func() any { return map[string]any{"var": rapid.SampledFrom(names).Draw(t, "name")} }
		constant := func() any {
			return rapid.SampledFrom([]any{"acme", "gold", "beta", "", 1.0, 0.0, true, nil, "cell"}).Draw(t, "constant")
		}
		if depth == 0 {
			return rapid.SampledFrom([]func() any{variable, variable, constant}).Draw(t, "leaf")()
		}
		sub := func() any { return rules(depth-1, names...).Draw(t, "sub") }
		switch op := rapid.SampledFrom(strings.Fields(`var var! == === < in cat if and or ! + merge missing missing_some map filter reduce
			all none some fractional starts_with [] {}`)).Draw(t, "operator"); op {
		case "var":
			return variable()
		case "var!":
			return map[string]any{"var": []any{rapid.SampledFrom(names).Draw(t, "name"), constant()}}
		case "[]":
			return []any{sub(), sub()}
		case "{}":
			return map[string]any{"a": sub(), "b": sub()}
		case "!":
			return map[string]any{op: sub()}
		case "if":
			return map[string]any{op: []any{sub(), sub(), sub()}}
		case "missing":
			return map[string]any{op: rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(t, "names")}
		case "missing_some":
			return map[string]any{op: []any{
				rapid.IntRange(-1, 4).Draw(t, "wanted"),
				rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(t, "names"),
			}}
		case "some":
			return map[string]any{op: []any{sub(), rules(depth-1, something()...).Draw(t, "body")}}
		case "reduce":
			return map[string]any{op: []any{sub(), sub(), sub()}}
		case "fractional":
			return map[string]any{op: []any{sub(), []any{sub(), 1.0}, []any{"b", sub()}}}
		default:
			return map[string]any{op: []any{sub(), sub()}}
		}
	})
}

func something() []string {
	return []string{
		"cell", "channel", "release", "labels.tier", ".cell", "labels", "email", "list", "n", ".n", "list.0",
	}
}
