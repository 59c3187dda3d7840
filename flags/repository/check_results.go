package repository

import (
	"math"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// checkResults checks the results that a rule may yield against the flag's variants, as far as they are known.
func (c *ruleChecker) checkResults(n jsondoc.Node) {
	name, args, isRule := operation(n)
	if !isRule {
		c.checkConstantResult(n)
		return
	}
	op, known := lookUpOperator(name)
	switch {
	case !known || len(args) < op.minArgs:
	case name == "if" || name == "?:":
		for i := 1; i < len(args); i += 2 {
			c.checkResults(args[i])
		}
		if len(args)%2 == 1 {
			c.checkResults(args[len(args)-1])
		}
	case name == "and" || name == "or":
		for _, arg := range args[:len(args)-1] {
			if c.yieldsBool(arg) { // and yields false if it stops here, or yields true
				c.checkBoolResult(arg.Line, name, name == "or")
			}
		}
		c.checkResults(args[len(args)-1])
	case name == "fractional":
		for _, share := range args {
			if list, ok := share.Value.([]jsondoc.Node); ok && len(list) > 0 {
				c.checkResults(list[0])
			}
		}
	case op.yieldsBool:
		c.checkBoolResult(n.Line, name, true)
		c.checkBoolResult(n.Line, name, false)
	}
}

// yieldsBool reports whether a rule yields only true or false.
func (c *ruleChecker) yieldsBool(n jsondoc.Node) bool {
	name, _, ok := operation(n)
	op, _ := lookUpOperator(name)
	return ok && op.yieldsBool
}

// checkConstantResult checks a constant result. Null chooses the default variant.
func (c *ruleChecker) checkConstantResult(n jsondoc.Node) {
	if n.Value == nil {
		return
	}
	if !c.isVariant(n.PlainValue()) {
		c.Fault(jsondoc.UnknownReference, n.Line,
			"flag %s: the rule returns %s, which is not a variant; there are: %s",
			c.flag.Key, jsondoc.Describe(n.Value), c.flag.VariantNames())
	}
}

func (c *ruleChecker) checkBoolResult(line int, operator string, result bool) {
	if !c.isVariant(result) {
		c.Fault(jsondoc.UnknownReference, line,
			"flag %s: %s may return %t, which is not a variant: choose a variant with if; there are: %s",
			c.flag.Key, operator, result, c.flag.VariantNames())
	}
}

func (c *ruleChecker) isVariant(result any) bool {
	variant, err := flags.VariantNamed(result)
	if err != nil {
		return false
	}
	_, ok := c.flag.Variants[variant]
	return ok || len(c.flag.Variants) == 0 // empty variants are already a fault
}

// checkFractional checks shares. flagd's weights are relative; here people mean percent, so other sums are worth a
// warning.
func (c *ruleChecker) checkFractional(n jsondoc.Node, args []jsondoc.Node) {
	shares := args
	switch first := args[0]; {
	case !first.IsCollection():
		if text, ok := first.Value.(string); ok {
			c.Warn(jsondoc.Unused, first.Line,
				"fractional uses the text %q as its key, which is the same for everybody: all users get one share",
				jsondoc.Clip(text))
		} else if first.Value != nil {
			c.Fault(jsondoc.WrongType, first.Line,
				"fractional begins with its key, a rule, or with its first share, not %s",
				jsondoc.Describe(first.Value))
		}
		shares = args[1:]
	default:
		if _, ok := first.Value.(jsondoc.Members); ok {
			shares = args[1:]
		}
	}
	if len(shares) == 0 {
		c.Fault(jsondoc.Missing, n.Line, "fractional has no shares: it never matches")
		return
	}
	sum, written := 0.0, false
	for _, share := range shares {
		weight, stated, ok := c.shareWeight(share)
		if !ok {
			return
		}
		sum, written = sum+weight, written || stated
	}
	switch {
	case sum == 0:
		c.Fault(jsondoc.WrongValue, n.Line, "fractional's shares add up to 0: it never matches")
	case sum > math.MaxInt32:
		c.Fault(jsondoc.WrongValue, n.Line,
			"fractional's shares add up to more than %d: it never matches", math.MaxInt32)
	case written && sum != 100:
		c.Warn(jsondoc.WrongValue, n.Line,
			"fractional's shares add up to %s, not 100: they count as relative weights",
			jsondoc.AppendScalar(nil, sum))
	}
}

// shareWeight returns a share's weight. ok is false if the weight depends on the context, or is already a fault.
func (c *ruleChecker) shareWeight(share jsondoc.Node) (weight float64, stated, ok bool) {
	list, isList := share.Value.([]jsondoc.Node)
	switch {
	case !isList && isConstant(share) || isList && (len(list) == 0 || len(list) > 2):
		c.Fault(jsondoc.WrongType, share.Line, "a share of fractional is a variant and its percentage, as in [on, 50]")
		return 0, false, false
	case !isList:
		return 0, false, false
	case len(list) == 1:
		return 1, false, true
	case !isConstant(list[1]):
		return 0, true, false
	}
	v, _ := evaluateConstant(list[1])
	weight, number := v.(float64)
	switch {
	case !number:
		c.Fault(jsondoc.WrongType, list[1].Line,
			"a share's percentage must be a number, not %s", jsondoc.Describe(list[1].Value))
	case weight != math.Trunc(weight):
		c.Fault(jsondoc.WrongValue, list[1].Line,
			"a share's percentage must be a whole number, not %s: fractional would never match",
			jsondoc.AppendScalar(nil, weight))
	case weight < 0:
		c.Fault(jsondoc.WrongValue, list[1].Line,
			"a share's percentage can't be negative: %s", jsondoc.AppendScalar(nil, weight))
	default:
		return weight, true, true
	}
	return 0, true, false
}
