// Package health evaluates a release's own rules for the health of its objects, which are written in CEL.
//
// A rule sees one object of a cluster, as the variable object, and nothing else. The package is pure: it reads no
// cluster and no clock. Expressions are bounded in size, nesting and cost, so that none keeps a cell busy. Everything
// may be called at once.
package health

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
)

const (
	maxExpression = 1024    // bytes
	maxDepth      = 50      // levels of nesting
	maxCost       = 100_000 // CEL's units of work: some milliseconds
	maxIssue      = 300     // bytes of CEL's words in an error
)

// Expression is a compiled expression.
type Expression struct{ program cel.Program }

// environment is a constant, made when first used because making it is slow.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(cel.Variable("object", cel.DynType), cel.OptionalTypes(),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ParserRecursionLimit(maxDepth))
})

// Compile checks an expression, which must be a bool.
func Compile(expression string) (*Expression, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("expression of %d bytes: at most %d are read", len(expression), maxExpression)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, errors.New(describe(issues))
	}
	if out := ast.OutputType(); out != cel.BoolType && out != cel.DynType {
		return nil, fmt.Errorf("expression must be a bool, not %s", out)
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	return &Expression{program}, nil
}

func describe(issues *cel.Issues) string {
	e := issues.Errors()[0]
	text := strings.Join(strings.Fields(e.Message), " ")
	if strings.Contains(text, "undeclared reference") {
		text += ": there is object"
	}
	return fmt.Sprintf("column %d: %s", e.Location.Column()+1, text[:min(len(text), maxIssue)])
}

// Holds evaluates the expression for an object. It is an error to read a field that the object lacks: has() asks.
func (e *Expression) Holds(object map[string]any) (bool, error) {
	out, _, err := e.program.Eval(map[string]any{"object": object})
	if err != nil {
		text := strings.Join(strings.Fields(err.Error()), " ")
		return false, errors.New(text[:min(len(text), maxIssue)])
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("the expression's value is no bool but %s", out.Type().TypeName())
	}
	return holds, nil
}
