package jsonlogic

import (
	"math"
	"slices"
)

// clockUse says how a rule depends on $flagd.timestamp.
type clockUse struct {
	instants []int64 // at which a comparison with a number changes its result
	computed bool    // the time is used in another way, too
}

// Instants returns the instants at which a comparison of $flagd.timestamp with a number changes its result, in Unix
// seconds, ascending. computed reports whether the rule uses the time in another way too, so that its result may change
// at any second.
func (r *Rule) Instants() (at []int64, computed bool) { return r.clock.instants, r.clock.computed }

// findClockUse looks for uses of the time in a decoded rule.
func findClockUse(rule any) clockUse {
	var u clockUse
	u.walk(rule)
	slices.Sort(u.instants)
	u.instants = slices.Compact(u.instants)
	return u
}

func (u *clockUse) walk(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			u.walk(item)
		}
	case map[string]any:
		if isClock(v) {
			u.computed = true
			return
		}
		for operator, args := range v {
			list, isList := args.([]any)
			switch operator {
			case "<", "<=", ">", ">=", "==", "!=", "===", "!==":
				if isList {
					u.compare(operator, list)
					continue
				}
			}
			u.walk(args)
		}
	}
}

// isClock reports whether v is a var that reads the time.
func isClock(v any) bool {
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return false
	}
	name := m["var"]
	if list, isList := name.([]any); isList && len(list) > 0 {
		name = list[0]
	}
	text, ok := name.(string)
	if !ok {
		return false
	}
	p := pathOf(text)
	return len(p) > 0 && p[0] == "$flagd" && (len(p) == 1 || p[1] == "timestamp")
}

// compare adds the instants of a comparison, each neighbour of the time with its own.
func (u *clockUse) compare(operator string, list []any) {
	for i, item := range list {
		if !isClock(item) {
			u.walk(item)
			continue
		}
		for _, neighbour := range []int{i - 1, i + 1} {
			if neighbour < 0 || neighbour >= len(list) {
				continue
			}
			if n := list[neighbour]; isClock(n) || !isPrimitive(n) && n != nil {
				u.computed = true
			} else {
				u.add(operator, toComparable(n), neighbour > i)
			}
		}
	}
}

// maxInstant bounds instants: every whole number up to it is a float64 of its own.
const maxInstant = 1 << 53

// add adds when a comparison of the time with a number changes. first: the time is the left operand.
func (u *clockUse) add(operator string, number float64, first bool) {
	if !(number >= 0 && number < maxInstant) {
		return // never, or at no instant that comes
	}
	from, after := int64(math.Ceil(number)), int64(math.Floor(number))+1
	switch operator {
	case ">=", "<":
		if !first {
			from = after
		}
		u.instants = append(u.instants, from)
	case ">", "<=":
		if first {
			from = after
		}
		u.instants = append(u.instants, from)
	default:
		if from != after { // else the number is no instant
			u.instants = append(u.instants, from, after)
		}
	}
}
