package jsonlogic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Text returns a value as encoding/json's Encoder writes it, without the final newline. A value that is too large for
// an answer, or that JSON can't express, is an error.
func Text(v any) (string, error) {
	r := run{steps: maxSteps}
	return r.encodeText(v)
}

func (r *run) encodeText(v any) (string, error) {
	if err := r.spendSize(v); err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return "", fmt.Errorf("the rule's result: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// spendSize spends the cost of writing v in advance. A value that occurs twice counts twice.
func (r *run) spendSize(v any) error {
	if err := r.spend(1); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		return r.spend(len(v) / 16)
	case []any:
		for _, item := range v {
			if err := r.spendSize(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, item := range v {
			if err := r.spend(len(name) / 16); err != nil {
				return err
			}
			if err := r.spendSize(item); err != nil {
				return err
			}
		}
	}
	return nil
}
