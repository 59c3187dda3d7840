package jsonlogic

import "strings"

// solveVars replaces the variables of a rule by their values in data, as flagd's JSONLogic does before iterating.
// Variables without a value remain, and so do names that are empty or begin with a dot: they always refer to the
// element.
func (r *run) solveVars(rule, data any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	switch rule := rule.(type) {
	case map[string]any:
		if name, ok := rule["var"]; ok && !isElementVar(name) {
			v, err := r.lookUpVariable(name, data)
			if err != nil || v != nil {
				return v, err
			}
		}
		solved := make(map[string]any, len(rule))
		for name, v := range rule {
			if name != "var" {
				var err error
				if v, err = r.solveVars(v, data); err != nil {
					return nil, err
				}
			}
			solved[name] = v
		}
		return solved, nil
	case []any:
		solved := make([]any, len(rule))
		for i, v := range rule {
			v, err := r.solveVars(v, data)
			if err != nil {
				return nil, err
			}
			solved[i] = v
		}
		return solved, nil
	}
	return rule, nil
}

// isElementVar reports whether a var of this name is never solved.
func isElementVar(name any) bool {
	s, ok := name.(string)
	return ok && (s == "" || strings.HasPrefix(s, "."))
}

// isSolved reports whether solveVars would change nothing.
func isSolved(rule any) bool {
	switch rule := rule.(type) {
	case map[string]any:
		for name, v := range rule {
			if name == "var" {
				if !isElementVar(v) {
					return false
				}
			} else if !isSolved(v) {
				return false
			}
		}
	case []any:
		for _, v := range rule {
			if !isSolved(v) {
				return false
			}
		}
	}
	return true
}
