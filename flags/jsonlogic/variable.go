package jsonlogic

import (
	"strconv"
	"strings"
)

// path is a variable's name, split at its dots. An empty path is all data.
type path []string

func pathOf(name string) path {
	parts := strings.Split(name, ".")
	nonEmpty := parts[:0]
	for _, part := range parts {
		if part != "" {
			nonEmpty = append(nonEmpty, part)
		}
	}
	return nonEmpty
}

// variable is a var with a literal name.
type variable struct {
	path     path
	fallback any
}

func (n *variable) eval(r *run, data any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	return r.lookUpPath(n.path, n.fallback, data)
}

func (c *compiler) compileVariable(args any) node {
	switch args := args.(type) {
	case string:
		if c.run != nil && c.run.spend(len(args)/16) != nil {
			return failure{ErrBudget}
		}
		return &variable{path: pathOf(args)}
	case float64:
		name, _ := toText(args)
		return &variable{path: pathOf(name)}
	case []any:
		if n := c.compileList(args); isConstantName(n) {
			items := n.(constant).value.([]any)
			v := &variable{path: pathOf(items[0].(string))}
			if len(items) == 2 {
				v.fallback = items[1]
			}
			return v
		}
	}
	arg := c.compile(args)
	if items, ok := arg.(list); ok {
		return &call{computedVariable, items}
	}
	return &callOne{computedVariable, arg}
}

// isConstantName reports whether n is a constant list that begins with a name.
func isConstantName(n node) bool {
	known, ok := n.(constant)
	if !ok {
		return false
	}
	items := known.value.([]any)
	if len(items) == 0 {
		return false
	}
	_, ok = items[0].(string)
	return ok
}

// computedVariable is a var with a computed name.
func computedVariable(r *run, in operands, data any) (any, error) {
	if !in.isList {
		return r.lookUpNamed(in.single, nil, data)
	}
	switch len(in.items) {
	case 0:
		return r.wholeData(data)
	case 2:
		return r.lookUpListed(in.items[0], in.items[1], data)
	}
	return r.lookUpListed(in.items[0], nil, data)
}

// lookUpListed looks up a variable given in a list, where a name must be text.
func (r *run) lookUpListed(name, fallback, data any) (any, error) {
	if _, ok := name.(string); !ok {
		return nil, errShape
	}
	return r.lookUpNamed(name, fallback, data)
}

func (r *run) lookUpNamed(name, fallback, data any) (any, error) {
	switch name := name.(type) {
	case nil:
		if !isPrimitive(data) {
			return nil, nil
		}
		return data, nil
	case string:
		if err := r.spend(len(name) / 16); err != nil {
			return nil, err
		}
		return r.lookUpPath(pathOf(name), fallback, data)
	case float64, int:
		text, _ := toText(name)
		return r.lookUpPath(pathOf(text), fallback, data)
	}
	if data == nil {
		return fallback, nil
	}
	return nil, errShape
}

// wholeData returns all data.
func (r *run) wholeData(data any) (any, error) {
	if data == (root{}) {
		return r.allData()
	}
	return data, nil
}

// lookUpPath returns the value at a path in data.
func (r *run) lookUpPath(p path, fallback, data any) (any, error) {
	if data == nil {
		return fallback, nil
	}
	if len(p) == 0 {
		return r.wholeData(data)
	}
	if _, ok := data.(root); !ok {
		return descend(data, p, fallback), nil
	}
	if len(p) == 2 && p[0] == "$flagd" { // avoids building a map
		switch p[1] {
		case "flagKey":
			return r.FlagKey, nil
		case "timestamp":
			return float64(r.At), nil
		}
	}
	v, theirs := r.lookUpData(p[0])
	if theirs {
		return r.lookUpCallerData(v, p[1:], fallback)
	}
	if v == nil {
		return fallback, nil
	}
	return descend(v, p[1:], fallback), nil
}

// lookUpCallerData is descend for the caller's data, which may hold values other than encoding/json's.
func (r *run) lookUpCallerData(v any, p path, fallback any) (any, error) {
	for len(p) > 0 && v != nil {
		object, ok := v.(map[string]any)
		if !ok {
			break
		}
		v, p = object[p[0]], p[1:]
	}
	v, err := r.toJSONValue(v)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return fallback, nil
	}
	return descend(v, p, fallback), nil
}

// descend returns the value at a path below v, or fallback. In an array, a part that is no number is index 0.
func descend(v any, p path, fallback any) any {
	for _, part := range p {
		switch at := v.(type) {
		case map[string]any:
			v = at[part]
		case []any:
			f, _ := strconv.ParseFloat(part, 64)
			place := int(f)
			if place < 0 || place >= len(at) {
				return fallback
			}
			v = at[place]
		default:
			return fallback
		}
		if v == nil {
			return fallback
		}
	}
	return v
}
