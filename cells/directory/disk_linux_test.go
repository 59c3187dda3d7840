package directory_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/directory"
)

// smallDisk mounts a tmpfs of 1 MiB. root may do that, and CI runs as root in its container.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// R49: on a read-only disk the agent starts, and nothing else takes the folder; it heals once it can write.
func TestR49ReadOnlyDisk(t *testing.T) {
	mount := smallDisk(t)
	dir := filepath.Join(mount, "target")
	before := newTarget(t, dir, directory.Options{})
	release, err := before.Lock("cell acme")
	must(t, err)
	must(t, before.Apply(t.Context(), renderedWith("1")))
	must(t, release())
	must(t, os.Remove(filepath.Join(dir, "current", "manifests.yaml")))
	must(t, syscall.Mount("", mount, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	target := newTarget(t, dir, directory.Options{})
	release, err = target.Lock("cell acme")
	must(t, err)
	if _, err := newTarget(t, dir, directory.Options{}).Lock("cell initech"); err == nil ||
		!strings.Contains(err.Error(), "another agent uses") {
		t.Errorf("a second agent: %v", err)
	}
	must(t, target.Health(t.Context()))
	if _, err := target.Heal(t.Context(), renderedWith("1")); !errors.As(err, new(*cells.UnavailableError)) {
		t.Errorf("healed: %v", err)
	}
	must(t, syscall.Mount("", mount, "", syscall.MS_REMOUNT, "size=1m"))
	if n, err := target.Heal(t.Context(), renderedWith("1")); n != 1 || err != nil {
		t.Errorf("healed %d, %v", n, err)
	}
	must(t, release())
}

// R49: what could not be recorded on a full disk is recorded once there is room.
func TestR49RecordOnAFullDisk(t *testing.T) {
	dir := filepath.Join(smallDisk(t), "target")
	target := newTarget(t, dir, directory.Options{})
	must(t, target.Apply(t.Context(), renderedWith("1")))
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	next := release("1.1.0", cells.Object{APIVersion: "v1", Kind: "ConfigMap", Name: "only-here"})
	if err := target.Apply(t.Context(), next); !errors.As(err, new(*cells.UnavailableError)) {
		t.Fatalf("applied: %v", err)
	}
	must(t, os.Remove(filler))
	must(t, target.Apply(t.Context(), next))
	text := readFile(t, filepath.Join(dir, ".sluice", "target.json"))
	if !strings.Contains(text, "r1.1.0-") || !strings.Contains(text, "only-here") {
		t.Errorf("the record has %s", text)
	}
}

// An old version that can't be removed keeps no hook from running, and goes once it can be removed.
func TestOldVersionThatStays(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	var told []string
	target := newTarget(t, dir, directory.Options{Hook: "echo $SLUICE_RELEASE >>" + log,
		OnProblem: func(err error) { told = append(told, err.Error()) }})
	must(t, target.Apply(t.Context(), release("1.0.0")))
	old, err := filepath.EvalSymlinks(filepath.Join(dir, "current"))
	must(t, err)
	must(t, os.Mkdir(filepath.Join(old, "mount"), 0o700))
	must(t, syscall.Mount("tmpfs", filepath.Join(old, "mount"), "tmpfs", 0, "size=64k"))
	unmount := func() error { return syscall.Unmount(filepath.Join(old, "mount"), syscall.MNT_DETACH) }
	t.Cleanup(func() { _ = unmount() }) // it may be done already
	must(t, target.Apply(t.Context(), release("1.1.0")))
	must(t, target.Apply(t.Context(), release("1.2.0")))
	if got := readFile(t, log); got != "1.0.0\n1.1.0\n1.2.0\n" ||
		!strings.Contains(strings.Join(told, ""), "can't be removed yet") {
		t.Errorf("hooks ran for %q, told %q", got, told)
	}
	must(t, unmount())
	must(t, newTarget(t, dir, directory.Options{}).Apply(t.Context(), release("1.3.0")))
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old version: %v", err)
	}
}
