package flags

import (
	"fmt"
	"math"
	"strings"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// Context describes a caller: OpenFeature's evaluation context, flattened, with "targetingKey" among the attributes.
// Values are as encoding/json decodes them, or any Go integer.
type Context map[string]any

// Reason says why a flag has its value, in OpenFeature's words as flagd uses them.
type Reason string

// Reasons.
const (
	ReasonStatic Reason = "STATIC" // the default variant of a flag without rules
	// the rules chose no variant; without a Variant, the caller's default counts
	ReasonDefault  Reason = "DEFAULT"
	ReasonMatch    Reason = "TARGETING_MATCH" // the rules chose the variant
	ReasonDisabled Reason = "DISABLED"        // the caller's default counts
	ReasonError    Reason = "ERROR"           // see Result.Error
)

// ErrorCode is OpenFeature's error code, as flagd uses it. Empty: no error.
type ErrorCode string

// Error codes.
const (
	ErrorFlagNotFound   ErrorCode = "FLAG_NOT_FOUND"
	ErrorParse          ErrorCode = "PARSE_ERROR"   // the rule can't be evaluated with the context
	ErrorTypeMismatch   ErrorCode = "TYPE_MISMATCH" // the value has another type than requested
	ErrorGeneral        ErrorCode = "GENERAL"       // the rule chose an unknown variant
	ErrorInvalidContext ErrorCode = "INVALID_CONTEXT"
)

// Result is the outcome of an evaluation. Value and Metadata are shared and must not be changed.
type Result struct {
	Value    any    // as encoding/json decodes it; nil: the caller's default counts
	Variant  string // empty: none
	Reason   Reason
	Error    ErrorCode // empty unless Reason is ReasonError
	Message  string    // the error, for people
	Metadata map[string]any
}

// Kind is the type that a caller requests.
type Kind int

// Kinds of values, as flagd distinguishes them.
const (
	KindAny Kind = iota
	KindBool
	KindString
	KindInt
	KindFloat
	KindObject
)

// As returns r as a caller of the given kind receives it: with ErrorTypeMismatch if the value has another type. A
// number becomes an int64 without its fraction, as in flagd, if an int64 from a float64 is exact. A result without a
// value stays unchanged.
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
			if !(math.Abs(f) <= maxExact) {
				return r.mismatch("the flag's value is beyond 2^53, and would be another number as an integer")
			}
			r.Value = int64(f)
		}
	case KindObject:
		_, ok = r.Value.(map[string]any)
	}
	if !ok {
		return r.mismatch("the flag's value has another type")
	}
	return r
}

func (r Result) mismatch(message string) Result {
	r.Value, r.Reason, r.Error, r.Message = nil, ReasonError, ErrorTypeMismatch, message
	return r
}

// maxExact is the greatest whole number up to which every one is a float64 of its own.
const maxExact = 1<<53 - 1

// evaluator is a flag with a compiled rule. Immutable.
type evaluator struct {
	key       string
	rule      *jsonlogic.Rule   // nil: no rule
	matches   map[string]Result // by variant: the result when the rule chooses the variant
	static    Result            // the result without a rule
	unmatched Result            // the result if the rule chooses no variant
	failure   Result            // the result if the rule fails, without Error and Message
}

// newEvaluator compiles a definition. The error says what is wrong with the definition.
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

// clockUse is Instants of the rule; nil: there is none.
func (c *evaluator) clockUse() (instants []int64, computed bool) {
	if c == nil || c.rule == nil {
		return nil, false
	}
	return c.rule.Instants()
}

// evaluate returns the flag's result for a caller at an instant, in Unix seconds. Facts hide attributes of the same
// name.
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
		return c.errorResult(ErrorGeneral, fmt.Sprintf("the rule chooses %.64q, which is not a variant", variant))
	}
	return r
}

func (c *evaluator) errorResult(code ErrorCode, message string) Result {
	r := c.failure
	r.Error, r.Message = code, message
	return r
}

// VariantNamed returns the name of the variant that a rule's result chooses: the result's JSON without quotation marks.
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

// Choosable reports whether a rule can choose a variant: flagd compares the JSON of the rule's result.
func Choosable(variant string) bool {
	name, err := VariantNamed(variant)
	return err == nil && name == variant
}

// isPlainJSON reports whether JSON writes s without escapes.
func isPlainJSON(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// Evaluator compiles the definition alone, without announcements and kills. The function returns the flag's result for
// a caller at an instant, in Unix seconds. Facts hide attributes of the same name.
func (d *Definition) Evaluator() (func(ctx Context, facts map[string]any, at int64) Result, error) {
	c, err := newEvaluator(d)
	if err != nil {
		return nil, err
	}
	return c.evaluate, nil
}
