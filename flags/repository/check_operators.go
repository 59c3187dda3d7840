package repository

import "fmt"

// operator is what an operator takes, by flagd's schema. With fewer or more, flagd fails or never matches.
type operator struct {
	least, most int
	bare        bool // it takes one argument without a list, too
	decides     bool // it gives true or false
	varies      bool // with the context, even if all its arguments are constants
}

const many = 1 << 20

// operators gives what there is to know of an operator.
func operators(name string) (op operator, known bool) {
	switch name {
	case "==", "===", "!=", "!==", "in", "starts_with", "ends_with", "contains_all", "contains_any", "contains_none":
		op = operator{least: 2, most: 2, decides: true}
	case "<", "<=", ">", ">=":
		op = operator{least: 2, most: 3, decides: true}
	case "sem_ver":
		op = operator{least: 3, most: 3, decides: true}
	case "!", "!!":
		op = operator{least: 1, most: 1, bare: true, decides: true}
	case "all", "none", "some":
		op = operator{least: 2, most: 2, decides: true, varies: true}
	case "map", "filter":
		op = operator{least: 2, most: 2, varies: true}
	case "reduce", "set":
		op = operator{least: 3, most: 3, varies: true}
	case "if", "?:", "and", "or":
		op = operator{least: 1, most: many}
	case "var":
		op = operator{least: 0, most: 2, bare: true, varies: true}
	case "missing":
		op = operator{least: 0, most: many, bare: true, varies: true}
	case "missing_some":
		op = operator{least: 2, most: 2, varies: true}
	case "fractional":
		op = operator{least: 1, most: many, varies: true}
	case "%", "/":
		op = operator{least: 2, most: 2}
	case "*":
		op = operator{least: 2, most: many}
	case "substr":
		op = operator{least: 2, most: 3}
	case "+", "-", "max", "min", "merge", "cat", "abs":
		op = operator{least: 1, most: many, bare: true}
	default:
		return op, false
	}
	return op, true
}

// takes says how many arguments it has, for people.
func (op operator) takes() string {
	switch {
	case op.most == many:
		return fmt.Sprintf("at least %d arguments", op.least)
	case op.least == op.most:
		return fmt.Sprintf("%d arguments", op.least)
	}
	return fmt.Sprintf("%d to %d arguments", op.least, op.most)
}
