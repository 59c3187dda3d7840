package jsonlogic

func less(a, b any) bool {
	if a, ok := a.(string); ok {
		if b, ok := b.(string); ok {
			return a < b
		}
	}
	return toComparable(b) > toComparable(a)
}

func equal(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if a, ok := a.(string); ok {
		if b, ok := b.(string); ok {
			return a == b
		}
	}
	return toComparable(a) == toComparable(b)
}

func lessOrEqual(a, b any) bool { return less(a, b) || equal(a, b) }

// identical is equal for values of the same kind.
func identical(a, b any) bool { return valueKind(a) == valueKind(b) && equal(a, b) }

func valueKind(v any) int {
	switch v.(type) {
	case nil:
		return 0
	case bool:
		return 1
	case float64:
		return 2
	case int:
		return 3
	case string:
		return 4
	case []any:
		return 5
	}
	return 6
}

func comparison(holds func(a, b any) bool, negated bool) operator {
	return func(_ *run, in operands, _ any) (any, error) {
		if !in.isList {
			return nil, errShape
		}
		return (len(in.items) >= 2 && holds(in.items[0], in.items[1])) != negated, nil
	}
}

// identity compares by identical; an operand that is not a list yields false.
func identity(negated bool) operator {
	compare := comparison(identical, negated)
	return func(r *run, in operands, data any) (any, error) {
		if !in.isList {
			return negated, nil
		}
		return compare(r, in, data)
	}
}

// ordering compares two values or, of exactly three, the first with the second and the second with the third.
func ordering(holds func(a, b any) bool, falling bool) operator {
	return func(_ *run, in operands, _ any) (any, error) {
		if !in.isList {
			return nil, errShape
		}
		if len(in.items) < 2 {
			return false, nil
		}
		a, b := in.items[0], in.items[1]
		if falling {
			if len(in.items) == 3 {
				return holds(in.items[2], b) && holds(b, a), nil
			}
			return holds(b, a), nil
		}
		if len(in.items) == 3 {
			return holds(a, b) && holds(b, in.items[2]), nil
		}
		return holds(a, b), nil
	}
}

func not(_ *run, in operands, _ any) (any, error) {
	if in.isList {
		return len(in.items) == 0 || !isTruthy(in.items[0]), nil
	}
	return !isTruthy(in.single), nil
}

func toBool(r *run, in operands, data any) (any, error) {
	v, err := not(r, in, data)
	return !isTruthy(v), err
}
