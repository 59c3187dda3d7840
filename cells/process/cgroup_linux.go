package process

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Cgroup is a control group (version 2) below the caller's own. Killing it ends all of its processes, those of other
// users too. A nil Cgroup does nothing.
type Cgroup struct {
	path   string
	folder *os.File // nil: the group was made by another process
}

// NewCgroup makes a control group below this process's own; nil: the machine has none of version 2, or this process may
// not make any. A service manager allows it to a service that has Delegate=yes.
func NewCgroup(name string) *Cgroup {
	parent := ownCgroup()
	if parent == "" || os.Mkdir(filepath.Join(parent, name), 0o755) != nil { //nolint:gosec // as others there
		return nil
	}
	c := OpenCgroup(name)
	folder, err := os.Open(c.path)
	if err != nil {
		c.Close()
		return nil
	}
	c.folder = folder
	return c
}

// OpenCgroup returns a control group that NewCgroup made, perhaps in an earlier process; nil: there are none.
func OpenCgroup(name string) *Cgroup {
	parent := ownCgroup()
	if parent == "" {
		return nil
	}
	return &Cgroup{path: filepath.Join(parent, name)}
}

// Kill kills all processes of the group.
func (c *Cgroup) Kill() {
	if c != nil {
		_ = os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0) // it may be gone
	}
}

// Close removes the group, unless services were left in it.
func (c *Cgroup) Close() {
	if c == nil {
		return
	}
	if c.folder != nil {
		_ = c.folder.Close()
	}
	_ = os.Remove(c.path) // fails while it has processes
}

func (c *Cgroup) assign(a *syscall.SysProcAttr) {
	if c != nil && c.folder != nil {
		a.UseCgroupFD, a.CgroupFD = true, int(c.folder.Fd())
	}
}

// ownCgroup returns the folder of this process's control group of version 2; empty: there is none.
func ownCgroup() string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	own := ""
	for line := range strings.Lines(string(groups)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = path
		}
	}
	if own == "" || strings.Contains(own, "..") { // the latter: outside of what the mount shows
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(mounts)); lines.Scan(); {
		// id parent device root mount-point options … - type source options, as in proc_pid_mountinfo(5)
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") || strings.Contains(fields[4], "\\") {
			continue
		}
		if below, ok := strings.CutPrefix(own, strings.TrimSuffix(fields[3], "/")); ok {
			return filepath.Join(fields[4], below)
		}
	}
	return ""
}
