package jsonlogic

import (
	"math"
	"strconv"
	"strings"
)

// Values are nil, bool, float64, string, []any and map[string]any, and the int 0, as the result of "-" and "/" without
// operands.

func isPrimitive(v any) bool {
	switch v.(type) {
	case bool, string, float64, int:
		return true
	}
	return false
}

func isNumber(v any) bool {
	switch v.(type) {
	case float64, int:
		return true
	}
	return false
}

// isTruthy reports whether v counts as true in a condition.
func isTruthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case int:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// toNumber converts an operand of arithmetic to a number; text that is no number counts as 0.
func toNumber(v any) (float64, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	case string:
		f, _ := strconv.ParseFloat(v, 64)
		return f, nil
	}
	return 0, errShape
}

// toComparable converts an operand of a comparison to a number; NaN, which compares as false, if it is none.
func toComparable(v any) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case float64:
		return v
	case int:
		return float64(v)
	case bool:
		if v {
			return 1
		}
		return 0
	case string:
		if strings.TrimSpace(v) == "" {
			return 0
		}
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return f
		}
	}
	return math.NaN()
}

func toText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case int:
		return strconv.Itoa(v), nil
	}
	return "", errShape
}

// sameValue reports whether two values are equal in Go. It returns errShape for two arrays and for two objects.
func sameValue(a, b any) (bool, error) {
	switch a.(type) {
	case []any:
		if _, ok := b.([]any); ok {
			return false, errShape
		}
		return false, nil
	case map[string]any:
		if _, ok := b.(map[string]any); ok {
			return false, errShape
		}
		return false, nil
	}
	switch b.(type) {
	case []any, map[string]any:
		return false, nil
	}
	return a == b, nil
}
