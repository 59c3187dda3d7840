package directory_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/cells/directory"
)

// fill writes files into a folder, each with its name as content; a name that ends in a slash is an empty folder.
func fill(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(file, 0o755))
			continue
		}
		must(t, os.WriteFile(file, []byte(name), 0o644))
	}
}

// listFiles returns the content of all files below a folder, by name.
func listFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files[strings.TrimPrefix(file, dir+"/")] = readFile(t, file)
		}
		return err
	}))
	return files
}

// A folder in which others have files under the target's names is refused, and nothing in it changes.
func TestFolderOfOthersIsRefused(t *testing.T) {
	const id = "r1.0.0-0123456789abcdef"
	for name, files := range map[string][]string{
		"current is a folder":         {"current/database.sqlite"},
		"current is a file":           {"current"},
		"versions of a product":       {"versions/2019.1/app.jar", "versions/2020.2/license.key"},
		"a file among versions":       {"versions/" + id + "/manifests.yaml", "versions/README"},
		"a version that is a file":    {"versions/" + id},
		"versions is a file":          {"versions"},
		"a log of somebody's":         {"hook.log"},
		"a log of somebody's, beside": {"hook.log", "versions/"},
		"a log that is a folder":      {"hook.log/x", "versions/" + id + "/manifests.yaml"},
		"the target's own name":       {".sluice"},
		"glob characters":             {"versions/[a-z]*/x?", "versions/*"},
	} {
		dir := t.TempDir()
		fill(t, dir, files...)
		before := listFiles(t, dir)
		_, err := directory.New(dir, directory.Options{})
		var foreign *directory.ForeignError
		if !errors.As(err, &foreign) || !strings.Contains(err.Error(), "name an empty folder with --dir") {
			t.Errorf("%s: %v", name, err)
		}
		if after := listFiles(t, dir); !maps.Equal(before, after) {
			t.Errorf("%s: %v became %v", name, before, after)
		}
	}
	for _, to := range []string{"/srv/elsewhere", "versions/2019.1", "../x", "versions/" + id + "/../../x"} {
		dir := t.TempDir()
		must(t, os.Symlink(to, filepath.Join(dir, "current")))
		if _, err := directory.New(dir, directory.Options{}); err == nil {
			t.Errorf("a link to %s was taken", to)
		}
	}
}

// Beside the target's own names, files of others stay whatever happens: through releases, healing and pruning.
func TestFilesOfOthersStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with [a-z]*? in its name")
	others := []string{".staging-area/draft.txt", ".staging", "data/x", "README", ".hook-running", "current.bak"}
	fill(t, dir, others...)
	target := newTarget(t, dir, directory.Options{Hook: "true"})
	must(t, target.Apply(t.Context(), renderedWith("0")))
	late := []string{"versions/2019.1/app.jar", "versions/r1-notes.txt", "versions/*"}
	fill(t, dir, late...)
	for _, value := range []string{"1", "2", "3", "2"} {
		must(t, newTarget(t, dir, directory.Options{Hook: "true"}).Apply(t.Context(), renderedWith(value)))
		_, err := newTarget(t, dir, directory.Options{Hook: "true"}).Heal(t.Context(), renderedWith(value))
		must(t, err)
	}
	for _, name := range slices.Concat(others, late) {
		if got := readFile(t, filepath.Join(dir, name)); got != name {
			t.Errorf("%s is %q", name, got)
		}
	}
	if n, err := os.ReadDir(filepath.Join(dir, "versions")); err != nil || len(n) != 2+len(late) {
		t.Errorf("%v, %v", n, err)
	}
}

// What takes one of the target's names later is put aside, whole, and the owner is told.
func TestWhatTakesANameIsPutAside(t *testing.T) {
	for _, name := range []string{"current", "versions", ".sluice"} {
		for _, files := range [][]string{{name}, {name + "/precious"}} {
			if name != "current" && len(files[0]) > len(name) {
				continue // a folder of that name is the target's
			}
			dir := t.TempDir()
			var told error
			target := newTarget(t, dir, directory.Options{OnProblem: func(err error) { told = err }})
			must(t, target.Apply(t.Context(), renderedWith("1")))
			must(t, os.RemoveAll(filepath.Join(dir, name)))
			fill(t, dir, files...)
			_, err := target.Heal(t.Context(), renderedWith("1"))
			must(t, err)
			aside, err := filepath.Glob(filepath.Join(dir, name+".aside-*"))
			must(t, err)
			if len(aside) != 1 || told == nil || !strings.Contains(told.Error(), aside[0]) {
				t.Fatalf("%s: put aside %v, told %v", name, aside, told)
			}
			if got := readFile(t, aside[0]+strings.TrimPrefix(files[0], name)); got != files[0] {
				t.Errorf("%s: %q", files[0], got)
			}
			if got := readFile(t, filepath.Join(dir, "current", "manifests.yaml")); got == "" {
				t.Errorf("%s: nothing is in place", name)
			}
		}
	}
}

