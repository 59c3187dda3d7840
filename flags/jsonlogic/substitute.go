package jsonlogic

import (
	"bytes"
	"encoding/json"
)

// Substitute returns a rule that evaluates without facts as rule does with them: references to facts, "labels.tier" and
// defaults included, become constants. Contexts of other readers then can't change the outcome by the same names.
//
// Bodies of map, reduce and all stay unchanged: there, a variable is the element's. Computed names and references to
// all data ("") stay too, and so does an object of one entry, which would become a rule as a literal. In the body of
// some, a null fact becomes the element's value, which no longer counts as a rule. A rule that does not compile, or
// contains no facts, is returned unchanged.
func Substitute(rule []byte, facts map[string]any) []byte {
	if !mentionsFact(rule, facts) {
		return rule
	}
	v, err := decodeRule(rule)
	if err != nil {
		return rule
	}
	s := substitution{facts}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(asRule(s.substituteValue(v))) != nil {
		return rule // impossible: the values come from JSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// mentionsFact reports whether a rule may contain the name of a fact.
func mentionsFact(rule []byte, facts map[string]any) bool {
	for name := range facts {
		if bytes.Contains(rule, []byte(name)) {
			return true
		}
	}
	return len(facts) > 0 && bytes.IndexByte(rule, '\\') >= 0
}

// asRule returns an object that evaluates to v, for places that evaluate objects only.
func asRule(v any) any {
	if _, ok := v.(map[string]any); ok {
		return v
	}
	return map[string]any{"if": []any{true, v}}
}

type substitution struct{ facts map[string]any }

// substituteValue substitutes in a value that is evaluated with all data.
func (s substitution) substituteValue(v any) any {
	switch v := v.(type) {
	case []any:
		return s.substituteValues(v)
	case map[string]any:
		if len(v) != 1 {
			return v
		}
		for name, args := range v {
			return s.substituteCall(name, args)
		}
	}
	return v
}

func (s substitution) substituteValues(items []any) []any {
	substituted := make([]any, len(items))
	for i, item := range items {
		substituted[i] = s.substituteValue(item)
	}
	return substituted
}

func (s substitution) substituteCall(name string, args any) any {
	items, written := args.([]any)
	switch name {
	case "var":
		return s.substituteVariable(args)
	case "missing":
		return s.substituteMissing(args)
	case "missing_some":
		return s.substituteMissingSome(args)
	case "if", "?:", "and", "or":
		if !written { // it never evaluates its arguments
			return map[string]any{name: args}
		}
	case "map", "filter", "reduce", "all", "none", "some":
		return map[string]any{name: s.substituteIteration(name, items, args)}
	}
	return map[string]any{name: s.substituteValue(args)}
}

func (s substitution) substituteIteration(name string, items []any, args any) any {
	if len(items) == 0 {
		return args
	}
	substituted := append([]any(nil), items...)
	if subject, ok := items[0].(map[string]any); ok {
		substituted[0] = asRule(s.substituteValue(subject))
	}
	switch {
	case name == "reduce" && len(items) > 2:
		substituted[2] = s.substituteValue(items[2])
	case len(items) > 1 && (name == "filter" || name == "none" || name == "some"):
		substituted[1] = s.substituteBody(items[1])
	}
	return substituted
}

func (s substitution) substituteVariable(args any) any {
	args = s.substituteValue(args)
	name, fallback, ok := literalName(args)
	if !ok {
		return map[string]any{"var": args}
	}
	switch v, found := s.factValue(name); {
	case found && v == nil:
		return fallback
	case found && isQuotable(v):
		return v
	}
	return map[string]any{"var": args}
}

// literalName returns the name and the default of a var with a literal name.
func literalName(args any) (name string, fallback any, ok bool) {
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

// factValue returns the value of a variable that is a fact's.
func (s substitution) factValue(name string) (v any, ok bool) {
	p := pathOf(name)
	if len(p) == 0 || p[0] == "$flagd" {
		return nil, false
	}
	v, ok = s.facts[p[0]]
	if v != nil {
		v = descend(v, p[1:], nil)
	}
	return v, ok
}

// isQuotable reports whether v as a literal in a rule evaluates to itself everywhere.
func isQuotable(v any) bool {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if !isQuotable(item) {
				return false
			}
		}
	case map[string]any:
		if _, ok := v["var"]; ok || len(v) == 1 {
			return false
		}
		for _, item := range v {
			if !isQuotable(item) {
				return false
			}
		}
	}
	return true
}

// substituteBody substitutes in a body that is solved with all data before each element's evaluation, see solveVars.
func (s substitution) substituteBody(v any) any {
	switch v := v.(type) {
	case []any:
		substituted := make([]any, len(v))
		for i, item := range v {
			substituted[i] = s.substituteBody(item)
		}
		return substituted
	case map[string]any:
		substituted := make(map[string]any, len(v))
		for name, args := range v {
			if name != "var" {
				substituted[name] = s.substituteBody(args)
				continue
			}
			value, solved := s.solveVariable(args)
			if solved {
				return value
			}
			substituted[name] = value
		}
		return substituted
	}
	return v
}

// solveVariable returns the value that replaces a var, or the var's arguments if none does.
func (s substitution) solveVariable(args any) (v any, solved bool) {
	name, fallback, ok := literalName(args)
	if !ok || isElementVar(args) {
		return args, false
	}
	switch v, found := s.factValue(name); {
	case found && v == nil && fallback == nil:
		return "." + name, false // the element's, whatever the reader's data contains
	case found && v == nil && isQuotable(fallback):
		return fallback, true
	case found && v != nil && isQuotable(v):
		return v, true
	}
	return args, false
}

// substituteMissing substitutes in missing: null facts are missing and other facts are not, whatever the reader's data
// contains.
func (s substitution) substituteMissing(args any) any {
	if name, ok := args.(string); ok {
		args = []any{name}
	}
	items, ok := args.([]any)
	if !ok {
		return map[string]any{"missing": s.substituteValue(args)}
	}
	names := s.sortNames(items)
	if len(names.absent) == 0 {
		return map[string]any{"missing": names.unresolved}
	}
	return names.missingRule()
}

// substituteMissingSome substitutes in missing_some as in missing; present facts count as found.
func (s substitution) substituteMissingSome(args any) any {
	items, ok := args.([]any)
	if !ok || len(items) < 2 {
		return map[string]any{"missing_some": s.substituteValue(args)}
	}
	wanted, ok := items[0].(float64)
	written, too := items[1].([]any)
	if !ok || !too {
		return map[string]any{"missing_some": s.substituteValue(args)}
	}
	names := s.sortNames(written)
	wanted = float64(int(wanted) - names.found)
	if len(names.absent) == 0 {
		return map[string]any{"missing_some": []any{wanted, names.unresolved}}
	}
	// missing_some can't distinguish "no name is missing" from "enough are found", so count the unresolved names.
	count := map[string]any{"reduce": []any{
		map[string]any{"map": []any{map[string]any{"missing": names.unresolved}, 1.0}},
		operation("+", operation("var", "accumulator"), 1.0), 0.0,
	}}
	found := operation("-", float64(len(names.unresolved)), count)
	return operation("if", operation(">", wanted, found), names.missingRule(), []any{})
}

func operation(name string, args ...any) map[string]any {
	if name == "var" {
		return map[string]any{name: args[0]}
	}
	return map[string]any{name: args}
}

// sortedNames are the names of missing, sorted by what is known before an evaluation.
type sortedNames struct {
	unresolved []any   // to be looked up by an evaluation
	absent     []any   // null facts
	found      int     // number of present facts
	parts      [][]any // alternating runs of unresolved and absent names, in their order
}

func (s substitution) sortNames(items []any) sortedNames {
	n := sortedNames{unresolved: []any{}}
	parts := [][]any{{}}
	for _, item := range items {
		name, ok := item.(string)
		v, found := s.factValue(name)
		switch {
		case ok && found && v != nil:
			n.found++
			continue
		case !ok || !found:
			item = s.substituteValue(item)
			n.unresolved = append(n.unresolved, item)
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

// missingRule returns a rule that evaluates to the missing names, in their order.
func (n sortedNames) missingRule() any {
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
