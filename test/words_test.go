package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns is how long a line of Go may be; a tab counts four.
const maxColumns = 120

// unsearchable are names that said nothing to whoever had not written them. CONTRIBUTING.md and docs/glossary.md have
// the words to use in their place.
func unsearchable() []string {
	return []string{
		"board", "couldMarch", "doors", "giveUpOn", "had", "knocks", "lamps", "letGo", "march", "needy", "parcel",
		"posted",
		"press", "shook", "strangers", "tell", "telling", "told", "wonder",
	}
}

// Names and comments are such as a stranger would search for and understand.
func TestWords(t *testing.T) {
	dialect := regexp.MustCompile(`(?i)\btells (whether|if)\b|\bgives (whether|true|nil)\b`)
	text := regexp.MustCompile("`|\"(?:[^\"\\\\]|\\\\.){40,}\"|https?://|//nolint")
	for _, file := range goFiles(t) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, file, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		raw := rawLines(fset, tree)
		for i, line := range strings.Split(string(src), "\n") {
			n := utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
			if n > maxColumns && !raw[i+1] && !text.MatchString(line) {
				t.Errorf("%s:%d: %d columns: break the line at %d", file, i+1, n, maxColumns)
			}
		}
		for _, group := range tree.Comments {
			for _, c := range group.List {
				if found := dialect.FindString(c.Text); found != "" {
					t.Errorf("%s: %q: say that it reports whether, or returns", fset.Position(c.Pos()), found)
				}
			}
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			for _, name := range declared(n) {
				if slices.Contains(unsearchable(), name.Name) {
					t.Errorf("%s: %s is a name that nobody searches for", fset.Position(name.Pos()), name.Name)
				}
			}
			return true
		})
	}
}

// rawLines returns the lines that are inside of a text of several lines: they are as long as the text wants.
func rawLines(fset *token.FileSet, tree *ast.File) map[int]bool {
	lines := map[int]bool{}
	ast.Inspect(tree, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			for l := fset.Position(lit.Pos()).Line; strings.Contains(lit.Value, "\n") &&
				l <= fset.Position(lit.End()).Line; l++ {
				lines[l] = true
			}
		}
		return true
	})
	return lines
}

// declared returns the names of functions, methods, types and fields that a node declares.
func declared(n ast.Node) []*ast.Ident {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return []*ast.Ident{n.Name}
	case *ast.TypeSpec:
		return []*ast.Ident{n.Name}
	case *ast.StructType:
		var names []*ast.Ident
		for _, f := range n.Fields.List {
			names = append(names, f.Names...)
		}
		return names
	}
	return nil
}

// goFiles lists the repository's Go files, those of its other modules included.
func goFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(name string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == filepath.Join("..", "test", "kube"): // hashed: a change of a byte makes minutes of building
			return filepath.SkipDir
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && name != ".." || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go"):
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
