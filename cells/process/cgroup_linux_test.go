package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where the machine lets this process make control groups, killing one ends all that a child left behind, whatever it
// did to hide, and a group with a service in it stays.
func TestCgroupEndsAll(t *testing.T) {
	group := NewCgroup("sluice-test-" + filepath.Base(t.TempDir()))
	if group == nil {
		t.Skip("this process may not make control groups of version 2")
	}
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
