package channels

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

const (
	maxExpression = 1024   // bytes of an expression
	maxWhenDepth  = 50     // levels of nesting
	maxWhenCost   = 20_000 // CEL's units of work: a millisecond or two
)

// whenProgram is a compiled expression; nil: not compiled. Safe for concurrent use.
type whenProgram = cel.Program

// WhenInput is everything that an expression can refer to. It has no time: time alone would change a verdict unnoticed;
// windows and freezes are for time.
type WhenInput struct {
	Release      *releases.Release // release: version, fixes, features, components (their names)
	Digest       releases.Digest   // release.digest
	Channel      string            // channel.name: the channel that the gate belongs to
	Cells        Counts            // cells: those of all upstream channels
	ChannelCells Counts            // channel.cells: the channel's own
	Flags        WhenFlags         // flags; zero: there is no flags repository, or nothing is known of it
}

// WhenFlags is the flags repository's part of a WhenInput.
type WhenFlags struct {
	Commit    string   `cel:"commit"`    // the tip that was read
	Killed    []string `cel:"killed"`    // keys of flags that are killed somewhere
	Published []string `cel:"published"` // features that are announced and published in the channel
	Upstream  []string `cel:"upstream"`  // the same in all upstream channels
}

// Counts counts cells: Total counts all, Healthy and Failed the cells that run the judged release.
type Counts struct {
	Total   int `cel:"total"`
	Healthy int `cel:"healthy"`
	Failed  int `cel:"failed"`
}

// whenRelease is the variable release of an expression.
type whenRelease struct {
	Version    string   `cel:"version"`
	Digest     string   `cel:"digest"`
	Fixes      []string `cel:"fixes"`
	Features   []string `cel:"features"`
	Components []string `cel:"components"`
}

// whenChannel is the variable channel of an expression.
type whenChannel struct {
	Name  string `cel:"name"`
	Cells Counts `cel:"cells"`
}

func (in WhenInput) celVariables() map[string]any {
	release := whenRelease{Digest: string(in.Digest)}
	if r := in.Release; r != nil {
		release.Version, release.Fixes, release.Features = r.Version.String(), r.Fixes, r.Features
		for _, c := range r.Components {
			release.Components = append(release.Components, c.Name)
		}
	}
	return map[string]any{"release": release, "channel": whenChannel{in.Channel, in.ChannelCells}, "cells": in.Cells,
		"flags": in.Flags}
}

// whenEnv is the environment that expressions are checked against: a constant, made when first used because making it
// is slow.
var whenEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		ext.NativeTypes(ext.ParseStructTags(true), reflect.TypeFor[whenRelease](), reflect.TypeFor[whenChannel](),
			reflect.TypeFor[Counts](), reflect.TypeFor[WhenFlags]()),
		cel.Variable("release", cel.ObjectType("channels.whenRelease")),
		cel.Variable("channel", cel.ObjectType("channels.whenChannel")),
		cel.Variable("cells", cel.ObjectType("channels.Counts")),
		cel.Variable("flags", cel.ObjectType("channels.WhenFlags")),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxWhenDepth),
	)
})

// UnmarshalText stores the expression as it is. Load compiles it.
func (w *When) UnmarshalText(text []byte) error {
	w.Expression, w.program = string(text), nil
	return nil
}

// MarshalText returns the expression as it was written.
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
		return nil, errors.New(describeIssues(issues))
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("expression must be a bool, not %s", ast.OutputType())
	}
	program, err := env.Program(ast, cel.CostLimit(maxWhenCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	return program, nil
}

// describeIssues formats CEL's issues in one line, and explains where time belongs if the expression asks for it.
func describeIssues(issues *cel.Issues) string {
	var lines []string
	for i, e := range issues.Errors() {
		if i == 3 {
			lines = append(lines, fmt.Sprintf("and %d more", len(issues.Errors())-i))
			break
		}
		line := fmt.Sprintf("column %d: %s", e.Location.Column()+1, e.Message)
		if strings.Contains(e.Message, "undeclared reference to 'now'") {
			line = fmt.Sprintf("column %d: time is not available here: use a window or a freeze", e.Location.Column()+1)
		} else if strings.Contains(e.Message, "undeclared reference") {
			line += ": there are release, channel, cells and flags"
		}
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "; ")
}

// Judge evaluates the expression. An expression that can't be evaluated blocks, with CEL's reason.
func (w *When) Judge(in WhenInput) Verdict {
	program := w.program
	if program == nil {
		var err error
		if program, err = compileWhen(w.Expression); err != nil {
			return Blocked("", reason.WhenInvalid, err.Error())
		}
	}
	value, _, err := program.Eval(in.celVariables())
	if err != nil {
		return Blocked("", reason.WhenFailed, err)
	}
	if holds, _ := value.Value().(bool); holds {
		return Held("", reason.WhenTrue, w.shortExpression())
	}
	return Blocked("", reason.WhenFalse, w.shortExpression())
}

// shortExpression returns the expression in one line that fits a report.
func (w *When) shortExpression() string {
	const most = 120
	line := []rune(strings.Join(strings.Fields(w.Expression), " "))
	if len(line) > most {
		return string(line[:most-1]) + "…"
	}
	return string(line)
}
