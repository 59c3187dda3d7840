package jsonlogic

import "strings"

// concatenate joins texts. A join of several is trimmed.
func concatenate(r *run, in operands, _ any) (any, error) {
	if s, ok := in.single.(string); ok {
		return s, nil
	}
	switch {
	case !in.isList:
		return nil, errShape
	case len(in.items) == 0:
		return "", nil
	case len(in.items) == 1:
		return boxText(toText(in.items[0]))
	}
	var b strings.Builder
	size := 0
	for _, item := range in.items {
		if s, ok := item.(string); ok {
			size += len(s)
		}
	}
	if err := r.spend(size / 16); err != nil {
		return nil, err
	}
	b.Grow(size)
	for _, item := range in.items {
		s, err := toText(item)
		if err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	return strings.TrimSpace(b.String()), nil
}

func boxText(s string, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// substring counts code points. A negative start counts from the end, a negative length leaves out the end.
func substring(r *run, in operands, _ any) (any, error) {
	if !in.isList || len(in.items) < 2 {
		return nil, errShape
	}
	s, err := toText(in.items[0])
	if err != nil {
		return nil, err
	}
	start, err := toNumber(in.items[1])
	if err != nil {
		return nil, err
	}
	if err := r.spend(len(s) / 16); err != nil {
		return nil, err
	}
	runes := []rune(s)
	from, length := int(start), len(runes)
	if from < 0 {
		from += len(runes)
	}
	if from < 0 || from > len(runes) {
		return string(runes), nil
	}
	if len(in.items) == 3 {
		n, err := toNumber(in.items[2])
		if err != nil {
			return nil, err
		}
		length = int(n)
	}
	to := from + length
	if length < 0 {
		to = len(runes) + length
	}
	to = min(to, len(runes))
	if to < from {
		return nil, errShape
	}
	return string(runes[from:to]), nil
}

func hasPrefix(s, part string) bool { return strings.HasPrefix(s, part) }
func hasSuffix(s, part string) bool { return strings.HasSuffix(s, part) }

// affixTest is flagd's starts_with and ends_with: nil unless both operands are text.
func affixTest(has func(s, part string) bool) operator {
	return func(_ *run, in operands, _ any) (any, error) {
		if len(in.items) != 2 {
			return nil, nil
		}
		s, ok := in.items[0].(string)
		part, too := in.items[1].(string)
		if !ok || !too {
			return nil, nil
		}
		return has(s, part), nil
	}
}
