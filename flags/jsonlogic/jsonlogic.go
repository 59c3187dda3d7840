// Package jsonlogic evaluates JSONLogic rules of feature flags with the results of flagd: its operators (fractional, sem_ver,
// starts_with, ends_with) and the quirks of the JSONLogic it is built on, to the bit. What flagd answers with a panic that it
// recovers from is an error here.
//
// Compile reads a rule strictly, within limits, and makes a tree of it once; Rule.Evaluate walks the tree. A Rule is immutable
// and safe for concurrent use. Rules may come to be while others are evaluated: "if" and "set" evaluate what they get from the
// data once more, "filter", "none", "some" and "all" put values into their body before they evaluate it. So whoever sends data
// may send rules too; therefore an evaluation has a budget of steps, which bounds its time, its memory and its depth. It never
// panics, reads no clock, and changes nothing that it is given.
//
// Facts are data that the caller can't influence: they hide what the data has of the same name.
package jsonlogic

import (
	"errors"
	"fmt"
	"sync"
)

// Limits of rules. A rule beyond them does not compile.
const (
	MaxBytes  = 1 << 20 // of a rule's JSON
	MaxString = 1 << 14 // bytes of one string in it
	MaxDigits = 64      // bytes of one number in it
	MaxDepth  = 128     // of arrays and objects
	MaxNodes  = 100_000 // values
)

// maxSteps bounds one evaluation: some milliseconds. A step is an operator, a variable, eight elements that were looked
// through, or sixteen bytes of text that was made.
const maxSteps = 250_000

// ErrBudget says that an evaluation took more steps than any may.
var ErrBudget = errors.New("the rule takes too many steps with this context")

// errShape says that an operator got what it can't work with.
var errShape = errors.New("an operator of the rule does not fit what it is given")

// Rule is a compiled rule. It must not be copied.
type Rule struct {
	root  node
	empty bool
	runs  sync.Pool // of *run, zero: making one would be half of what an evaluation costs
}

// Input is what a rule is evaluated with. Nothing in it is changed.
type Input struct {
	Data    map[string]any // the caller's; values as encoding/json gives them, or what encoding/json can write
	Facts   map[string]any // hide Data's entries of the same name, even if they are nil; values as encoding/json gives them
	FlagKey string         // $flagd.flagKey
	At      int64          // $flagd.timestamp, Unix seconds
}

// Compile reads a rule. Its errors say what is wrong with it in words for the rule's author.
func Compile(rule []byte) (*Rule, error) {
	v, err := decodeRule(rule)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	c := compiler{}
	return &Rule{root: c.compile(v), empty: ok && len(object) == 0}, nil
}

// Empty tells whether the rule is {}, which flagd takes for none.
func (r *Rule) Empty() bool { return r.empty }

// Evaluate gives what the rule makes of in, as encoding/json would give it; it may share parts with the rule and with in.
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
