package repository

import "fmt"

// operator describes the arguments of an operator by flagd's schema. With fewer or more, flagd fails or never matches.
type operator struct {
	minArgs, maxArgs int
	bare             bool // accepts one argument without a list
	yieldsBool       bool // the result is true or false
	variable         bool // depends on the context even with constant arguments
}

const unlimited = 1 << 20

// lookUpOperator returns an operator by name.
func lookUpOperator(name string) (op operator, known bool) {
	switch name {
	case "==", "===", "!=", "!==", "in", "starts_with", "ends_with", "contains_all", "contains_any", "contains_none":
		op = operator{minArgs: 2, maxArgs: 2, yieldsBool: true}
	case "<", "<=", ">", ">=":
		op = operator{minArgs: 2, maxArgs: 3, yieldsBool: true}
	case "sem_ver":
		op = operator{minArgs: 3, maxArgs: 3, yieldsBool: true}
	case "!", "!!":
		op = operator{minArgs: 1, maxArgs: 1, bare: true, yieldsBool: true}
	case "all", "none", "some":
		op = operator{minArgs: 2, maxArgs: 2, yieldsBool: true, variable: true}
	case "map", "filter":
		op = operator{minArgs: 2, maxArgs: 2, variable: true}
	case "reduce", "set":
		op = operator{minArgs: 3, maxArgs: 3, variable: true}
	case "if", "?:", "and", "or":
		op = operator{minArgs: 1, maxArgs: unlimited}
	case "var":
		op = operator{minArgs: 0, maxArgs: 2, bare: true, variable: true}
	case "missing":
		op = operator{minArgs: 0, maxArgs: unlimited, bare: true, variable: true}
	case "missing_some":
		op = operator{minArgs: 2, maxArgs: 2, variable: true}
	case "fractional":
		op = operator{minArgs: 1, maxArgs: unlimited, variable: true}
	case "%", "/":
		op = operator{minArgs: 2, maxArgs: 2}
	case "*":
		op = operator{minArgs: 2, maxArgs: unlimited}
	case "substr":
		op = operator{minArgs: 2, maxArgs: 3}
	case "+", "-", "max", "min", "merge", "cat", "abs":
		op = operator{minArgs: 1, maxArgs: unlimited, bare: true}
	default:
		return op, false
	}
	return op, true
}

// describeArgs says how many arguments the operator takes, for messages.
func (op operator) describeArgs() string {
	switch {
	case op.maxArgs == unlimited:
		return fmt.Sprintf("at least %d arguments", op.minArgs)
	case op.minArgs == op.maxArgs:
		return fmt.Sprintf("%d arguments", op.minArgs)
	}
	return fmt.Sprintf("%d to %d arguments", op.minArgs, op.maxArgs)
}
