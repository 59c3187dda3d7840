package releases

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// OwnerCell marks parameters that are set in the cell only, never in the repository (R13).
const OwnerCell = "cell"

// CheckValues returns what is wrong with the values that the repository has for a cell, compared with r's parameters,
// sorted by parameter. An empty result means that the values can be granted.
func CheckValues(r *Release, values map[string]any) []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p, ok := r.Parameters[name]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s is not a parameter of %s%s", name, r.Version, listParameters(r)))
		case p.Owner == OwnerCell:
			wrong = append(wrong, name+" is set in the cell only: remove it here")
		default:
			if _, why := p.normaliseValue(values[name]); why != "" {
				wrong = append(wrong, name+" "+why)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		if p := r.Parameters[name]; p.Required && p.Owner != OwnerCell && values[name] == nil {
			wrong = append(wrong, name+" is required")
		}
	}
	return wrong
}

func listParameters(r *Release) string {
	if len(r.Parameters) == 0 {
		return ", which has none"
	}
	return "; there are: " + strings.Join(slices.Sorted(maps.Keys(r.Parameters)), ", ")
}

// OwnerValuesError says what the cell's owner must still set, or set otherwise. The release and the vendor's values are
// in order.
type OwnerValuesError struct{ Reason string }

func (e *OwnerValuesError) Error() string { return e.Reason }

// ResolveValues returns the value of every parameter of r that has one: from the cell for parameters that the cell
// owns, from the repository for the others, else the default. Integers are int and numbers float64, however the values
// were decoded. The cell's values for other parameters are left out: another release may need them. The error is an
// *OwnerValuesError if nothing but the cell's own values is wrong.
func ResolveValues(r *Release, vendor, cell map[string]any) (map[string]any, error) {
	wrong := CheckValues(r, vendor)
	vendors := len(wrong)
	resolved := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		p := r.Parameters[name]
		value := vendor[name]
		if p.Owner == OwnerCell {
			value = cell[name]
			if value == nil && p.Required {
				wrong = append(wrong, name+" is required: set it in the agent's file of --values")
			}
		}
		if value == nil {
			value = p.Default
		}
		if value == nil {
			continue
		}
		v, why := p.normaliseValue(value)
		if why != "" && p.Owner == OwnerCell { // CheckValues reported the others
			wrong = append(wrong, name+" "+why)
		}
		resolved[name] = v
	}
	switch reason := strings.Join(wrong, "; "); {
	case vendors > 0:
		return nil, errors.New(reason)
	case len(wrong) > 0:
		return nil, &OwnerValuesError{reason}
	}
	return resolved, nil
}

// normaliseValue returns a value in its one Go form, or the reason why the parameter can't have the value.
func (p Parameter) normaliseValue(value any) (v any, why string) {
	switch p.Type {
	case "string":
		s, ok := value.(string)
		if !ok {
			return nil, fmt.Sprintf("must be a string, not %v", value)
		}
		return s, p.checkString(s)
	case "boolean":
		b, ok := value.(bool)
		if !ok {
			return nil, fmt.Sprintf("must be true or false, not %v", value)
		}
		return b, ""
	case "integer", "number":
		n, ok := toFloat(value)
		if !ok {
			return nil, fmt.Sprintf("must be a number, not %v", value)
		}
		return p.normaliseNumber(n)
	}
	return nil, fmt.Sprintf("has a parameter of unknown type %q", p.Type)
}

func (p Parameter) checkString(s string) (why string) {
	if p.Enum != nil && !slices.Contains(p.Enum, s) {
		return fmt.Sprintf("must be %s, not %q", strings.Join(p.Enum, " or "), s)
	}
	if p.Pattern == "" {
		return ""
	}
	re, err := p.compilePattern()
	if err != nil {
		return "has a pattern that is not a regular expression"
	}
	if !re.MatchString(s) {
		return fmt.Sprintf("must match %s, and %q does not", p.Pattern, s)
	}
	return ""
}

func (p Parameter) normaliseNumber(n float64) (v any, why string) {
	switch {
	case p.Type == "integer" && (n != math.Trunc(n) || math.Abs(n) > 1<<53):
		return nil, fmt.Sprintf("must be a whole number, not %v", n)
	case p.Minimum != nil && n < *p.Minimum:
		return nil, fmt.Sprintf("must be at least %v, not %v", *p.Minimum, n)
	case p.Maximum != nil && n > *p.Maximum:
		return nil, fmt.Sprintf("must be at most %v, not %v", *p.Maximum, n)
	case p.Type == "integer":
		return int(n), ""
	}
	return n, ""
}

// compilePattern returns the pattern compiled so that it must match a whole value.
func (p Parameter) compilePattern() (*regexp.Regexp, error) {
	if p.compiled != nil {
		return p.compiled()
	}
	// compiled as written first, so that the message quotes the author's pattern
	if _, err := regexp.Compile(p.Pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`^(?:` + p.Pattern + `)$`)
}

// toFloat converts a number from any type that the YAML and JSON decoders produce.
func toFloat(value any) (float64, bool) {
	var n float64
	switch x := value.(type) {
	case int:
		n = float64(x)
	case int64:
		n = float64(x)
	case float64:
		n = x
	case json.Number:
		f, err := x.Float64()
		if err != nil {
			return 0, false
		}
		n = f
	default:
		return 0, false
	}
	return n, !math.IsNaN(n) && !math.IsInf(n, 0)
}

// StandIn returns a made-up value that the parameter can have, to render a release where nobody set one yet; nil if
// none of the usual ones fits.
func (p Parameter) StandIn() any {
	candidates := []any{p.Default, true, 1, "sample", "sample.example", "sample@sample.example", "https://sample.example",
		"a", "A", "1", "10.0.0.1", "10.0.0.0/8", "1Gi", "100m", "1h", "2026-01-01", "eu-central-1", "1.0.0",
		"00000000-0000-0000-0000-000000000000"}
	for _, bound := range []*float64{p.Minimum, p.Maximum} {
		if bound != nil {
			candidates = append(candidates, math.Ceil(*bound), math.Floor(*bound))
		}
	}
	for _, word := range p.Enum {
		candidates = append(candidates, word)
	}
	for _, c := range candidates {
		if c == nil {
			continue
		}
		if v, why := p.normaliseValue(c); why == "" {
			return v
		}
	}
	return nil
}
