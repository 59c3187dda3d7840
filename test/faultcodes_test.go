package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// TestEveryFaultHasACode checks that each Fault is made with a class, by a constant: a literal sets Code, and a call of
// a constructor does not begin with a text. The compiler checks other calls.
func TestEveryFaultHasACode(t *testing.T) {
	makers := []string{"Fault", "Warning", "Warn", "Stop", "fault", "warn"}
	literals, calls := 0, 0
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			hold := func(at ast.Node, literal *ast.CompositeLit) {
				literals++
				if !hasField(literal, "Code") {
					t.Errorf("%s: a Fault without Code", set.Position(at.Pos()))
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					if typeName(n.Type) == "Fault" {
						hold(n, n)
					}
					if list, ok := n.Type.(*ast.ArrayType); ok && typeName(list.Elt) == "Fault" {
						for _, e := range n.Elts {
							if literal, ok := e.(*ast.CompositeLit); ok && literal.Type == nil {
								hold(e, literal)
							}
						}
					}
				case *ast.CallExpr:
					called, ok := n.Fun.(*ast.SelectorExpr)
					if !ok || len(n.Args) == 0 || !slices.Contains(makers, called.Sel.Name) {
						break
					}
					calls++
					if first, ok := n.Args[0].(*ast.BasicLit); ok && first.Kind == token.STRING {
						t.Errorf("%s: %s begins with a text, not with a code", set.Position(n.Pos()), called.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if literals < 20 || calls < 200 {
		t.Errorf("only %d literals and %d calls found: the names of the constructors have changed", literals,
			calls)
	}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func hasField(literal *ast.CompositeLit, name string) bool {
	return slices.ContainsFunc(literal.Elts, func(e ast.Expr) bool {
		pair, ok := e.(*ast.KeyValueExpr)
		return ok && typeName(pair.Key) == name
	})
}