// A folder that an agent without a record made is taken over, with its versions; so is one whose record was damaged.
func TestFolderOfAnOlderAgentIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	o := directory.Options{Hook: "echo said"}
	for _, value := range []string{"1", "2"} {
		must(t, newTarget(t, dir, o).Apply(t.Context(), renderedWith(value)))
	}
	for i, damage := range []func() error{
		func() error { return os.RemoveAll(filepath.Join(dir, ".sluice")) },
		func() error { return os.WriteFile(filepath.Join(dir, ".sluice/target.json"), []byte("{"), 0o600) },
		func() error { return os.WriteFile(filepath.Join(dir, ".sluice/target.json"), nil, 0o600) },
	} {
		must(t, damage())
		var told []string
		o.OnProblem = func(err error) { told = append(told, err.Error()) }
		if _, err := os.Stat(filepath.Join(dir, ".sluice")); err == nil { // of a killed apply, and what was put aside
			fill(t, dir, "versions/.staging/x", "versions/r1.0.0-0123456789abcdef.aside-20261124T093000.000")
		}
		target := newTarget(t, dir, o)
		aside, err := filepath.Glob(filepath.Join(dir, ".sluice/target.json.aside-*"))
		must(t, err)
		if damaged := i > 0; damaged != (len(told) == 2) || len(aside) != i {
			t.Errorf("damage %d: put aside %v, told %q", i, aside, told)
		}
		if n, err := target.Heal(t.Context(), renderedWith("2")); n != 0 || err != nil {
			t.Errorf("mended %d, %v", n, err)
		}
		must(t, target.Apply(t.Context(), renderedWith("3")))
		must(t, target.Apply(t.Context(), renderedWith("2")))
		if left, err := os.ReadDir(filepath.Join(dir, "versions")); err != nil || len(left) != 2+min(i, 1) {
			t.Errorf("%v, %v", left, err)
		}
	}
}

// Of two agents with one folder, the second is told who the first is.
func TestOneAgentForAFolder(t *testing.T) {
	dir := t.TempDir()
	release, err := newTarget(t, dir, directory.Options{}).Lock("cell acme")
	must(t, err)
	_, err = newTarget(t, dir, directory.Options{}).Lock("cell initech")
	if err == nil || !strings.Contains(err.Error(), "cell acme") || !strings.Contains(err.Error(), "process ") {
		t.Errorf("got %v", err)
	}
	must(t, release())
	release, err = newTarget(t, dir, directory.Options{}).Lock("cell initech")
	must(t, err)
	must(t, release())
}

// A mask, or a mode, that would hide the files from the product's user is repaired or told at the start.
func TestProductReachesItsFiles(t *testing.T) {
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	group := os.Getgid()
	o := directory.Options{Mode: 0o640, Group: &group}
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "b", "product")
	must(t, newTarget(t, dir, o).Apply(t.Context(), renderedWith("1")))
	for _, made := range []string{dir, filepath.Dir(dir), filepath.Join(parent, "a")} {
		info, err := os.Stat(made)
		must(t, err)
		if info.Mode().Perm() != 0o750 {
			t.Errorf("%s has mode %v", made, info.Mode().Perm())
		}
	}
	closed := filepath.Join(parent, "closed")
	must(t, os.Mkdir(closed, 0o700))
	if _, err := directory.New(closed, o); err == nil || !strings.Contains(err.Error(), "chmod g+x") {
		t.Errorf("a folder that the product can't enter: %v", err)
	}
	if _, err := directory.New(closed, directory.Options{}); err != nil {
		t.Error(err)
	}
	must(t, os.Chmod(closed, 0o710)) //nolint:gosec // for the product
	if _, err := directory.New(closed, o); err != nil {
		t.Error(err)
	}
}
