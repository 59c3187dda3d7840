package flags

import (
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// Context is what a caller says of itself: OpenFeature's evaluation context, flattened, "targetingKey" among the rest.
// Values are as encoding/json gives them, or any of Go's integers.
type Context map[string]any

// Reason says why a flag has its value: OpenFeature's words, as flagd gives them.
type Reason string

// Reasons.
const (
	ReasonStatic   Reason = "STATIC"          // the default variant of a flag without rules
	ReasonDefault  Reason = "DEFAULT"         // the rules chose none; without a Variant, the caller's own default counts
	ReasonMatch    Reason = "TARGETING_MATCH" // the rules chose it
	ReasonDisabled Reason = "DISABLED"        // the caller's own default counts
	ReasonError    Reason = "ERROR"           // see Result.Error
)

// ErrorCode is OpenFeature's, as flagd gives it. Empty: none.
type ErrorCode string

// Error codes.
const (
	ErrorFlagNotFound   ErrorCode = "FLAG_NOT_FOUND"
	ErrorParse          ErrorCode = "PARSE_ERROR"   // the rule can't be evaluated with this context
	ErrorTypeMismatch   ErrorCode = "TYPE_MISMATCH" // the value is not of the type that was asked for
	ErrorGeneral        ErrorCode = "GENERAL"       // the rule chose a variant that there is not
	ErrorInvalidContext ErrorCode = "INVALID_CONTEXT"
)

// Result is what a flag evaluates to. Its value and metadata are shared: nobody may change them.
type Result struct {
	Value    any    // as encoding/json gives it; nil if the caller's own default counts
	Variant  string // empty: none
	Reason   Reason
	Error    ErrorCode // empty unless Reason is ReasonError
	Message  string    // of an error, for people
	Metadata map[string]any
}

// Kind is the type that a caller asks for.
type Kind int

// Kinds of values, as flagd tells them apart.
const (
	KindAny Kind = iota
	KindBool
	KindString
	KindInt
	KindFloat
	KindObject
)

// As gives r as one that asked for a kind gets it: with ErrorTypeMismatch if the value is of another. A whole number is an int64
// of which flagd has cut off what follows the point. A result without a value stays what it is.
func (r Result) As(kind Kind) Result {
	if r.Reason == ReasonError || r.Value == nil {
		return r
	}
	ok := true
	switch kind {
	case KindAny:
	case KindBool:
		_, ok = r.Value.(bool)
	case KindString:
		_, ok = r.Value.(string)
	case KindFloat:
		_, ok = r.Value.(float64)
	case KindInt:
		var f float64
		if f, ok = r.Value.(float64); ok {
			r.Value = int64(f)
		}
	case KindObject:
		_, ok = r.Value.(map[string]any)
	}
	if !ok {
		r.Value, r.Reason, r.Error, r.Message = nil, ReasonError, ErrorTypeMismatch, "the flag's value is of another type"
	}
	return r
}

// evaluator is a flag whose rule is compiled. Immutable.
type evaluator struct {
	key       string
	rule      *jsonlogic.Rule   // nil: none
	matches   map[string]Result // by variant: what the rule gives by choosing it
	static    Result            // without a rule
	unmatched Result            // if the rule chooses none
	failure   Result            // if the rule does; without Error and Message
}

// newEvaluator compiles a definition: an error says what is wrong with it.
func newEvaluator(d *Definition) (*evaluator, error) {
	c := &evaluator{key: d.Key, matches: make(map[string]Result, len(d.Variants))}
	metadata := make(map[string]any, len(d.Metadata))
	for name, v := range d.Metadata {
		if v != nil {
			metadata[name] = v
		}
	}
	c.failure = Result{Reason: ReasonError, Metadata: metadata}
	for variant := range d.Variants {
		c.matches[variant] = c.result(d, variant, ReasonMatch)
	}
	c.static = c.result(d, d.DefaultVariant, ReasonStatic)
	c.unmatched = c.result(d, d.DefaultVariant, ReasonDefault)
	if d.DefaultVariant == "" {
		c.static = Result{Reason: ReasonDefault, Metadata: metadata}
		c.unmatched = c.static
	} else if _, ok := d.Variants[d.DefaultVariant]; !ok {
		return nil, fmt.Errorf("flag %q: there is no variant %q, its default", d.Key, d.DefaultVariant)
	}
	if len(d.Targeting) > 0 {
		rule, err := jsonlogic.Compile(d.Targeting)
		if err != nil {
			return nil, fmt.Errorf("flag %q: targeting: %w", d.Key, err)
		}
		if !rule.Empty() {
			c.rule = rule
		}
	}
	if d.Disabled {
		c.rule, c.static = nil, Result{Reason: ReasonDisabled, Metadata: metadata}
	}
	return c, nil
}

func (c *evaluator) result(d *Definition, variant string, reason Reason) Result {
	r := Result{Value: d.Variants[variant], Variant: variant, Reason: reason, Metadata: c.failure.Metadata}
	if r.Value == nil {
		r.Reason, r.Error, r.Message = ReasonError, ErrorTypeMismatch, "the variant has no value"
	}
	return r
}

// evaluate gives what the flag is for a caller at an instant, in Unix seconds. Facts hide what the caller says of the same names.
func (c *evaluator) evaluate(ctx Context, facts map[string]any, at int64) Result {
	if c.rule == nil {
		return c.static
	}
	chosen, err := c.rule.Evaluate(jsonlogic.Input{Data: ctx, Facts: facts, FlagKey: c.key, At: at})
	if err != nil {
		return c.errorResult(ErrorParse, err.Error())
	}
	if chosen == nil {
		return c.unmatched
	}
	variant, err := VariantNamed(chosen)
	if err != nil {
		return c.errorResult(ErrorParse, err.Error())
	}
	r, ok := c.matches[variant]
	if !ok {
		return c.errorResult(ErrorGeneral, fmt.Sprintf("the rule chooses %.64q, which is no variant", variant))
	}
	return r
}

func (c *evaluator) errorResult(code ErrorCode, message string) Result {
	r := c.failure
	r.Error, r.Message = code, message
	return r
}

// VariantNamed gives the variant that a rule's result names: the JSON of it without quotation marks.
func VariantNamed(chosen any) (string, error) {
	switch v := chosen.(type) {
	case bool:
		if v {
			return "true", nil
		}
		return "false", nil
	case string:
		if isPlainJSON(v) {
			return v, nil
		}
	}
	text, err := jsonlogic.Text(chosen)
	return strings.ReplaceAll(text, `"`, ""), err
}

// Choosable tells whether a rule can choose a variant: flagd takes the JSON of what it gives.
func Choosable(variant string) bool {
	name, err := VariantNamed(variant)
	return err == nil && name == variant
}

// isPlainJSON tells whether JSON writes s as it is.
func isPlainJSON(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// Evaluator compiles the definition alone, without announcements and kills: what gives the flag's value for a caller at an
// instant, in Unix seconds. Facts hide what the caller says of the same names.
func (d *Definition) Evaluator() (func(ctx Context, facts map[string]any, at int64) Result, error) {
	c, err := newEvaluator(d)
	if err != nil {
		return nil, err
	}
	return c.evaluate, nil
}
