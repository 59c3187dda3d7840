package repository

import (
	"slices"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/jsonlogic"
	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// ruleChecker finds likely mistakes in one flag's rule: unknown operators, rules that never or always match, results
// that are no variant. Constants are evaluated by package jsonlogic, so that checker and evaluation agree.
type ruleChecker struct {
	*flags.SetReader
	flag *flags.Definition
}

// Targeting checks a flag's rule, with references resolved.
func (l linter) Targeting(d *flags.Definition, n jsondoc.Node) {
	c := ruleChecker{l.SetReader, d}
	c.checkNode(n)
	c.checkResults(n)
	if rule, err := jsonlogic.Compile(d.Targeting); err == nil {
		if _, computed := rule.Instants(); computed {
			c.Warn(jsondoc.WrongValue, n.Line, "the rule computes with $flagd.timestamp, so no event tells callers when its "+
				"result changes, and they poll: compare $flagd.timestamp with numbers")
		}
	}
}

// operation returns a rule's operator and its arguments as a list. ok is false for a value that is not a rule.
func operation(n jsondoc.Node) (name string, args []jsondoc.Node, ok bool) {
	m, isMapping := n.Value.(jsondoc.Members)
	if !isMapping || len(m) != 1 {
		return "", nil, false
	}
	if list, isList := m[0].Value.([]jsondoc.Node); isList {
		return m[0].Key, list, true
	}
	return m[0].Key, []jsondoc.Node{m[0].Node}, true
}

// checkNode checks n and its descendants, and reports whether n is the same in every context.
func (c *ruleChecker) checkNode(n jsondoc.Node) (constant bool) {
	switch v := n.Value.(type) {
	case []jsondoc.Node:
		return c.checkNodes(v)
	case jsondoc.Members:
		if len(v) == 1 {
			return c.checkOperation(n, v[0])
		}
		c.Fault(jsondoc.WrongValue, n.Line,
			"a rule has one operator, and this mapping has %d keys: it is a plain value and never matches", len(v))
	}
	return true
}

func (c *ruleChecker) checkNodes(list []jsondoc.Node) (constant bool) {
	constant = true
	for _, child := range list {
		constant = c.checkNode(child) && constant
	}
	return constant
}

// checkOperation is checkNode for a rule. A faulty rule does not count as constant, so that no further faults follow
// from it.
func (c *ruleChecker) checkOperation(n jsondoc.Node, m jsondoc.Member) (constant bool) {
	op, known := lookUpOperator(m.Key)
	_, args, _ := operation(n)
	_, isList := m.Value.([]jsondoc.Node)
	switch {
	case !known:
		c.Fault(jsondoc.WrongValue, m.Line, "there is no operator %.60q", m.Key)
		return false
	case !isList && !op.bare:
		c.Fault(jsondoc.WrongType, m.Line, "%s takes a list of %s", m.Key, op.describeArgs())
		return false
	case isList && (len(args) < op.minArgs || len(args) > op.maxArgs):
		c.Fault(jsondoc.WrongValue, m.Line, "%s takes %s, not %d", m.Key, op.describeArgs(), len(args))
		return false
	}
	constant = c.checkNodes(args) && !op.variable
	if constant && op.yieldsBool {
		c.faultConstant(n, m.Key)
		return false
	}
	c.checkOperands(n, m.Key, args)
	return constant
}

// faultConstant faults a test that depends on constants only.
func (c *ruleChecker) faultConstant(n jsondoc.Node, name string) {
	v, ok := evaluateConstant(n)
	switch {
	case !ok || v == nil:
		c.Fault(jsondoc.Unused, n.Line,
			"%s can't be evaluated with these constants, whatever the context: it never matches", name)
	case v == false:
		c.Fault(jsondoc.Unused, n.Line, "%s compares constants and never matches: compare with a variable", name)
	default:
		c.Fault(jsondoc.Unused, n.Line, "%s compares constants and always returns %s: compare with a variable", name,
			jsondoc.AppendValue(nil, v))
	}
}

// checkOperands checks the operands of single operators.
func (c *ruleChecker) checkOperands(n jsondoc.Node, name string, args []jsondoc.Node) {
	switch name {
	case "var":
		c.checkVariable(args)
	case "if", "?:":
		c.checkIf(args)
	case "and", "or":
		c.checkJunction(name, args)
	case "in":
		c.checkIn(args)
	case "all", "none", "some", "filter", "map":
		if list, ok := args[0].Value.([]jsondoc.Node); ok && len(list) == 0 ||
			isConstant(args[0]) && !args[0].IsCollection() {
			c.Fault(jsondoc.Unused, args[0].Line, "%s iterates over a list, and this one is empty", name)
		}
	case "<", "<=", ">", ">=":
		c.checkBetween(name, args)
	case "starts_with", "ends_with":
		for _, arg := range args {
			if !isConstant(arg) {
				continue
			}
			v, _ := evaluateConstant(arg)
			if _, text := v.(string); !text {
				c.Fault(jsondoc.WrongType, arg.Line, "%s compares text, and %s is not text: it never matches", name,
					jsondoc.Describe(arg.Value))
			}
		}
	case "sem_ver":
		c.checkSemVer(args)
	case "fractional":
		c.checkFractional(n, args)
	}
}

func (c *ruleChecker) checkVariable(args []jsondoc.Node) {
	if len(args) == 0 {
		return
	}
	const own = "$flagd."
	name, ok := args[0].Value.(string)
	if ok && len(name) > len(own) && name[:len(own)] == own &&
		!slices.Contains([]string{"timestamp", "flagKey"}, name[len(own):]) {
		c.Fault(jsondoc.UnknownReference, args[0].Line,
			"there is no variable %.60q: flagd has $flagd.timestamp and $flagd.flagKey", name)
	}
}

// checkIf finds constant and repeated conditions.
func (c *ruleChecker) checkIf(args []jsondoc.Node) {
	before := map[string]bool{}
	for i := 0; i+1 < len(args); i += 2 {
		condition := args[i]
		if holds, known := c.constantTruth(condition); known {
			switch {
			case !holds:
				c.Fault(jsondoc.Unused, condition.Line, "this condition never holds: remove it and its result")
			case i+2 < len(args):
				c.Fault(jsondoc.Unused, condition.Line,
					"this condition always holds: what follows its result never matches")
			default:
				c.Fault(jsondoc.Unused, condition.Line, "this condition always holds: write its result without if")
			}
			continue
		}
		if len(args) > 3 {
			text := string(jsondoc.AppendNode(nil, condition))
			if before[text] {
				c.Fault(jsondoc.Unused, condition.Line,
					"this condition occurs before: its result is never reached")
			}
			before[text] = true
		}
	}
}

// checkJunction finds constant operands of and, or. The last operand may be constant: it is the result.
func (c *ruleChecker) checkJunction(name string, args []jsondoc.Node) {
	for i, arg := range args {
		holds, known := c.constantTruth(arg)
		switch {
		case !known || i == len(args)-1:
		case holds == (name == "or"):
			c.Fault(jsondoc.Unused, arg.Line, "%s always ends here: what follows never matches", name)
		default:
			c.Fault(jsondoc.Unused, arg.Line, "this has no effect within %s: remove it", name)
		}
	}
}

// constantTruth returns whether a constant condition holds. known is false for other conditions, and for those that are
// already a fault.
func (c *ruleChecker) constantTruth(n jsondoc.Node) (holds, known bool) {
	if !isConstant(n) || c.yieldsBool(n) {
		return false, false
	}
	v, ok := evaluateConstant(jsondoc.Node{
		Line: n.Line, Value: jsondoc.Members{{Key: "!!", Node: jsondoc.Node{Value: []jsondoc.Node{n}}}},
	})
	holds, _ = v.(bool)
	return holds, ok
}

func (c *ruleChecker) checkIn(args []jsondoc.Node) {
	if list, written := args[1].Value.([]jsondoc.Node); written {
		if len(list) == 0 {
			c.Fault(jsondoc.Unused, args[1].Line, "in searches an empty list: it never matches")
		}
		return
	}
	if !isConstant(args[1]) {
		return
	}
	v, _ := evaluateConstant(args[1])
	switch v := v.(type) {
	case []any: // a computed list, by merge for example, is not checked
	case string:
		if v == "" {
			c.Fault(jsondoc.Unused, args[1].Line, "in searches an empty text: it never matches")
		}
	default:
		c.Fault(jsondoc.WrongType, args[1].Line,
			"in searches a list or a text, and this is neither: it never matches")
	}
}

// checkBetween checks a value between two numbers.
func (c *ruleChecker) checkBetween(name string, args []jsondoc.Node) {
	if len(args) != 3 {
		return
	}
	low, ok := args[0].Value.(float64)
	high, ok2 := args[2].Value.(float64)
	if name[0] == '>' {
		low, high = high, low
	}
	if ok && ok2 && (low > high || low == high && len(name) == 1) {
		c.Fault(jsondoc.Conflict, args[0].Line, "nothing is between %s and %s: it never matches",
			jsondoc.AppendScalar(nil, low), jsondoc.AppendScalar(nil, high))
	}
}

func (c *ruleChecker) checkSemVer(args []jsondoc.Node) {
	if name, text := args[1].Value.(string); isConstant(args[1]) &&
		!(text && slices.Contains(semVerOperators(), name)) {
		c.Fault(jsondoc.WrongValue, args[1].Line,
			"sem_ver compares by =, !=, <, <=, >, >=, ^ (same major) or ~ (same minor), not by %s: it never matches",
			jsondoc.Describe(args[1].Value))
	}
	for _, i := range []int{0, 2} {
		if version := args[i]; isConstant(version) && !isVersion(version) {
			c.Fault(jsondoc.WrongValue, version.Line, "%s is not a semantic version such as 1.2.3: it never matches",
				jsondoc.Describe(version.Value))
		}
	}
}

func semVerOperators() []string { return []string{"=", "!=", "<", "<=", ">", ">=", "^", "~"} }

// isVersion reports whether sem_ver can compare a constant: a version equals itself.
func isVersion(n jsondoc.Node) bool {
	v, ok := evaluateConstant(jsondoc.Node{Value: jsondoc.Members{{Key: "sem_ver", Node: jsondoc.Node{
		Value: []jsondoc.Node{n, {Value: "="}, n},
	}}}})
	return ok && v == true
}

// isConstant reports whether n evaluates to the same value in every context.
func isConstant(n jsondoc.Node) bool {
	switch v := n.Value.(type) {
	case []jsondoc.Node:
		return !slices.ContainsFunc(v, func(child jsondoc.Node) bool { return !isConstant(child) })
	case jsondoc.Members:
		if len(v) != 1 {
			return true
		}
		op, known := lookUpOperator(v[0].Key)
		return known && !op.variable && isConstant(v[0].Node)
	}
	return true
}

// evaluateConstant evaluates a constant.
func evaluateConstant(n jsondoc.Node) (any, bool) {
	switch n.Value.(type) {
	case nil, bool, float64, string:
		return n.Value, true
	}
	rule, err := jsonlogic.Compile(jsondoc.AppendNode(nil, n))
	if err != nil {
		return nil, false
	}
	v, err := rule.Evaluate(jsonlogic.Input{})
	return v, err == nil
}
