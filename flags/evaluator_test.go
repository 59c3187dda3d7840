package flags

import (
	"reflect"
	"testing"
)

// TestEvaluate checks variant and reason of one flag. test/oracle checks that flagd/core agrees.
func TestEvaluate(t *testing.T) {
	bools := map[string]any{"on": true, "off": false}
	for name, test := range map[string]struct {
		def  Definition
		want Result
	}{
		"no rule": {
			Definition{Variants: bools, DefaultVariant: "on"},
			Result{Value: true, Variant: "on", Reason: ReasonStatic},
		},
		"an empty rule": {
			Definition{Variants: bools, DefaultVariant: "on", Targeting: []byte(`{ }`)},
			Result{Value: true, Variant: "on", Reason: ReasonStatic},
		},
		"disabled": {
			Definition{Variants: bools, DefaultVariant: "on", Disabled: true, Targeting: []byte(`{"if":[true,"off"]}`)},
			Result{Reason: ReasonDisabled},
		},
		"neither rule nor default": {
			Definition{Variants: bools},
			Result{Reason: ReasonDefault},
		},
		"the rule gives null": {
			Definition{Variants: bools, DefaultVariant: "off", Targeting: []byte(`{"if":[false,"on"]}`)},
			Result{Value: false, Variant: "off", Reason: ReasonDefault},
		},
		"the rule is null": {
			Definition{Variants: bools, DefaultVariant: "off", Targeting: []byte(`null`)},
			Result{Value: false, Variant: "off", Reason: ReasonDefault},
		},
		"the rule gives null, and there is no default": {
			Definition{Variants: bools, Targeting: []byte(`{"if":[false,"on"]}`)},
			Result{Reason: ReasonDefault},
		},
		"the rule chooses": {
			Definition{Variants: bools, DefaultVariant: "off", Targeting: []byte(`{"if":[{"var":"who"},"on"]}`)},
			Result{Value: true, Variant: "on", Reason: ReasonMatch},
		},
		"the rule gives a bool": {
			Definition{
				Variants: map[string]any{"true": "yes", "false": "no"}, DefaultVariant: "false",
				Targeting: []byte(`{"!!":[{"var":"who"}]}`),
			},
			Result{Value: "yes", Variant: "true", Reason: ReasonMatch},
		},
		"the rule gives a number": {
			Definition{Variants: map[string]any{"3": 3.5}, DefaultVariant: "3", Targeting: []byte(`{"+":[1,2]}`)},
			Result{Value: 3.5, Variant: "3", Reason: ReasonMatch},
		},
		"the rule gives a list": {
			Definition{Variants: map[string]any{"[a,1]": "list"}, Targeting: []byte(`{"merge":["a",1]}`)},
			Result{Value: "list", Variant: "[a,1]", Reason: ReasonMatch},
		},
		"the rule gives what JSON escapes": {
			Definition{Variants: map[string]any{"<": "no", `\u003c`: "yes"}, Targeting: []byte(`{"if":[true,"<"]}`)},
			Result{Value: "yes", Variant: `\u003c`, Reason: ReasonMatch},
		},
		"the rule gives the text null": {
			Definition{Variants: map[string]any{"null": "x"}, Targeting: []byte(`{"if":[true,"null"]}`)},
			Result{Value: "x", Variant: "null", Reason: ReasonMatch},
		},
		"the rule chooses what there is not": {
			Definition{Variants: bools, DefaultVariant: "off", Targeting: []byte(`{"if":[true,"blue"]}`)},
			Result{Reason: ReasonError, Error: ErrorGeneral,
				Message: `the rule chooses "blue", which is not a variant`},
		},
		"the rule can't be evaluated": {
			Definition{Variants: bools, DefaultVariant: "off", Targeting: []byte(`{"no_such":[]}`)},
			Result{Reason: ReasonError, Error: ErrorParse, Message: `there is no operator "no_such"`},
		},
		"the rule gives what JSON can't say": {
			Definition{Variants: bools, DefaultVariant: "off", Targeting: []byte(`{"/":[1,0]}`)},
			Result{Reason: ReasonError, Error: ErrorParse, Message: "the rule's result: json: unsupported value: +Inf"},
		},
		"a variant without a value": {
			Definition{Variants: map[string]any{"on": nil}, DefaultVariant: "on"},
			Result{Variant: "on", Reason: ReasonError, Error: ErrorTypeMismatch, Message: "the variant has no value"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.def.Key = "flag"
			test.def.Metadata = map[string]any{"feature": "x", "none": nil}
			evaluate, err := test.def.Evaluator()
			if err != nil {
				t.Fatal(err)
			}
			test.want.Metadata = map[string]any{"feature": "x"}
			if got := evaluate(Context{"who": "jo"}, nil, 1); !reflect.DeepEqual(got, test.want) {
				t.Errorf("gives %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestEvaluateRefuses checks definitions that can't be compiled.
func TestEvaluateRefuses(t *testing.T) {
	for name, d := range map[string]Definition{
		"no such default": {Variants: map[string]any{"on": true}, DefaultVariant: "off"},
		"an endless number": {
			Variants: map[string]any{"on": true}, DefaultVariant: "on", Targeting: []byte(`{"+":[1e999]}`),
		},
		"a rule that is not": {Variants: map[string]any{"on": true}, DefaultVariant: "on", Targeting: []byte(`{"if"`)},
	} {
		if _, err := d.Evaluator(); err == nil {
			t.Errorf("%s: compiles", name)
		}
	}
}

// TestFactsWin checks that a caller can't claim another cell, however a rule reads the fact (fault 62, R36).
func TestFactsWin(t *testing.T) {
	d := Definition{
		Key: "flag", Variants: map[string]any{"on": true, "off": false}, DefaultVariant: "off",
		Targeting: []byte(
			`{"if":[{"and":[{"==":[{"var":"cell"},"acme"]},{"in":[{"var":"labels.tier"},["gold"]]},{"!":[{"var":"region"}]}]},"on","off"]}`,
		),
	}
	evaluate, err := d.Evaluator()
	if err != nil {
		t.Fatal(err)
	}
	claimed := Context{"cell": "acme", "labels": map[string]any{"tier": "gold"}}
	acme := map[string]any{"cell": "acme", "labels": map[string]any{"tier": "gold"}, "region": nil}
	beta := map[string]any{"cell": "beta", "labels": map[string]any{}, "region": nil}
	if got := evaluate(claimed, beta, 1); got.Variant != "off" {
		t.Errorf("beta is believed to be acme: %+v", got)
	}
	if got := evaluate(Context{"cell": "beta", "region": "eu"}, acme, 1); got.Variant != "on" {
		t.Errorf("acme is believed to be beta: %+v", got)
	}
}

// TestAs checks types as flagd treats them.
func TestAs(t *testing.T) {
	object := map[string]any{"a": 1.0}
	for _, test := range []struct {
		value any
		kind  Kind
		want  any // nil: a mismatch
	}{
		{true, KindBool, true}, {"x", KindBool, nil}, {"x", KindString, "x"}, {1.5, KindString, nil},
		{1.5, KindFloat, 1.5},
		{1.9, KindInt, int64(1)}, {-1.9, KindInt, int64(-1)}, {"1", KindInt, nil}, {object, KindObject, object},
		{[]any{1.0}, KindObject, nil}, {[]any{1.0}, KindAny, []any{1.0}},
	} {
		got := Result{Value: test.value, Variant: "v", Reason: ReasonMatch}.As(test.kind)
		if !reflect.DeepEqual(got.Value, test.want) || (got.Error == ErrorTypeMismatch) != (test.want == nil) ||
			got.Variant != "v" {
			t.Errorf("%v as kind %d gives %+v, want %v", test.value, test.kind, got, test.want)
		}
	}
	for _, r := range []Result{{Reason: ReasonDisabled}, {Reason: ReasonDefault},
		{Reason: ReasonError, Error: ErrorParse}} {
		if got := r.As(KindBool); !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v", r, got)
		}
	}
}

// BenchmarkEvaluate measures an evaluation of a flag with a rule and a cell's facts.
func BenchmarkEvaluate(b *testing.B) {
	ctx := Context{"targetingKey": "user-4711", "email": "jo@example.com"}
	facts := map[string]any{
		"cell": "acme", "channel": "dedicated", "release": "2026.11.3", "region": nil,
		"labels": map[string]any{"tier": "gold"},
	}
	for name, rule := range map[string]string{
		"boolean":    `{"if":[{"ends_with":[{"var":"email"},"@example.com"]},"on","off"]}`,
		"fractional": `{"fractional":[["on",25],["off",75]]}`,
		"key":        `{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"email"}]},["on",25],["off",75]]}`,
	} {
		b.Run(name, func(b *testing.B) {
			c, err := newEvaluator(&Definition{
				Key: "workspace-classes", Variants: map[string]any{"on": true, "off": false}, DefaultVariant: "off",
				Targeting: []byte(rule),
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if r := c.evaluate(ctx, facts, 1); r.Reason != ReasonMatch {
					b.Fatal(r)
				}
			}
		})
	}
}
