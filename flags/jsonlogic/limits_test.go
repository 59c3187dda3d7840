package jsonlogic_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// TestHostileRules checks that rules beyond the limits are refused before they are compiled.
func TestHostileRules(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"!":[`, n) + `1` + strings.Repeat(`]}`, n) }
	for name, test := range map[string]struct {
		rule string
		want string // in the error; empty: it compiles
	}{
		"nested as deep as may be": {nested(jsonlogic.MaxDepth / 2), ""},
		"nested too deep":          {nested(jsonlogic.MaxDepth/2 + 1), "nested deeper"},
		"nested beyond JSON":       {nested(20_000), "read the rule"},
		"too large":                {`"` + strings.Repeat(" ", jsonlogic.MaxBytes) + `"`, "bytes"},
		"a huge string":            {`{"var":"` + strings.Repeat("x", jsonlogic.MaxString+1) + `"}`, "string"},
		"a huge key":               {`{"` + strings.Repeat("x", jsonlogic.MaxString+1) + `":1}`, "string"},
		"an endless number":        {`{"+":[` + strings.Repeat("9", 10_000) + `]}`, "number"},
		"an infinite number":       {`{"+":[1e999]}`, "out of range"},
		"a tiny number":            {`{"+":[1e-999]}`, ""},
		"too many values":          {`[` + strings.Repeat("1,", jsonlogic.MaxNodes) + `1]`, "values"},
		"no JSON":                  {`{"+":`, "read the rule"},
		"more than a rule":         {`{} {}`, "follows"},
		"nothing":                  {``, "read the rule"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := jsonlogic.Compile([]byte(test.rule))
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 300 {
				t.Fatalf("gives %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestBudget checks that no rule and no context make an evaluation endless in time, memory or depth.
func TestBudget(t *testing.T) {
	many, err := json.Marshal(map[string]any{"list": make([]int, 1000)})
	if err != nil {
		t.Fatal(err)
	}
	zeros := `[0` + strings.Repeat(`,0`, 999) + `]`
	grown := `[1,1]`
	for range 30 {
		grown = `{"map":[` + asSubject(grown) + `,[{"var":""},{"var":""}]]}`
	}
	for name, test := range map[string]struct{ rule, data string }{
		"a rule that refers to itself": {`{"if":[true,{"var":"r"}]}`, `{"r":{"if":[true,{"var":"r"}]}}`},
		"set that refers to itself": {
			`{"set":[{"var":""},"x",{"var":"r"}]}`, `{"r":{"set":[{"var":""},"x",{"var":"r"}]}}`,
		},
		"lists in lists": {`{"map":[{"var":"list"},{"map":[` + zeros + `,{"+":[1,1]}]}]}`, string(many)},
		"a text that doubles": {
			`{"reduce":[{"var":"list"},{"cat":[{"var":"accumulator"},{"var":"accumulator"},"x"]},"x"]}`, string(many),
		},
		"a result that doubles": {grown, `{}`},
		"a long list for every element": {
			`{"filter":[{"var":"list"},{"in":[{"var":""},{"merge":[{"var":"list"},["x"]]}]}]}`, string(many),
		},
		"a deep context as a rule": {
			`{"if":[true,{"var":"r"}]}`,
			`{"r":` + strings.Repeat(`{"!":`, 5000) + `1` + strings.Repeat(`}`, 5000) + `}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rule, err := jsonlogic.Compile([]byte(test.rule))
			if err != nil {
				t.Fatal(err)
			}
			v, err := rule.Evaluate(jsonlogic.Input{Data: object(t, test.data)})
			if err == nil {
				_, err = jsonlogic.Text(v)
			}
			if !errors.Is(err, jsonlogic.ErrBudget) {
				t.Fatalf("gives %v, want ErrBudget", err)
			}
		})
	}
}

func asSubject(rule string) string {
	if strings.HasPrefix(rule, "{") {
		return rule
	}
	return `{"merge":[` + rule + `]}`
}

// FuzzEvaluate checks that no rule and no context make an evaluation panic or run for ever, and that Substitute returns
// a rule that compiles.
func FuzzEvaluate(f *testing.F) {
	for line := range strings.Lines(operators) {
		if parts := strings.Split(strings.TrimSuffix(line, "\n"), " | "); len(parts) == 3 {
			f.Add([]byte(parts[0]), []byte(parts[1]))
		}
	}
	f.Add([]byte(`{"if":[true,{"var":"r"}]}`), []byte(`{"r":{"if":[true,{"var":"r"}]}}`))
	facts := map[string]any{"cell": "acme", "region": nil, "labels": map[string]any{"tier": "gold"}}
	f.Fuzz(func(t *testing.T, rule, data []byte) {
		compiled, err := jsonlogic.Compile(rule)
		if err != nil {
			return
		}
		var caller map[string]any
		if json.Unmarshal(data, &caller) != nil {
			return
		}
		if v, err := compiled.Evaluate(jsonlogic.Input{Data: caller, Facts: facts, FlagKey: "flag",
			At: 1}); err == nil {
			if text, err := jsonlogic.Text(v); err == nil && !json.Valid([]byte(text)) {
				t.Errorf("gives %q, which is no JSON", text)
			}
		}
		if _, err := jsonlogic.Compile(jsonlogic.Substitute(rule, facts)); err != nil &&
			!strings.Contains(err.Error(), "nested deeper") {
			t.Errorf("can't compile what Substitute makes: %v", err)
		}
	})
}
