package jsonlogic

// compiler makes nodes of values. What it can't make sense of becomes a failure, which counts only where it is met.
// With a run, for rules that come to be in an evaluation, every value costs a step.
type compiler struct {
	run   *run
	depth int
}

// compile gives what evaluates to v's value.
func (c *compiler) compile(v any) node {
	if c.run != nil && c.run.spend(1) != nil {
		return failure{ErrBudget}
	}
	if c.depth++; c.depth > 2*MaxDepth {
		c.depth--
		return failure{ErrBudget}
	}
	defer func() { c.depth-- }()
	switch v := v.(type) {
	case map[string]any:
		if len(v) != 1 { // it stands for itself
			return constant{v}
		}
		for name, args := range v {
			return c.call(name, args)
		}
	case []any:
		return c.list(v)
	}
	return constant{v}
}

func (c *compiler) list(items []any) node {
	nodes := c.items(items)
	values := make([]any, len(nodes))
	for i, n := range nodes {
		known, ok := n.(constant)
		if !ok {
			return nodes
		}
		values[i] = known.value
	}
	return constant{values}
}

func (c *compiler) items(values []any) list {
	nodes := make(list, len(values))
	for i, v := range values {
		nodes[i] = c.compile(v)
	}
	return nodes
}

// call compiles an operator. Some see their arguments before they are evaluated.
func (c *compiler) call(name string, args any) node {
	switch name {
	case "var":
		return c.variable(args)
	case "if", "?:":
		return c.conditional(args)
	case "and", "or":
		return c.junction(name == "or", args)
	case "map", "filter", "reduce", "all", "none", "some":
		return c.iteration(name, args)
	}
	op := eager(name)
	if op == nil {
		return failure{unknown(name)}
	}
	arg := c.compile(args)
	if items, ok := arg.(list); ok {
		return &call{op, items}
	}
	return &callOne{op, arg}
}

// eager gives the operators that work on evaluated arguments; nil: there is none of this name.
func eager(name string) operator {
	switch name {
	case "==", "!=":
		return comparison(equal, name == "!=")
	case "===", "!==":
		return identity(name == "!==")
	case "<", ">":
		return order(less, name == ">")
	case "<=", ">=":
		return order(lessOrEqual, name == ">=")
	case "!":
		return not
	case "!!":
		return notNot
	case "+":
		return sum
	case "-":
		return minus
	case "*":
		return product
	case "/":
		return quotient
	case "%":
		return modulo
	case "abs":
		return absolute
	case "max":
		return extreme(func(a, b float64) bool { return a > b })
	case "min":
		return extreme(func(a, b float64) bool { return b > a })
	case "cat":
		return concatenate
	case "substr":
		return substring
	case "in":
		return within
	case "merge":
		return merge
	case "missing":
		return missing
	case "missing_some":
		return missingSome
	case "set":
		return set
	case "contains_all":
		return containsAll
	case "contains_any":
		return containsAny
	case "contains_none":
		return containsNone
	case "fractional":
		return fractional
	case "sem_ver":
		return semVer
	case "starts_with":
		return affix(hasPrefix)
	case "ends_with":
		return affix(hasSuffix)
	}
	return nil
}
