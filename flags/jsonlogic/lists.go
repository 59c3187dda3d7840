package jsonlogic

import (
	"maps"
	"strings"
)

// within is the operator in: whether a text contains a text, or a list a value. An item that is a list is a range from
// its first to its second item.
func within(r *run, in operands, _ any) (any, error) {
	if len(in.items) == 0 {
		return nil, errShape
	}
	if len(in.items) == 1 {
		return false, nil
	}
	a := in.items[0]
	switch b := in.items[1].(type) {
	case string:
		part, ok := a.(string)
		if !ok {
			return nil, errShape
		}
		return strings.Contains(b, part), nil
	case []any:
		return r.listContains(a, b)
	}
	return false, nil
}

func (r *run) listContains(a any, items []any) (any, error) {
	if err := r.spend(len(items) / 8); err != nil {
		return nil, err
	}
	if s, ok := a.(string); ok {
		if err := r.spend(len(items) * len(s) / 512); err != nil {
			return nil, err
		}
		return r.listContainsText(s, items)
	}
	for _, item := range items {
		if err := r.spendText(item); err != nil {
			return nil, err
		}
		found, err := r.matchesItem(a, item)
		if err != nil {
			return nil, err
		}
		if found {
			return true, nil
		}
	}
	return false, nil
}

// listContainsText is listContains for text, the most frequent case.
func (r *run) listContainsText(s string, items []any) (any, error) {
	for _, item := range items {
		switch item := item.(type) {
		case string:
			if item == s {
				return true, nil
			}
		case []any:
			if found, err := r.inRange(s, item); found || err != nil {
				return found, err
			}
		}
	}
	return false, nil
}

func (r *run) matchesItem(a, item any) (bool, error) {
	if bounds, ok := item.([]any); ok {
		return r.inRange(a, bounds)
	}
	if !isNumber(a) {
		return sameValue(item, a)
	}
	n, err := toNumber(item)
	if err != nil {
		return false, err
	}
	f, ok := a.(float64)
	return ok && n == f, nil
}

func (r *run) inRange(a any, bounds []any) (bool, error) {
	if len(bounds) < 2 {
		return false, errShape
	}
	for _, bound := range bounds[:2] {
		if err := r.spendText(bound); err != nil {
			return false, err
		}
	}
	n, err := toNumber(a)
	if err != nil {
		return false, err
	}
	from, err := toNumber(bounds[0])
	if err != nil {
		return false, err
	}
	if reached := n >= from; !reached {
		return false, nil
	}
	to, err := toNumber(bounds[1])
	if err != nil {
		return false, err
	}
	return to >= n, nil
}

// merge joins lists and values into one list.
func merge(r *run, in operands, _ any) (any, error) {
	if !in.isList {
		if !isPrimitive(in.single) {
			return nil, errShape
		}
		return []any{in.single}, nil
	}
	size := 0
	for _, item := range in.items {
		size++
		if items, ok := item.([]any); ok {
			size += len(items) - 1
		}
	}
	if err := r.spend(size / 8); err != nil {
		return nil, err
	}
	merged := make([]any, 0, size)
	for _, item := range in.items {
		if items, ok := item.([]any); ok {
			merged = append(merged, items...)
		} else {
			merged = append(merged, item)
		}
	}
	return merged, nil
}

// missing returns the names of the variables that are missing.
func missing(r *run, in operands, data any) (any, error) {
	if s, ok := in.single.(string); ok {
		in = operands{items: []any{s}, isList: true}
	}
	if !in.isList {
		return nil, errShape
	}
	absent, _, err := r.absentNames(in.items, data)
	return absent, err
}

// missingSome returns the missing names only if fewer variables than required are present.
func missingSome(r *run, in operands, data any) (any, error) {
	if len(in.items) < 2 {
		return nil, errShape
	}
	wanted, err := toNumber(in.items[0])
	if err != nil {
		return nil, err
	}
	names, ok := in.items[1].([]any)
	if !ok {
		return nil, errShape
	}
	absent, found, err := r.absentNames(names, data)
	if err != nil {
		return nil, err
	}
	if int(wanted) > found {
		return absent, nil
	}
	return []any{}, nil
}

func (r *run) absentNames(names []any, data any) (absent []any, found int, err error) {
	absent = []any{}
	for _, name := range names {
		if err := r.spend(1); err != nil {
			return nil, 0, err
		}
		v, err := r.lookUpVariable(name, data)
		if err != nil {
			return nil, 0, err
		}
		if v == nil {
			absent = append(absent, name)
		} else {
			found++
		}
	}
	return absent, found, nil
}

// lookUpVariable looks a variable up by the arguments of a var, after evaluating them.
func (r *run) lookUpVariable(args, data any) (any, error) {
	args, err := r.evaluate(args, data)
	if err != nil {
		return nil, err
	}
	return computedVariable(r, operandsOf(args), data)
}

// set returns an object with one entry changed; the entry's value is evaluated once more.
func set(r *run, in operands, data any) (any, error) {
	if !in.isList {
		return nil, errShape
	}
	if len(in.items) < 3 {
		if len(in.items) == 0 {
			return nil, nil
		}
		return in.items[0], nil
	}
	object, ok := in.items[0].(map[string]any)
	if !ok {
		return in.items[0], nil
	}
	name, ok := in.items[1].(string)
	if !ok {
		return nil, errShape
	}
	if err := r.spend(len(object)); err != nil {
		return nil, err
	}
	v, err := r.evaluate(in.items[2], data)
	if err != nil {
		return nil, err
	}
	changed := maps.Clone(object) // values may be shared and are never changed in place
	if changed == nil {
		changed = map[string]any{}
	}
	changed[name] = v
	return changed, nil
}

// twoLists returns the arguments of contains_*.
func twoLists(in operands) (in1, in2 []any, ok bool) {
	if len(in.items) != 2 {
		return nil, nil, false
	}
	in1, ok1 := in.items[0].([]any)
	in2, ok2 := in.items[1].([]any)
	return in1, in2, ok1 && ok2
}

func containsAll(r *run, in operands, _ any) (any, error) {
	all, wanted, ok := twoLists(in)
	if !ok {
		return false, nil
	}
	for _, w := range wanted {
		if found, err := r.containsValue(all, w); !found || err != nil {
			return false, err
		}
	}
	return true, nil
}

func containsAny(r *run, in operands, _ any) (any, error) {
	all, wanted, ok := twoLists(in)
	if !ok {
		return false, nil
	}
	for _, w := range wanted {
		if found, err := r.containsValue(all, w); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

func containsNone(r *run, in operands, data any) (any, error) {
	found, err := containsAny(r, in, data)
	if err != nil {
		return nil, err
	}
	return found == false, nil
}

func (r *run) containsValue(items []any, wanted any) (bool, error) {
	s, _ := wanted.(string)
	if err := r.spend(1 + len(items)/8 + len(items)*len(s)/512); err != nil {
		return false, err
	}
	for _, item := range items {
		if isNumber(item) && isNumber(wanted) {
			a, _ := toNumber(item)
			if b, _ := toNumber(wanted); a == b {
				return true, nil
			}
			continue
		}
		if found, err := sameValue(item, wanted); found || err != nil {
			return found, err
		}
	}
	return false, nil
}
