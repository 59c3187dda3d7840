package jsonlogic

import "strings"

// solve gives a rule with what its variables are in data in their place. Those that are nothing there stay, and so do the
// ones that begin with a dot, or are all of the data: those are always the element's.
func (r *run) solve(rule, data any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	switch rule := rule.(type) {
	case map[string]any:
		if name, ok := rule["var"]; ok && !ofElement(name) {
			v, err := r.variable(name, data)
			if err != nil || v != nil {
				return v, err
			}
		}
		solved := make(map[string]any, len(rule))
		for name, v := range rule {
			if name != "var" {
				var err error
				if v, err = r.solve(v, data); err != nil {
					return nil, err
				}
			}
			solved[name] = v
		}
		return solved, nil
	case []any:
		solved := make([]any, len(rule))
		for i, v := range rule {
			v, err := r.solve(v, data)
			if err != nil {
				return nil, err
			}
			solved[i] = v
		}
		return solved, nil
	}
	return rule, nil
}

// ofElement tells whether a var of this name is never solved.
func ofElement(name any) bool {
	s, ok := name.(string)
	return ok && (s == "" || strings.HasPrefix(s, "."))
}

// settled tells whether solve has nothing to do.
func settled(rule any) bool {
	switch rule := rule.(type) {
	case map[string]any:
		for name, v := range rule {
			if name == "var" {
				if !ofElement(v) {
					return false
				}
			} else if !settled(v) {
				return false
			}
		}
	case []any:
		for _, v := range rule {
			if !settled(v) {
				return false
			}
		}
	}
	return true
}
