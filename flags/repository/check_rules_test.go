package repository

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
	"github.com/sluice-cd/sluice/internal/manifest"
)

func setWithRule(rule string) flagSet {
	return parseFlagSet("flags/x.json", []byte(`{"flags":{"x":{"state":"ENABLED","defaultVariant":"off",
		"variants":{"on":"1","off":"2","true":"3","false":"4"},"targeting":`+rule+`}}}`))
}

// Meaningful rules yield no fault.
func TestRulesThatAreFine(t *testing.T) {
	for _, rule := range []string{
		`{}`,
		`{"if":[{"var":"beta"},"on"]}`,
		`{"if":[{"==":[{"var":"tier"},"paid"]},"on",{"in":[{"var":"cell"},["a","b"]]},"on","off"]}`,
		`{"if":[{"and":[{"var":"a"},{"!":{"var":"b"}}]},"on",null]}`,
		`{"if":[{"var":"a"},{"fractional":[["on",10],["off",90]]},{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"company"}]},["on"],["off"]]}]}`,
		`{"fractional":[{"var":"company"},["on",{"-":[100,{"var":"x"}]}],["off",3]]}`,
		`{"fractional":[{"if":[{"var":"a"},["on",50],["off",50]]},["off",50]]}`,
		`{"or":[{"var":"variant"},"on"]}`,
		`{"in":[{"var":"email"},["a@b"]]}`,
		`{"if":[{"<":[{"var":"$flagd.timestamp"},1764579600]},"off","on"]}`,
		`{"if":[{"<":[1,{"var":"n"},2]},"on"]}`, `{"if":[{"<=":[1,{"var":"n"},1]},"on"]}`,
		`{"if":[{">":[2,{"var":"n"},1]},"on"]}`,
		`{"if":[{"some":[{"var":"groups"},{"==":[{"var":""},"staff"]}]},"on"]}`,
		`{"if":[{"some":[["a","b"],{"==":[{"var":""},{"var":"x"}]}]},"on"]}`,
		`{"if":[{"==":[{"missing":["a"]},[]]},"on"]}`,
		`{"if":[{">=":[{"+":[{"var":"a"},1,2]},{"*":[2,3]}]},"on"]}`,
		`{"if":[{"sem_ver":[{"var":"release"},"~","v2026.11.3-rc.1"]},"on"]}`,
		`{"if":[{"starts_with":[{"var":"email"},{"cat":["a","b"]}]},"on"]}`,
		`{"if":[{"in":["a",{"merge":[["b"],{"var":"more"}]}]},"on"]}`,
		`{"if":[{"==":[{"reduce":[{"var":"n"},{"+":[{"var":"current"},{"var":"accumulator"}]},0]},3]},"on"]}`,
		`{"var":["variant","on"]}`,
		`{"?:":[{"var":"a"},"on","off"]}`,
	} {
		for _, f := range setWithRule(rule).faults {
			if !f.Warning {
				t.Errorf("%s\n%s", rule, f)
			}
		}
	}
}

