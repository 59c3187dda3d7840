package jsonlogic_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// The table's lines are: rule | data | result, or "error". test/oracle checks the results against flagd.
//
//go:embed testdata/operators.txt
var operators string

func TestOperators(t *testing.T) {
	section := ""
	for line := range strings.Lines(operators) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "# "); ok {
			section = name
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 3 {
			t.Fatalf("the table has the line %q", line)
		}
		if got := result(t, parts[0], parts[1]); got != parts[2] {
			t.Errorf("%s: %s with %s gives %s, want %s", section, parts[0], parts[1], got, parts[2])
		}
	}
}

func result(t *testing.T, rule, data string) string {
	t.Helper()
	compiled, err := jsonlogic.Compile([]byte(rule))
	if err != nil {
		t.Fatalf("compile %s: %v", rule, err)
	}
	v, err := compiled.Evaluate(jsonlogic.Input{Data: object(t, data), FlagKey: "flag", At: 1700000000})
	if err != nil {
		return "error"
	}
	text, err := jsonlogic.Text(v)
	if err != nil {
		return "error"
	}
	return text
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return o
}

// TestConcurrent checks that one rule serves many callers at once without mixing them up.
func TestConcurrent(t *testing.T) {
	rule, err := jsonlogic.Compile(
		[]byte(
			`{"cat":[{"var":"n"},"-",{"reduce":[{"filter":[{"var":"l"},{"<":[{"var":""},{"var":"n"}]}]},{"+":[{"var":"current"},{"var":"accumulator"}]},0]}]}`,
		),
	)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			want := fmt.Sprintf("%d-%d", n, n*(n-1)/2)
			for range 200 {
				data := map[string]any{"n": n, "l": []any{0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0}}
				if got, err := rule.Evaluate(jsonlogic.Input{Data: data}); err != nil || got != want {
					t.Errorf("gives %v (%v), want %s", got, err, want)
				}
			}
		})
	}
	all.Wait()
}

// TestNative checks that Go values in a context count as JSON would decode them.
func TestNative(t *testing.T) {
	type name string
	data := map[string]any{
		"int": 3, "int64": int64(1) << 62, "uint": uint(7), "float32": float32(0.1), "text": "a\xffb",
		"named": name("n"),
		"list":  []string{"a", "b"}, "deep": map[string]any{"list": []any{1, map[string]int{"n": 2}}},
		"strings": map[string]string{"k": "v"},
		"struct": struct {
			N int `json:"n"`
		}{4}, "null": []any(nil), "channel": make(chan int),
	}
	for rule, want := range map[string]string{
		`{"var":"int"}`:                            `3`,
		`{"===":[{"var":"int"},3]}`:                `true`,
		`{"var":"int64"}`:                          `4611686018427388000`,
		`{"var":"uint"}`:                           `7`,
		`{"var":"float32"}`:                        `0.1`,
		`{"var":"text"}`:                           `"a` + "\ufffd" + `b"`,
		`{"var":"named"}`:                          `"n"`,
		`{"in":["b",{"var":"list"}]}`:              `true`,
		`{"var":"deep.list.1.n"}`:                  `2`,
		`{"var":"deep"}`:                           `{"list":[1,{"n":2}]}`,
		`{"var":"strings.k"}`:                      `"v"`,
		`{"var":"struct.n"}`:                       `4`,
		`{"var":["null","none"]}`:                  `"none"`,
		`{"var":"channel"}`:                        `error`,
		`{"some":[{"var":"list"},{"var":"none"}]}`: `false`,
	} {
		compiled, err := jsonlogic.Compile([]byte(rule))
		if err != nil {
			t.Fatal(err)
		}
		got := "error"
		if v, err := compiled.Evaluate(jsonlogic.Input{Data: data}); err == nil {
			if got, err = jsonlogic.Text(v); err != nil {
				t.Fatal(err)
			}
		}
		if got != want {
			t.Errorf("%s gives %s, want %s", rule, got, want)
		}
	}
}

// TestFactsHide checks that no caller can claim another cell (R36), by a name, a path, or all data.
func TestFactsHide(t *testing.T) {
	facts := map[string]any{"cell": "acme", "region": nil, "labels": map[string]any{"tier": "gold"}}
	lies := `{"cell":"beta","region":"eu","labels":{"tier":"free","more":1},"name":"jo"}`
	for rule, want := range map[string]string{
		`{"var":"cell"}`:                           `"acme"`,
		`{"var":"cell.more"}`:                      `null`,
		`{"var":"region"}`:                         `null`,
		`{"var":["region","none"]}`:                `"none"`,
		`{"var":".labels..tier"}`:                  `"gold"`,
		`{"var":"labels.more"}`:                    `null`,
		`{"var":{"cat":["ce","ll"]}}`:              `"acme"`,
		`{"var":"name"}`:                           `"jo"`,
		`{"missing":["cell","region"]}`:            `["region"]`,
		`{"var":""}`:                               `{"$flagd":{"flagKey":"","timestamp":0},"cell":"acme","labels":{"tier":"gold"},"name":"jo","region":null}`,
		`{"some":[[1],{"==":[{"var":"cell"},1]}]}`: `false`,
		`{"filter":[["acme","beta"],{"==":[{"var":""},{"var":"cell"}]}]}`: `["acme"]`,
	} {
		compiled, err := jsonlogic.Compile([]byte(rule))
		if err != nil {
			t.Fatal(err)
		}
		v, err := compiled.Evaluate(jsonlogic.Input{Data: object(t, lies), Facts: facts})
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		if got, err := jsonlogic.Text(v); err != nil || got != want {
			t.Errorf("%s gives %s (%v), want %s", rule, got, err, want)
		}
	}
}
