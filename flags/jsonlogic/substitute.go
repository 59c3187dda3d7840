package jsonlogic

import (
	"bytes"
	"encoding/json"
)

// Substitute gives a rule that evaluates without the facts to what rule does with them: its references to facts, "labels.tier"
// and defaults included, become constants. So what is told to others can't be changed by what they say of the same names.
//
// Bodies of map, reduce and all are left alone: there, a variable is the element's. What can't be known before an evaluation
// stays as it is: names that are computed, and all of the data at once (""). So does an object of one entry, which would be
// a rule where it is written out. A rule that doesn't compile, and one without facts in it, is given back unchanged.
func Substitute(rule []byte, facts map[string]any) []byte {
	if !mentions(rule, facts) {
		return rule
	}
	v, err := decode(rule)
	if err != nil {
		return rule
	}
	s := substitution{facts}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(asRule(s.value(v))) != nil {
		return rule // its values come from JSON: can't happen
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// mentions tells whether a rule may have the name of a fact in it.
func mentions(rule []byte, facts map[string]any) bool {
	for name := range facts {
		if bytes.Contains(rule, []byte(name)) {
			return true
		}
	}
	return len(facts) > 0 && bytes.IndexByte(rule, '\\') >= 0
}

// asRule gives what evaluates to v where only an object is evaluated.
func asRule(v any) any {
	if _, ok := v.(map[string]any); ok {
		return v
	}
	return map[string]any{"if": []any{true, v}}
}

type substitution struct{ facts map[string]any }

// value substitutes in what is evaluated with all of the data.
func (s substitution) value(v any) any {
	switch v := v.(type) {
	case []any:
		return s.values(v)
	case map[string]any:
		if len(v) != 1 {
			return v
		}
		for name, args := range v {
			return s.call(name, args)
		}
	}
	return v
}

func (s substitution) values(items []any) []any {
	substituted := make([]any, len(items))
	for i, item := range items {
		substituted[i] = s.value(item)
	}
	return substituted
}

func (s substitution) call(name string, args any) any {
	items, written := args.([]any)
	switch name {
	case "var":
		return s.variable(args)
	case "missing":
		args, _ = s.absent(args)
		return map[string]any{name: args}
	case "missing_some":
		return map[string]any{name: s.absentSome(args)}
	case "if", "?:", "and", "or":
		if !written { // it never evaluates
			return map[string]any{name: args}
		}
	case "map", "filter", "reduce", "all", "none", "some":
		return map[string]any{name: s.iteration(name, items, args)}
	}
	return map[string]any{name: s.value(args)}
}

func (s substitution) iteration(name string, items []any, args any) any {
	if len(items) == 0 {
		return args
	}
	substituted := append([]any(nil), items...)
	if subject, ok := items[0].(map[string]any); ok {
		substituted[0] = asRule(s.value(subject))
	}
	switch {
	case name == "reduce" && len(items) > 2:
		substituted[2] = s.value(items[2])
	case len(items) > 1 && (name == "filter" || name == "none" || name == "some"):
		substituted[1] = s.body(items[1])
	}
	return substituted
}

// variable substitutes a var.
func (s substitution) variable(args any) any {
	args = s.value(args)
	name, fallback, ok := named(args)
	if !ok {
		return map[string]any{"var": args}
	}
	switch v, is := s.fact(name); {
	case is && v == nil:
		return fallback
	case is && quotable(v):
		return v
	}
	return map[string]any{"var": args}
}

// named reads the arguments of a var whose name is written out.
func named(args any) (name string, fallback any, ok bool) {
	switch args := args.(type) {
	case string:
		return args, nil, true
	case []any:
		if len(args) == 0 {
			return "", nil, false
		}
		if len(args) == 2 {
			fallback = args[1]
		}
		name, ok = args[0].(string)
		return name, fallback, ok
	}
	return "", nil, false
}

// fact gives what a variable's name is, if it is a fact's.
func (s substitution) fact(name string) (v any, is bool) {
	p := pathOf(name)
	if len(p) == 0 || p[0] == "$flagd" {
		return nil, false
	}
	v, is = s.facts[p[0]]
	if v != nil {
		v = descend(v, p[1:], nil)
	}
	return v, is
}

// quotable tells whether v, written in a rule, evaluates to itself wherever it stands.
func quotable(v any) bool {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if !quotable(item) {
				return false
			}
		}
	case map[string]any:
		if _, ok := v["var"]; ok || len(v) == 1 {
			return false
		}
		for _, item := range v {
			if !quotable(item) {
				return false
			}
		}
	}
	return true
}

// body substitutes in a body that all of the data is put into before it is evaluated with an element, see solve.
func (s substitution) body(v any) any {
	switch v := v.(type) {
	case []any:
		substituted := make([]any, len(v))
		for i, item := range v {
			substituted[i] = s.body(item)
		}
		return substituted
	case map[string]any:
		substituted := make(map[string]any, len(v))
		for name, args := range v {
			if name != "var" {
				substituted[name] = s.body(args)
				continue
			}
			value, solved := s.solved(args)
			if solved {
				return value
			}
			substituted[name] = value
		}
		return substituted
	}
	return v
}

// solved gives what is put in the place of a var, or its arguments if nothing is.
func (s substitution) solved(args any) (v any, solved bool) {
	name, fallback, ok := named(args)
	if !ok || ofElement(args) {
		return args, false
	}
	switch v, is := s.fact(name); {
	case is && v == nil && fallback == nil:
		return "." + name, false // the element's, whatever the reader's data has
	case is && v == nil && quotable(fallback):
		return fallback, true
	case is && v != nil && quotable(v):
		return v, true
	}
	return args, false
}

// absent substitutes the names of missing: those of facts that there are can't be missing.
func (s substitution) absent(args any) (left any, dropped int) {
	if name, ok := args.(string); ok {
		args = []any{name}
	}
	items, ok := args.([]any)
	if !ok {
		return s.value(args), 0
	}
	kept := []any{}
	for _, item := range items {
		if name, ok := item.(string); ok {
			if v, is := s.fact(name); is && v != nil {
				dropped++
				continue
			}
		}
		kept = append(kept, s.value(item))
	}
	return kept, dropped
}

func (s substitution) absentSome(args any) any {
	items, ok := args.([]any)
	if !ok || len(items) < 2 {
		return s.value(args)
	}
	wanted, ok := items[0].(float64)
	if _, written := items[1].([]any); !ok || !written {
		return s.value(args)
	}
	names, dropped := s.absent(items[1])
	return []any{float64(int(wanted) - dropped), names}
}
