package jsonlogic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// decodeRule decodes a rule as encoding/json does, within limits.
func decodeRule(rule []byte) (any, error) {
	if len(rule) > MaxBytes {
		return nil, fmt.Errorf("the rule has %d bytes, more than %d", len(rule), MaxBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(rule))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read the rule: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read the rule: more data follows it")
	}
	nodes := 0
	return enforceLimits(v, 0, &nodes)
}

// enforceLimits converts the json.Numbers in v to float64, in place, and refuses values beyond the limits.
func enforceLimits(v any, depth int, nodes *int) (any, error) {
	if *nodes++; *nodes > MaxNodes {
		return nil, fmt.Errorf("the rule has more than %d values", MaxNodes)
	}
	if depth > MaxDepth {
		return nil, fmt.Errorf("the rule is nested deeper than %d", MaxDepth)
	}
	switch v := v.(type) {
	case json.Number:
		return parseNumber(v)
	case string:
		return v, checkLength(v)
	case []any:
		for i := range v {
			item, err := enforceLimits(v[i], depth+1, nodes)
			if err != nil {
				return nil, err
			}
			v[i] = item
		}
	case map[string]any:
		for key, item := range v {
			if err := checkLength(key); err != nil {
				return nil, err
			}
			item, err := enforceLimits(item, depth+1, nodes)
			if err != nil {
				return nil, err
			}
			v[key] = item
		}
	}
	return v, nil
}

func parseNumber(n json.Number) (any, error) {
	if len(n) > MaxDigits {
		return nil, fmt.Errorf("the rule has a number of %d digits, more than %d", len(n), MaxDigits)
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("the rule has a number out of range: %s", n)
	}
	return f, nil
}

func checkLength(s string) error {
	if len(s) > MaxString {
		return fmt.Errorf("the rule has a string of %d bytes, more than %d", len(s), MaxString)
	}
	return nil
}
