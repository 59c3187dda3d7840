package jsondoc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parseCodes returns the constants of code.go, values by name.
func parseCodes(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[spec.Names[0].Name] = value
		}
		return true
	})
	return codes
}

// A constant is named after its value: UnknownField is unknown-field.
func TestCodesAreCalledAlike(t *testing.T) {
	capital := regexp.MustCompile(`\B[A-Z]`)
	for name, value := range parseCodes(t) {
		if want := strings.ToLower(capital.ReplaceAllString(name, "-$0")); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
}

// Package manifest has each of the constants too.
func TestManifestHasTheCodes(t *testing.T) {
	text, err := os.ReadFile("../manifest/manifest.go")
	if err != nil {
		t.Fatal(err)
	}
	for name := range parseCodes(t) {
		if !regexp.MustCompile(`(?m)^\t` + name + ` += jsondoc\.` + name + `$`).Match(text) {
			t.Errorf("manifest.%s is missing", name)
		}
	}
}

// docs/formats.md lists exactly the codes of code.go.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n# Faults\n")
	section, _, _ = strings.Cut(section, "\n# ")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(
		section, -1) {
		documented = append(documented, row[1])
	}
	slices.Sort(documented)
	if there := slices.Sorted(maps.Values(parseCodes(t))); !slices.Equal(documented, there) {
		t.Errorf("docs/formats.md has the codes %q; these are there: %q", documented, there)
	}
}
