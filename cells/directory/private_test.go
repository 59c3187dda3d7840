package directory_test

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/cells/directory"
)

// checkModes fails for what is below a folder and has another mode than the product's files and folders should have.
func checkModes(t *testing.T, dir string, file, folder fs.FileMode) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		want := file
		switch {
		case entry.Type() == fs.ModeSymlink:
			return err
		case entry.IsDir():
			want = folder
		case entry.Name() == "hook.log":
			want = 0o600
		}
		if strings.Contains(name, ".sluice") {
			want = map[bool]fs.FileMode{false: 0o600, true: 0o700}[entry.IsDir()]
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
		return err
	}))
}

// Manifests may hold secrets: nobody else reads them, whatever the umask was and whatever an earlier version left.
func TestManifestsArePrivate(t *testing.T) {
	r := renderedWith("1")
	r.Files["deep/er/file"] = []byte("x")
	for _, mask := range []int{0, 0o022, 0o077} {
		dir := filepath.Join(t.TempDir(), "target")
		before := syscall.Umask(mask)
		err := newTarget(t, dir, directory.Options{Hook: "echo said"}).Apply(t.Context(), r)
		syscall.Umask(before)
		must(t, err)
		checkModes(t, dir, 0o600, 0o700)
	}
	dir := filepath.Join(t.TempDir(), "target")
	group := os.Getgid()
	must(t, newTarget(t, dir, directory.Options{Mode: 0o640, Group: &group}).Apply(t.Context(), r))
	checkModes(t, dir, 0o640, 0o750)
	// The same version, as an agent leaves it that knew no modes.
	must(t, os.Chmod(filepath.Join(dir, "current", "manifests.yaml"), 0o644))
	must(t, os.Chmod(filepath.Join(dir, "versions"), 0o755))
	mended, err := newTarget(t, dir, directory.Options{}).Heal(t.Context(), r)
	if err != nil || mended == 0 {
		t.Errorf("mended %d, %v", mended, err)
	}
	checkModes(t, filepath.Join(dir, "versions"), 0o600, 0o700)
}

// Whoever may write to the folder, such as the product's user, makes the agent overwrite nothing elsewhere.
func TestR54NoLinkIsFollowed(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	r := renderedWith("1")
	for _, name := range []string{".sluice", ".sluice/log", ".sluice/link", ".sluice/new", ".sluice/hook-running",
		".sluice/target.json", ".sluice/gone.yaml", ".sluice/lock", "versions/.staging", "hook.log", "current",
		"versions"} {
		for _, to := range []string{victim, outside, "../" + filepath.Base(outside), "/dev/zero", "nowhere", "."} {
			must(t, os.WriteFile(victim, []byte("precious"), 0o600))
			dir := filepath.Join(t.TempDir(), "target")
			// The link is there before a call, and the hook puts it there once more while it runs.
			hook := "echo overwritten"
			if link := filepath.Join(dir, name); path.Dir(name) == ".sluice" || name == "hook.log" {
				hook = "rm -rf " + link + "; ln -s " + to + " " + link + "; " + hook
			}
			target := newTarget(t, dir, directory.Options{Hook: hook})
			must(t, target.Apply(t.Context(), r))
			must(t, errors.Join(os.RemoveAll(filepath.Join(dir, name)), os.Symlink(to, filepath.Join(dir, name))))
			_, err := target.Heal(t.Context(), r)
			must(t, err)
			must(t, target.Apply(t.Context(), renderedWith("2")))
			if got := readFile(t, victim); got != "precious" {
				t.Errorf("through %s -> %s: %q", name, to, got)
			}
			entries, err := os.ReadDir(outside)
			must(t, err)
			if len(entries) != 1 {
				t.Errorf("through %s -> %s: %v", name, to, entries)
			}
			if got := readFile(t, filepath.Join(dir, "hook.log")); got != "overwritten\n" {
				t.Errorf("with %s -> %s, the log is %q", name, to, got)
			}
		}
	}
}
