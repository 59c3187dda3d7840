package jsonlogic

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const clockVar = `{"var":"$flagd.timestamp"}`

func TestInstants(t *testing.T) {
	for rule, want := range map[string]struct {
		instants []int64
		computed bool
	}{
		`{"if":[{"var":"a"},"on"]}`:                                                   {},
		`{">=":[` + clockVar + `,100]}`:                                               {instants: []int64{100}},
		`{">=":[{"var":["$flagd.timestamp"]},100]}`:                                   {instants: []int64{100}},
		`{">":[` + clockVar + `,"100"]}`:                                              {instants: []int64{101}},
		`{"<":[` + clockVar + `,99.5]}`:                                               {instants: []int64{100}},
		`{"<":[100,` + clockVar + `,200]}`:                                            {instants: []int64{101, 200}},
		`{"and":[{"<=":[100,` + clockVar + `]},{"!":{"==":[` + clockVar + `,300]}}]}`: {instants: []int64{100, 300, 301}},
		`{"===":[` + clockVar + `,300.5]}`:                                            {},
		`{"<":[` + clockVar + `,-5]}`:                                                 {},
		`{"<":[` + clockVar + `,1e300]}`:                                              {},
		`{"<":[` + clockVar + `,null]}`:                                               {instants: []int64{0}},
		`{"<":[` + clockVar + `,"soon"]}`:                                             {},
		`{"<":[` + clockVar + `,{"var":"until"}]}`:                                    {computed: true},
		`{"%":[` + clockVar + `,86400]}`:                                              {computed: true},
		`{"fractional":[{"cat":[{"var":"$flagd.timestamp"},"x"]},["a",50],["b",50]]}`: {computed: true},
		`{"in":[` + clockVar + `,[1,2]]}`:                                             {computed: true},
		`{"if":[{">":[` + clockVar + `,7]},{"cat":[{"var":"$flagd"}]},"off"]}`:        {instants: []int64{8}, computed: true},
		`{"==":[{"var":"$flagd.flagKey"},7]}`:                                         {},
		`{"some":[{"var":"l"},{"<":[{"var":""},5]}]}`:                                 {},
	} {
		r, err := Compile([]byte(rule))
		if err != nil {
			t.Fatal(err)
		}
		if at, computed := r.Instants(); !slices.Equal(at, want.instants) || computed != want.computed {
			t.Errorf("%s: %v, %v, want %+v", rule, at, computed, want)
		}
	}
}

// Between two instants nothing changes, whatever the operators.
func TestInstantsAreEveryChange(t *testing.T) {
	operators := []string{"<", "<=", ">", ">=", "==", "!=", "===", "!=="}
	rapid.Check(t, func(t *rapid.T) {
		var rule func(depth int) string
		rule = func(depth int) string {
			number := func() string {
				return fmt.Sprint(float64(rapid.IntRange(-2, 24).Draw(t, "halves")) / 2)
			}
			switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
			case kind == 0 && depth > 0:
				return `{"and":[` + rule(depth-1) + `,` + rule(depth-1) + `]}`
			case kind == 1 && depth > 0:
				return `{"if":[` + rule(depth-1) + `,"a",` + rule(depth-1) + `]}`
			case kind == 2:
				return `{"<":[` + number() + `,` + clockVar + `,` + number() + `]}`
			default:
				items := []string{clockVar, number()}
				if rapid.Bool().Draw(t, "second") {
					items[0], items[1] = items[1], items[0]
				}
				return `{"` + rapid.SampledFrom(operators).Draw(t, "operator") + `":[` + items[0] + `,` + items[1] + `]}`
			}
		}
		text := rule(2)
		r, err := Compile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		instants, computed := r.Instants()
		if computed {
			t.Fatalf("%s computes", text)
		}
		for at := int64(1); at < 15; at++ {
			before, _ := r.Evaluate(Input{At: at - 1})
			after, _ := r.Evaluate(Input{At: at})
			if before != after && !slices.Contains(instants, at) {
				t.Fatalf("%s is %v at %d and %v before, and changes at %v", text, after, at, before, instants)
			}
		}
	})
}
