package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// newTestCgroup makes a control group. Root mounts version 2 for that where the machine has only older ones.
func newTestCgroup(t *testing.T) *Cgroup {
	name := "sluice-test-" + filepath.Base(t.TempDir())
	if group := NewCgroup(name); group != nil {
		return group
	}
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "cgroup2", 0, ""); errors.Is(err, syscall.EPERM) {
		t.Skip("only root may make control groups here")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	group := NewCgroup(name)
	if group == nil {
		t.Fatal("root can't make a control group")
	}
	return group
}

// Where the machine lets this process make control groups, killing one ends all that a child left behind, whatever it
// did to hide, and a group with a service in it stays.
func TestCgroupEndsAll(t *testing.T) {
	group := newTestCgroup(t)
	defer group.Close()
	dir := t.TempDir()
	c := shellChild("(env -i setsid sh -c 'echo $$ >child; exec sleep 600' >/dev/null 2>&1 &); while ! test -s child; do sleep 0.01; done")
	c.Dir, c.Env, c.Cgroup = dir, []string{"PATH=/usr/bin:/bin"}, group
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(readFile(t, filepath.Join(dir, "child")))
	OpenCgroup(filepath.Base(group.path)).Close()
	if _, err := os.Stat(group.path); err != nil || !isAlive(pid) {
		t.Fatalf("the service is gone: %v", err)
	}
	OpenCgroup(filepath.Base(group.path)).Kill() // as the next agent does
	for isAlive(pid) {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A group that is still there when the next command of its name begins is no reason to run that one without: what was
// left is killed, and the next command has a group of its own. By their name, all of them are killed and removed.
func TestCgroupOfTheSameName(t *testing.T) {
	first := newTestCgroup(t)
	defer first.Close()
	dir := t.TempDir()
	c := shellChild("sleep 600 >/dev/null 2>&1 & echo $! >child; cat /proc/self/cgroup >group")
	group := first
	for range 3 {
		before, _ := os.ReadFile(filepath.Join(dir, "child"))
		for len(before) > 0 && isAlive(strings.TrimSpace(string(before))) {
			if err := t.Context().Err(); err != nil {
				t.Fatal(err)
			}
		}
		c.Dir, c.Env, c.Cgroup = dir, []string{"PATH=/usr/bin:/bin"}, group
		if err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, filepath.Join(dir, "group")); !strings.Contains(got, "/"+filepath.Base(group.path)+"\n") {
			t.Errorf("the command is in %s", got)
		}
		if group = NewCgroup(filepath.Base(first.path)); group == nil {
			t.Fatal("the next command has no control group")
		}
	}
	all := OpenCgroup(filepath.Base(first.path))
	all.Kill()
	for slices.ContainsFunc(all.paths(), isThere) { // a busy machine ends what was killed late
		all.Close()
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// Without a control group all methods do nothing.
func TestNoCgroup(t *testing.T) {
	var none *Cgroup
	none.Kill()
	none.Close()
	c := shellChild("exit 0")
	c.Cgroup = none
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := &Cgroup{path: filepath.Join(t.TempDir(), "gone")}
	gone.Kill()
	gone.Close()
}