// The checker knows exactly the operators of the evaluation.
func TestOperatorsAreThoseOfTheEvaluation(t *testing.T) {
	for _, name := range strings.Fields(
		"== != === !== < <= > >= ! !! + - * / % abs max min cat substr in merge missing missing_some set if ?: and or var " +
			"map filter reduce all none some contains_all contains_any contains_none fractional sem_ver starts_with ends_with regex xor $ref iff") {
		_, known := lookUpOperator(name)
		rule, err := jsonlogic.Compile([]byte(fmt.Sprintf(`{%q:[{"var":"x"},{"var":"y"},{"var":"z"}]}`, name)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = rule.Evaluate(jsonlogic.Input{Data: map[string]any{}})
		if there := err == nil || !strings.Contains(err.Error(), "there is no operator"); there != known {
			t.Errorf("%s: known is %t, but evaluation says %v", name, known, err)
		}
	}
}

// Hostile rules are refused when read, not when evaluated.
func TestHostileRules(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"!":[`, n) + `{"var":"x"}` + strings.Repeat(`]}`, n) }
	chain := func(n int, rule string) string { // evaluators that each refer to the next
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "  e%d: %s\n", i, strings.ReplaceAll(rule, "NEXT", fmt.Sprintf("{$ref: e%d}", i+1)))
		}
		return fmt.Sprintf(
			"$evaluators:\n%s  e%d: {var: x}\nflags:\n  x: {state: ENABLED, variants: {on: true}, defaultVariant: on, targeting: {if: [{$ref: e0}, on]}}\n", b.String(), n)
	}
	for _, tt := range []struct {
		name string
		got  flagSet
		want string
	}{
		{"deep", setWithRule(nested(33)), "nests deeper than 64 levels"},
		{"deeper", setWithRule(nested(300)), "nests deeper than 80 levels"},
		{
			"wide", setWithRule(`{"in":[{"var":"x"},[` + strings.TrimSuffix(strings.Repeat("1,", 10_001), ",") + `]]}`),
			"more than 10000 nodes",
		},
		{
			"text", setWithRule(`{"==":[{"var":"x"},"` + strings.Repeat("a", 16<<10+1) + `"]}`),
			"has a text of 16385 bytes",
		},
		{"number", setWithRule(`{"==":[{"var":"x"},1` + strings.Repeat("0", 400) + `]}`), "has a number of 401 digits"},
		{"beyond", setWithRule(`{"==":[{"var":"x"},1e400]}`), "beyond what can be represented"},
		{"evaluators", parseFlagSet("flags/x.yaml", []byte(chain(40, `{"!": [NEXT]}`))), "deeper than 64 levels"},
		{
			"evaluators that double", parseFlagSet("flags/x.yaml", []byte(chain(20, `{and: [NEXT, NEXT]}`))),
			"more than 10000 nodes",
		},
		{
			"aliases",
			parseFlagSet("flags/x.yaml",
				[]byte(
					"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d]\n",
				)),
			"aliases expand",
		},
		{
			"faults", setWithRule(`{"and":[` + strings.TrimSuffix(strings.Repeat("{\"x\":1},\n", 1000), ",\n") + `]}`),
			"and more: mend these first",
		},
	} {
		found := false
		for _, f := range tt.got.faults {
			found = found || strings.Contains(f.Message, tt.want)
		}
		const most = 200
		if !found || !manifest.Fatal(tt.got.faults) || len(tt.got.faults) > most+1 {
			t.Errorf("%s: %d faults, none says %q: %.300v", tt.name, len(tt.got.faults), tt.want, tt.got.faults)
		}
	}
	if faults := setWithRule(nested(31)).faults; len(faults) > 0 {
		t.Errorf("31 rules within each other are too many: %v", faults)
	}
}

// R45: only likely secrets yield a warning.
func TestSecrets(t *testing.T) {
	for _, tt := range []struct {
		value  string // of variant on
		secret bool
	}{
		{`"-----BEGIN RSA PRIVATE KEY-----\nMIIE"`, true}, {`"AKIAIOSFODNN7EXAMPLE"`, true},
		{`"ghp_0123456789abcdefghijABCDEFGHIJ012345"`, true},
		{`"x xoxb-1234567890-abcdefghij"`, true}, {`"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc"`, true},
		{`"wJalrXUtnFEMIK7MDENGbPxRfiCYzKeyQ8sLm2Tv"`, true},
		{`{"db":{"password":"hunter2hunter2"}}`, true}, {`{"clientSecret":"0123456789"}`, true},
		{`{"api-key":["0123456789"]}`, true},
		{`"#ff0000"`, false}, {`"a sentence, of some length, which People2 may read one day"`, false},
		{`"https://workspaces.example/Docs/2026/some-long-Path-to-a-page"`, false},
		{`"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`, false}, {`{"token":""}`, false},
		{`{"tokens":"4096 at the most"}`, false}, {`{"password":true}`, false},
		{`"workspaces-standard-v2-with-64GB-memory"`, false},
	} {
		s := parseFlagSet("flags/x.json",
			[]byte(`{"flags":{"x":{"state":"ENABLED","variants":{"on":`+tt.value+`},"defaultVariant":"on"}}}`))
		if warned := len(s.faults) == 1 && s.faults[0].Warning; warned != tt.secret || len(s.faults) > 1 {
			t.Errorf("%s: %v", tt.value, s.faults)
		}
	}
}
