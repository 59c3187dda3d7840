package jsonlogic

// node is a compiled value of a rule. Variables are looked up in data: root, or an element of a list.
type node interface {
	eval(r *run, data any) (any, error)
}

// constant is a value that evaluates to itself.
type constant struct{ value any }

func (n constant) eval(*run, any) (any, error) { return n.value, nil }

// failure is a part of a rule that can't be evaluated. It counts only if it is evaluated.
type failure struct{ err error }

func (n failure) eval(*run, any) (any, error) { return nil, n.err }

// list is an array whose items are evaluated.
type list []node

func (n list) eval(r *run, data any) (any, error) {
	values := make([]any, len(n))
	if err := n.evalInto(values, r, data); err != nil {
		return nil, err
	}
	return values, nil
}

func (n list) evalInto(values []any, r *run, data any) error {
	if err := r.spend(len(n)); err != nil {
		return err
	}
	for i, item := range n {
		v, err := item.eval(r, data)
		if err != nil {
			return err
		}
		if err := r.spendText(v); err != nil {
			return err
		}
		values[i] = v
	}
	return nil
}

// operands are the evaluated arguments of an operator: a list, or one value that is not a list. An operator may keep
// the items, but not the slice.
type operands struct {
	items  []any
	single any
	isList bool
}

func operandsOf(v any) operands {
	if items, ok := v.([]any); ok {
		return operands{items: items, isList: true}
	}
	return operands{single: v}
}

// operator takes evaluated arguments. data is the data of the evaluation.
type operator func(r *run, in operands, data any) (any, error)

// call is an operator with arguments that are written as a list.
type call struct {
	op   operator
	args list
}

func (n *call) eval(r *run, data any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	values, before := r.pushArgs(len(n.args))
	defer r.popArgs(before)
	if err := n.args.evalInto(values, r, data); err != nil {
		return nil, err
	}
	return n.op(r, operands{items: values, isList: true}, data)
}

// callOne is an operator whose argument is not a literal list, or is constant. The argument may still evaluate to a
// list.
type callOne struct {
	op  operator
	arg node
}

func (n *callOne) eval(r *run, data any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	v, err := n.arg.eval(r, data)
	if err != nil {
		return nil, err
	}
	in := operandsOf(v)
	for _, item := range in.items {
		if err := r.spendText(item); err != nil {
			return nil, err
		}
	}
	return n.op(r, in, data)
}
