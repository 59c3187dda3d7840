package jsonlogic

import (
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"
)

// toJSONValue returns a caller's value as JSON would decode it after encoding.
func (r *run) toJSONValue(v any) (any, error) {
	switch of := v.(type) { // v itself is returned, to save an allocation
	case string:
		if err := r.spendText(v); err != nil || utf8.ValidString(of) {
			return v, err
		}
		return string([]rune(of)), nil
	case bool, nil:
		return v, nil
	case float64:
		if !math.IsNaN(of) && !math.IsInf(of, 0) {
			return v, nil
		}
	case int:
		return float64(of), nil
	case int32:
		return float64(of), nil
	case int64:
		return float64(of), nil
	}
	ok, err := r.isJSONValue(v, 0)
	if ok || err != nil {
		return v, err
	}
	return throughJSON(v)
}

// isJSONValue reports whether v is as encoding/json decodes values.
func (r *run) isJSONValue(v any, depth int) (bool, error) {
	if depth > maxDataDepth {
		return false, ErrBudget
	}
	switch v := v.(type) {
	case nil, bool:
		return true, nil
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0), nil
	case string:
		return utf8.ValidString(v), r.spend(len(v) / 64)
	case []any:
		if v == nil {
			return false, nil
		}
		if err := r.spend(len(v) / 8); err != nil {
			return false, err
		}
		for _, item := range v {
			if ok, err := r.isJSONValue(item, depth+1); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case map[string]any:
		if v == nil {
			return false, nil
		}
		if err := r.spend(len(v) / 8); err != nil {
			return false, err
		}
		for name, item := range v {
			if !utf8.ValidString(name) {
				return false, nil
			}
			if ok, err := r.isJSONValue(item, depth+1); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return false, nil
}

// maxDataDepth is beyond the depth that encoding/json decodes.
const maxDataDepth = 10_001

func throughJSON(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("the context has a value that JSON can't express: %w", err)
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil, fmt.Errorf("read the context: %w", err)
	}
	return plain, nil
}
