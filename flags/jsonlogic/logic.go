package jsonlogic

// conditional is the operator if: pairs of a condition and a result, then optionally the result if no condition holds.
type conditional []node

func (c *compiler) compileConditional(args any) node {
	items, ok := args.([]any)
	if !ok {
		return failure{errShape}
	}
	return conditional(c.compileItems(items))
}

func (n conditional) eval(r *run, data any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	for i := 0; i < len(n)-1; i += 2 {
		v, err := n[i].eval(r, data)
		if err != nil {
			return nil, err
		}
		if isTruthy(v) {
			return n.result(i+1, r, data)
		}
	}
	if len(n)%2 == 1 {
		return n.result(len(n)-1, r, data)
	}
	return nil, nil
}

// result evaluates a result. If the value is an object of one key, it is a rule in turn and is evaluated too.
func (n conditional) result(i int, r *run, data any) (any, error) {
	v, err := n[i].eval(r, data)
	if err != nil {
		return nil, err
	}
	if object, ok := v.(map[string]any); ok && len(object) == 1 {
		return r.evaluate(object, data)
	}
	return v, nil
}

// junction is the operators and, or: the first value that decides, otherwise the last.
type junction struct {
	items   list
	decides bool // the truth of an item that ends the evaluation: false for and, true for or
}

func (c *compiler) compileJunction(decides bool, args any) node {
	items, ok := args.([]any)
	if !ok {
		return failure{errShape}
	}
	return &junction{c.compileItems(items), decides}
}

func (n *junction) eval(r *run, data any) (last any, err error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	for _, item := range n.items {
		last, err = item.eval(r, data)
		if err != nil || isTruthy(last) == n.decides {
			return last, err
		}
	}
	return last, nil
}
