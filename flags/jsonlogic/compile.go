package jsonlogic

// compiler compiles values to nodes. An invalid part becomes a failure, which counts only if it is evaluated. With a
// run, for rules that appear during an evaluation, every value costs a step.
type compiler struct {
	run   *run
	depth int
}

// compile returns a node that evaluates to v's value.
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
		if len(v) != 1 { // not a rule, but a value
			return constant{v}
		}
		for name, args := range v {
			return c.compileCall(name, args)
		}
	case []any:
		return c.compileList(v)
	}
	return constant{v}
}

func (c *compiler) compileList(items []any) node {
	nodes := c.compileItems(items)
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

func (c *compiler) compileItems(values []any) list {
	nodes := make(list, len(values))
	for i, v := range values {
		nodes[i] = c.compile(v)
	}
	return nodes
}

// compileCall compiles an operator. Some operators see their arguments unevaluated.
func (c *compiler) compileCall(name string, args any) node {
	switch name {
	case "var":
		return c.compileVariable(args)
	case "if", "?:":
		return c.compileConditional(args)
	case "and", "or":
		return c.compileJunction(name == "or", args)
	case "map", "filter", "reduce", "all", "none", "some":
		return c.compileIteration(name, args)
	}
	op := eagerOperator(name)
	if op == nil {
		return failure{unknownOperator(name)}
	}
	arg := c.compile(args)
	if items, ok := arg.(list); ok {
		return &call{op, items}
	}
	return &callOne{op, arg}
}

// eagerOperator returns an operator that takes evaluated arguments; nil: unknown name.
func eagerOperator(name string) operator {
	switch name {
	case "==", "!=":
		return comparison(equal, name == "!=")
	case "===", "!==":
		return identity(name == "!==")
	case "<", ">":
		return ordering(less, name == ">")
	case "<=", ">=":
		return ordering(lessOrEqual, name == ">=")
	case "!":
		return not
	case "!!":
		return toBool
	case "+":
		return sum
	case "-":
		return difference
	case "*":
		return product
	case "/":
		return quotient
	case "%":
		return modulo
	case "abs":
		return absolute
	case "max":
		return extremum(func(a, b float64) bool { return a > b })
	case "min":
		return extremum(func(a, b float64) bool { return b > a })
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
		return affixTest(hasPrefix)
	case "ends_with":
		return affixTest(hasSuffix)
	}
	return nil
}
