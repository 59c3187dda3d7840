package jsonlogic

import "math"

// foldNumbers combines a list's numbers from the left.
func foldNumbers(items []any, do func(acc, n float64) float64) (any, error) {
	acc, err := toNumber(items[0])
	if err != nil {
		return nil, err
	}
	for _, item := range items[1:] {
		n, err := toNumber(item)
		if err != nil {
			return nil, err
		}
		acc = do(acc, n)
	}
	return acc, nil
}

func applyNumber(v any, do func(float64) float64) (any, error) {
	n, err := toNumber(v)
	if err != nil {
		return nil, err
	}
	return do(n), nil
}

func sum(_ *run, in operands, _ any) (any, error) {
	switch {
	case !in.isList:
		return applyNumber(in.single, func(n float64) float64 { return n })
	case len(in.items) == 0:
		return 0.0, nil
	case len(in.items) == 1:
		return applyNumber(in.items[0], func(n float64) float64 { return n })
	}
	acc := 0.0 // not the first item, since 0 + -0 is 0
	for _, item := range in.items {
		n, err := toNumber(item)
		if err != nil {
			return nil, err
		}
		acc += n
	}
	return acc, nil
}

func difference(_ *run, in operands, _ any) (any, error) {
	switch {
	case !in.isList:
		return nil, errShape
	case len(in.items) == 0:
		return 0, nil
	case len(in.items) == 1:
		return applyNumber(in.items[0], func(n float64) float64 { return -1 * n })
	}
	return foldNumbers(in.items, func(acc, n float64) float64 { return acc - n })
}

func product(_ *run, in operands, _ any) (any, error) {
	if !in.isList {
		return nil, errShape
	}
	acc := 1.0
	for _, item := range in.items {
		n, err := toNumber(item)
		if err != nil {
			return nil, err
		}
		acc *= n
	}
	return acc, nil
}

func quotient(_ *run, in operands, _ any) (any, error) {
	switch {
	case !in.isList:
		return nil, errShape
	case len(in.items) == 0:
		return 0, nil
	}
	return foldNumbers(in.items, func(acc, n float64) float64 { return acc / n })
}

func modulo(_ *run, in operands, _ any) (any, error) {
	if !in.isList || len(in.items) < 2 {
		return nil, errShape
	}
	return foldNumbers(in.items[:2], math.Mod)
}

func absolute(_ *run, in operands, _ any) (any, error) {
	switch {
	case !in.isList:
		return applyNumber(in.single, math.Abs)
	case len(in.items) == 0:
		return nil, errShape
	}
	return applyNumber(in.items[0], math.Abs)
}

func extremum(better func(a, b float64) bool) operator {
	return func(_ *run, in operands, _ any) (any, error) {
		switch {
		case !in.isList:
			return nil, errShape
		case len(in.items) == 0:
			return nil, nil
		}
		return foldNumbers(in.items, func(acc, n float64) float64 {
			if better(n, acc) {
				return n
			}
			return acc
		})
	}
}
