package channels

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

const (
	maxExpression = 4096    // bytes of an expression
	maxWhenDepth  = 50      // how deep it nests
	maxWhenCost   = 100_000 // CEL's units of work: some milliseconds
)

// whenProgram is a compiled expression; nil: not compiled. Safe for concurrent use.
type whenProgram = cel.Program

// WhenInput is all that an expression sees. There is no time in it: time alone would change a verdict unseen, windows
// and freezes are for that.
type WhenInput struct {
	Release WhenRelease // release
	Channel WhenChannel // channel: the one that the gate belongs to
	Cells   WhenCells   // cells: those of all upstream channels, on this release
}

// WhenRelease is `release` in an expression.
type WhenRelease struct {
	Version    string   `cel:"version"`
	Digest     string   `cel:"digest"`
	Fixes      []string `cel:"fixes"`
	Features   []string `cel:"features"`
	Components []string `cel:"components"` // names
}

// WhenChannel is `channel` in an expression.
type WhenChannel struct {
	Name  string    `cel:"name"`
	Cells WhenCells `cel:"cells"` // the channel's own, on this release
}

// WhenCells counts cells. Total counts all of them; the others only those on the release at hand.
type WhenCells struct {
	Total    int `cel:"total"`
	Applying int `cel:"applying"`
	Healthy  int `cel:"healthy"`
	Failed   int `cel:"failed"`
}

// whenEnv is what expressions are checked against: a constant, made when first needed because that takes a while.
var whenEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		ext.NativeTypes(ext.ParseStructTags(true), WhenInput{}, WhenRelease{}, WhenChannel{}, WhenCells{}),
		cel.Variable("release", cel.ObjectType("channels.WhenRelease")),
		cel.Variable("channel", cel.ObjectType("channels.WhenChannel")),
		cel.Variable("cells", cel.ObjectType("channels.WhenCells")),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxWhenDepth),
	)
})

// UnmarshalText takes an expression as it is. Load compiles it.
func (w *When) UnmarshalText(text []byte) error {
	w.Expression, w.program = string(text), nil
	return nil
}

// MarshalText gives the expression as it was written.
func (w When) MarshalText() ([]byte, error) { return []byte(w.Expression), nil }

func compileWhen(expression string) (whenProgram, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("expression of %d bytes: at most %d are read", len(expression), maxExpression)
	}
	env, err := whenEnv()
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, errors.New(inWords(issues))
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("expression gives %s, and must give bool", ast.OutputType())
	}
	program, err := env.Program(ast, cel.CostLimit(maxWhenCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	return program, nil
}

// inWords gives CEL's complaints in one line, and says where time belongs if it was asked for.
func inWords(issues *cel.Issues) string {
	var words []string
	for i, e := range issues.Errors() {
		if i == 3 {
			words = append(words, fmt.Sprintf("and %d more", len(issues.Errors())-i))
			break
		}
		said := fmt.Sprintf("column %d: %s", e.Location.Column()+1, e.Message)
		if strings.Contains(e.Message, "undeclared reference to 'now'") {
			said = fmt.Sprintf("column %d: time is not available here: use a window or a freeze", e.Location.Column()+1)
		} else if strings.Contains(e.Message, "undeclared reference") {
			said += ": there are release, channel and cells"
		}
		words = append(words, strings.Join(strings.Fields(said), " "))
	}
	return strings.Join(words, "; ")
}

// Judge evaluates the expression. What can't be evaluated is blocked, with CEL's reason.
func (w *When) Judge(in WhenInput) Verdict {
	program := w.program
	if program == nil {
		var err error
		if program, err = compileWhen(w.Expression); err != nil {
			return Verdict{Reason: err.Error()}
		}
	}
	value, _, err := program.Eval(map[string]any{"release": in.Release, "channel": in.Channel, "cells": in.Cells})
	if err != nil {
		return Verdict{Reason: "can't be evaluated: " + err.Error()}
	}
	if holds, _ := value.Value().(bool); holds {
		return Verdict{Holds: true, Reason: w.brief()}
	}
	return Verdict{Reason: "not so: " + w.brief()}
}

// brief gives the expression in one line that fits a report.
func (w *When) brief() string {
	const most = 120
	line := []rune(strings.Join(strings.Fields(w.Expression), " "))
	if len(line) > most {
		return string(line[:most-1]) + "…"
	}
	return string(line)
}
