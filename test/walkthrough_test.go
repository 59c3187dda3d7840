package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWalkthrough holds that every file, folder, function, type, method and field that docs/walkthrough.md names is
// there.
func TestWalkthrough(t *testing.T) {
	page, err := os.ReadFile("../docs/walkthrough.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := declarations(t)
	inCode := regexp.MustCompile("`([a-z]+[a-zA-Z0-9_]*(?:[./][a-zA-Z0-9_]+)+)`")
	found := inCode.FindAllStringSubmatch(string(page), -1)
	if len(found) < 100 {
		t.Errorf("only %d names were found: is the page written in another way?", len(found))
	}
	for _, m := range found {
		name := m[1]
		switch {
		case strings.Contains(name, "/"):
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(name))); err != nil {
				t.Errorf("docs/walkthrough.md names %s: %v", name, err)
			}
		case !declared[name] && name != "package.Function" && name != "package.Type.Method":
			t.Errorf("docs/walkthrough.md names %s, which is not declared", name)
		}
	}
}

// declarations gives what the module's packages declare: package.Name, and package.Type.Name for methods and fields.
func declarations(t *testing.T) map[string]bool {
	declared := map[string]bool{}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name),
				nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				declare(declared, p.Name+".", decl)
			}
		}
	}
	return declared
}

func declare(declared map[string]bool, in string, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv != nil {
			in += receiver(d.Recv.List[0].Type) + "."
		}
		declared[in+d.Name.Name] = true
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			s, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			declared[in+s.Name.Name] = true
			if fields, ok := s.Type.(*ast.StructType); ok {
				for _, f := range fields.Fields.List {
					for _, name := range f.Names {
						declared[in+s.Name.Name+"."+name.Name] = true
					}
				}
			}
		}
	}
}
