// Package jsonlogic evaluates JSONLogic rules of feature flags with flagd's results, to the bit: flagd's operators
// (fractional, sem_ver, starts_with, ends_with), and the quirks of the JSONLogic library that flagd uses. Where flagd
// recovers from a panic, this package returns an error.
//
// Compile decodes a rule strictly, within limits, into a tree; Rule.Evaluate walks the tree. A Rule is immutable and
// safe for concurrent use. Data can contain rules: "if" and "set" evaluate values from the data once more, and
// "filter", "none", "some" and "all" put values into their body before evaluating it. Therefore an evaluation has a
// budget of steps, which bounds its time, memory and depth. The package never panics, reads no clock and changes no
// input.
//
// Facts are data that the caller can't influence. A fact hides the caller's entry of the same name.
package jsonlogic

import (
	"errors"
	"fmt"
	"sync"
)

// Limits of rules. A rule beyond a limit does not compile.
const (
	MaxBytes  = 1 << 20 // bytes of a rule's JSON
	MaxString = 1 << 14 // bytes of one string in a rule
	MaxDigits = 64      // bytes of one number in a rule
	MaxDepth  = 128     // of arrays and objects
	MaxNodes  = 100_000 // values
)

// maxSteps bounds one evaluation to some milliseconds. An operator, a variable, eight compared elements or sixteen
// bytes of new text cost a step.
const maxSteps = 250_000

// ErrBudget says that an evaluation exceeded its budget of steps.
var ErrBudget = errors.New("the rule takes too many steps with this context")

// errShape says that an operator got operands of a wrong shape.
var errShape = errors.New("an operator of the rule can't use its arguments")

// Rule is a compiled rule. It must not be copied.
type Rule struct {
	root  node
	empty bool
	clock clockUse
	runs  sync.Pool // of *run, zeroed: allocating a run would double an evaluation's cost
}

// Input holds what a rule is evaluated with. An evaluation changes nothing in it.
type Input struct {
	// Data is the caller's: values as encoding/json decodes them, or any value that encoding/json can encode.
	Data map[string]any
	// Facts hide Data's entries of the same name, even if nil; values as encoding/json decodes them.
	Facts   map[string]any
	FlagKey string // $flagd.flagKey
	At      int64  // $flagd.timestamp, Unix seconds
}

// Compile compiles a rule. Errors are worded for the rule's author.
func Compile(rule []byte) (*Rule, error) {
	v, err := decodeRule(rule)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	clock, c := findClockUse(v), compiler{}
	return &Rule{root: c.compile(v), empty: ok && len(object) == 0, clock: clock}, nil
}

// Empty reports whether the rule is {}, which flagd treats as no rule.
func (r *Rule) Empty() bool { return r.empty }

// Evaluate returns the rule's result, as encoding/json would decode it. The result may share parts with the rule and
// with in.
func (r *Rule) Evaluate(in Input) (any, error) {
	e, ok := r.runs.Get().(*run)
	if !ok {
		e = new(run)
	}
	e.Input, e.steps = in, maxSteps
	v, err := r.root.eval(e, root{})
	*e = run{}
	r.runs.Put(e)
	return v, err
}

func unknownOperator(operator string) error {
	return fmt.Errorf("there is no operator %.64q", operator)
}
