package jsonlogic

// reduction is the operator reduce. Its accumulator keeps the kind of the initial value: bool, number or text.
type reduction struct {
	iteration
	initial node
}

// compileInitial compiles an initial value, which can't be a literal list.
func (c *compiler) compileInitial(v any) node {
	if _, ok := v.([]any); ok {
		return failure{errShape}
	}
	return c.compile(v)
}

func (n *reduction) eval(r *run, data any) (any, error) {
	initial, err := n.initial.eval(r, data)
	if err != nil {
		return nil, err
	}
	kind, accumulator, err := newAccumulator(initial)
	if err != nil {
		return nil, err
	}
	items, none, err := n.evalElements(r, data)
	if err != nil || none {
		return 0.0, err
	}
	scope := map[string]any{"accumulator": accumulator, "valueType": kind}
	for _, item := range items {
		if item == nil {
			continue
		}
		if !n.isObject {
			return nil, errShape
		}
		scope["current"] = item
		v, err := n.body.eval(r, scope)
		if err != nil {
			return nil, err
		}
		if accumulator, err = r.convertAccumulator(kind, v); err != nil {
			return nil, err
		}
		scope["accumulator"] = accumulator
	}
	return accumulator, nil
}

func newAccumulator(v any) (kind string, accumulator any, err error) {
	switch v := v.(type) {
	case bool:
		return "bool", v, nil
	case float64, int:
		n, err := toNumber(v)
		return "number", n, err
	case string:
		return "string", v, nil
	}
	return "", nil, errShape
}

func (r *run) convertAccumulator(kind string, v any) (any, error) {
	if err := r.spendText(v); err != nil {
		return nil, err
	}
	switch kind {
	case "bool":
		return isTruthy(v), nil
	case "number":
		return applyNumber(v, func(n float64) float64 { return n })
	}
	return boxText(toText(v))
}
