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
// a rule where it is written out. In the body of some, a fact that is nothing becomes the element's value, which counts as a
// rule no more. A rule that doesn't compile, and one without facts in it, is given back unchanged.
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
		return s.missing(args)
	case "missing_some":
		return s.missingSome(args)
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

// missing substitutes in missing: names of facts that are nothing are missing, whatever the reader's data has; the others are not.
func (s substitution) missing(args any) any {
	if name, ok := args.(string); ok {
		args = []any{name}
	}
	items, ok := args.([]any)
	if !ok {
		return map[string]any{"missing": s.value(args)}
	}
	names := s.names(items)
	if len(names.absent) == 0 {
		return map[string]any{"missing": names.open}
	}
	return names.missing()
}

// missingSome substitutes in missing_some, as missing: what is there counts as found.
func (s substitution) missingSome(args any) any {
	items, ok := args.([]any)
	if !ok || len(items) < 2 {
		return map[string]any{"missing_some": s.value(args)}
	}
	wanted, ok := items[0].(float64)
	written, too := items[1].([]any)
	if !ok || !too {
		return map[string]any{"missing_some": s.value(args)}
	}
	names := s.names(written)
	wanted = float64(int(wanted) - names.found)
	if len(names.absent) == 0 {
		return map[string]any{"missing_some": []any{wanted, names.open}}
	}
	// missing_some of the others can't tell "none of them is missing" from "enough are found": so they are counted.
	count := map[string]any{"reduce": []any{
		map[string]any{"map": []any{map[string]any{"missing": names.open}, 1.0}}, op("+", op("var", "accumulator"), 1.0), 0.0,
	}}
	found := op("-", float64(len(names.open)), count)
	return op("if", op(">", wanted, found), names.missing(), []any{})
}

func op(name string, args ...any) map[string]any {
	if name == "var" {
		return map[string]any{name: args[0]}
	}
	return map[string]any{name: args}
}

// names are those of missing, sorted out.
type names struct {
	open   []any   // that an evaluation has to look up
	absent []any   // of facts that are nothing
	found  int     // facts that there are
	parts  [][]any // open and absent ones in turn, in the order that they were in
}

func (s substitution) names(items []any) names {
	n := names{open: []any{}}
	parts := [][]any{{}}
	for _, item := range items {
		name, ok := item.(string)
		v, is := s.fact(name)
		switch {
		case ok && is && v != nil:
			n.found++
			continue
		case !ok || !is:
			item = s.value(item)
			n.open = append(n.open, item)
			if len(parts)%2 == 0 {
				parts = append(parts, nil)
			}
		default:
			n.absent = append(n.absent, item)
			if len(parts)%2 == 1 {
				parts = append(parts, nil)
			}
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], item)
	}
	n.parts = parts
	return n
}

// missing gives what evaluates to those of the names that are missing, in their order.
func (n names) missing() any {
	lists := []any{}
	for i, part := range n.parts {
		switch {
		case len(part) == 0:
		case i%2 == 0:
			lists = append(lists, map[string]any{"missing": part})
		default:
			lists = append(lists, part)
		}
	}
	return map[string]any{"merge": lists}
}
