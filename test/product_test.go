package test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func runInTree(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = filepath.Join("..", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// linkedPackages returns the packages that a package links, without the standard library's: ours, without the module's
// path, and others.
func linkedPackages(t *testing.T, dir, pkg string) (ours, theirs []string) {
	t.Helper()
	for _, path := range strings.Fields(runInTree(t, dir, "go", "list", "-deps", "-f",
		"{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)) {
		if name, ok := strings.CutPrefix(path, module+"/"); ok {
			ours = append(ours, name)
		} else {
			theirs = append(theirs, path)
		}
	}
	slices.Sort(ours)
	return ours, theirs
}

// TestWhatAProductTakesOn checks the dependencies that the provider brings: of ours only the evaluation, without the
// YAML parser and the linter of flags repositories; of others OpenFeature's SDK; and of our requirements only those of
// these packages and their tests.
func TestWhatAProductTakesOn(t *testing.T) {
	t.Parallel()
	const product = "test/product" // a module of its own, kept by "go mod tidy"
	runInTree(t, product, "go", "build", "-o", filepath.Join(t.TempDir(), "product"), ".")
	runInTree(t, product, "go", "mod", "tidy", "-diff") // fails if go.mod or go.sum is not tidy
	ours, theirs := linkedPackages(t, product, ".")
	if want := []string{"flags", "flags/jsonlogic", "flags/provider", "internal/jsondoc",
		"test/product"}; !slices.Equal(ours, want) {
		t.Errorf("of ours it links %s, want %s", ours, want)
	}
	for _, path := range theirs {
		if !hasPrefix(path, "github.com/open-feature/go-sdk") {
			t.Errorf("it links %s", path)
		}
	}

	sums, err := os.ReadFile(filepath.Join("..", product, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]bool{}
	for line := range strings.Lines(string(sums)) {
		modules[strings.Fields(line)[0]] = true
	}
	allowed := []string{
		"github.com/open-feature/go-sdk", "go.uber.org/mock", // linked, and required by linked modules
		// tests of those
		"github.com/google/go-cmp", "github.com/stretchr/testify", "go.uber.org/goleak", "go.yaml.in/yaml/v3",
		"golang.org/x/text",
		// tests of ours
		"pgregory.net/rapid", "github.com/rs/zerolog", "github.com/mattn/go-colorable", "github.com/mattn/go-isatty",
		"golang.org/x/sys",
	}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		if !slices.Contains(allowed, path) {
			t.Errorf("its go.sum has %s", path)
		}
	}
}

// TestInstallsByVersion checks go.mod: "go install …/cmd/sluice@VERSION" refuses a module that replaces or excludes
// another.
func TestInstallsByVersion(t *testing.T) {
	t.Parallel()
	out := runInTree(t, ".", "go", "mod", "edit", "-json")
	for _, directive := range []string{"Replace", "Exclude"} {
		if !strings.Contains(out, `"`+directive+`": null`) {
			t.Errorf("go.mod has %s:\n%s", strings.ToLower(directive), out)
		}
	}
}
