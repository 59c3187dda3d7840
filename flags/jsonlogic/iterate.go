package jsonlogic

// iteration is an operator that evaluates its body with every element of a list as the data.
type iteration struct {
	subject  node // evaluates to the list
	raw      any  // the body as written
	body     node // compiled; nil: compiled in each evaluation, after solveVars
	isObject bool // the body is an object, as none, some and all require
}

func (c *compiler) compileIteration(name string, args any) node {
	items, ok := args.([]any)
	if !ok {
		return failure{errShape}
	}
	switch {
	case name == "reduce" && len(items) < 3:
		return constant{0.0}
	case (name == "map" || name == "filter") && len(items) < 2:
		return constant{[]any{}}
	case len(items) == 0:
		return failure{errShape}
	}
	it := iteration{subject: c.compileSubject(items[0])}
	if len(items) > 1 {
		it.raw = items[1]
		_, it.isObject = it.raw.(map[string]any)
		if name == "map" || name == "reduce" || isSolved(it.raw) {
			it.body = c.compile(it.raw)
		}
	}
	switch name {
	case "map":
		return &mapping{it}
	case "filter":
		return &filter{it}
	case "reduce":
		return &reduction{it, c.compileInitial(items[2])}
	case "all":
		return &every{it}
	}
	return &exists{it, name == "some"}
}

// compileSubject compiles the list to iterate over. A literal list is constant; a value that is neither list nor rule
// counts as null.
func (c *compiler) compileSubject(v any) node {
	switch v := v.(type) {
	case []any:
		return constant{v}
	case map[string]any:
		return c.compile(v)
	}
	return constant{}
}

// evalElements returns the list. none reports whether the subject is null instead.
func (it *iteration) evalElements(r *run, data any) (items []any, none bool, err error) {
	v, err := it.subject.eval(r, data)
	if err != nil || v == nil {
		return nil, true, err
	}
	items, ok := v.([]any)
	if !ok {
		return nil, false, errShape
	}
	return items, false, r.spend(len(items))
}

// evalNonEmpty returns the list; nil if it is empty.
func (it *iteration) evalNonEmpty(r *run, data any) ([]any, error) {
	v, err := it.subject.eval(r, data)
	if err != nil || !isTruthy(v) {
		return nil, err
	}
	items, ok := v.([]any)
	if !ok {
		return nil, errShape
	}
	return items, r.spend(len(items))
}

// compileSolved returns the compiled body, after solveVars with data if the body needs it.
func (it *iteration) compileSolved(r *run, body, data any) (node, error) {
	if it.body != nil {
		return it.body, nil
	}
	solved, err := r.solveVars(body, data)
	if err != nil {
		return nil, err
	}
	return r.compileNested(solved)
}

// evalCondition evaluates the solved body, which must be an object, for an element.
func (it *iteration) evalCondition(r *run, solved, element any) (bool, error) {
	if _, ok := solved.(map[string]any); !ok {
		return false, errShape
	}
	n := it.body
	if n == nil {
		var err error
		if n, err = r.compileNested(solved); err != nil {
			return false, err
		}
	}
	v, err := r.evalNested(n, element)
	return isTruthy(v), err
}

// mapping is the operator map.
type mapping struct{ iteration }

func (n *mapping) eval(r *run, data any) (any, error) {
	items, _, err := n.evalElements(r, data)
	if err != nil {
		return nil, err
	}
	results := make([]any, len(items))
	for i, item := range items {
		if results[i], err = n.body.eval(r, item); err != nil {
			return nil, err
		}
	}
	return results, nil
}

type filter struct{ iteration }

func (n *filter) eval(r *run, data any) (any, error) {
	items, none, err := n.evalElements(r, data)
	if err != nil || none {
		return []any{}, err
	}
	body, err := n.compileSolved(r, n.raw, data)
	if err != nil {
		return nil, err
	}
	matching := []any{}
	for _, item := range items {
		v, err := r.evalNested(body, item)
		if err != nil {
			return nil, err
		}
		if isTruthy(v) {
			matching = append(matching, item)
		}
	}
	return matching, nil
}

// every is the operator all.
type every struct{ iteration }

func (n *every) eval(r *run, data any) (any, error) {
	items, err := n.evalNonEmpty(r, data)
	if err != nil || len(items) == 0 {
		return false, err
	}
	for _, item := range items {
		solved, err := n.solveBody(r, n.raw, item)
		if err != nil {
			return nil, err
		}
		holds, err := n.evalCondition(r, solved, item)
		if err != nil || !holds {
			return false, err
		}
	}
	return true, nil
}

// solveBody returns the body, after solveVars with data if the body needs it.
func (it *iteration) solveBody(r *run, body, data any) (any, error) {
	if it.body != nil {
		return body, nil
	}
	return r.solveVars(body, data)
}

// exists is the operators some and none. solveVars is applied to the body of some with the outer data and then the
// element, to the body of none only with the outer data.
type exists struct {
	iteration
	wanted bool
}

func (n *exists) eval(r *run, data any) (any, error) {
	items, err := n.evalNonEmpty(r, data)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return !n.wanted, nil
	}
	outer, err := n.solveBody(r, n.raw, data)
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		body := outer
		if n.wanted {
			if body, err = n.solveBody(r, outer, item); err != nil {
				return nil, err
			}
		}
		holds, err := n.evalCondition(r, body, item)
		if err != nil {
			return nil, err
		}
		if holds {
			return n.wanted, nil
		}
	}
	return !n.wanted, nil
}
