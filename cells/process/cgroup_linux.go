package process

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Cgroup is a control group (version 2) below the caller's own. Killing it ends all of its processes, those of other
// users too. A nil Cgroup does nothing.
type Cgroup struct {
	path   string
	folder *os.File // nil: the group was made by another process
	killed atomic.Bool
}

// NewCgroup makes a control group below this process's own; nil: the machine has none of version 2, or this process may
// not make any. A service manager allows it to a service that has Delegate=yes. What an earlier group of the name still
// has is killed.
func NewCgroup(name string) *Cgroup {
	all := OpenCgroup(name)
	if all == nil {
		return nil
	}
	for _, path := range all.paths() {
		err := os.Mkdir(path, 0o755) //nolint:gosec // as others there
		if errors.Is(err, fs.ErrExist) {
			killGroup(path) // and no more: Linux 6.18 kills what is started in a group that was ever killed
			continue
		}
		if err != nil {
			return nil
		}
		folder, err := os.Open(path) //nolint:gosec // made just now
		if err != nil {
			_ = os.Remove(path)
			return nil
		}
		return &Cgroup{path: path, folder: folder}
	}
	return nil
}

// OpenCgroup returns the control groups of a name that NewCgroup made, perhaps in an earlier process; nil: there are
// none.
func OpenCgroup(name string) *Cgroup {
	parent := ownCgroup()
	if parent == "" {
		return nil
	}
	return &Cgroup{path: filepath.Join(parent, name)}
}

// maxNamesakes is how many groups of one name there may be: one that was killed stays until its processes have ended.
const maxNamesakes = 10

// paths returns the folder of the group; of one that was opened by its name, those that there may be.
func (c *Cgroup) paths() []string {
	all := []string{c.path}
	for n := 2; n <= maxNamesakes && c.folder == nil; n++ {
		all = append(all, c.path+"."+strconv.Itoa(n))
	}
	return all
}

// Kill kills all processes of the group.
func (c *Cgroup) Kill() {
	if c == nil {
		return
	}
	c.killed.Store(true)
	for _, path := range c.paths() {
		killGroup(path)
	}
}

func killGroup(path string) {
	_ = os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0) // it may be gone
}

// closeTime is how long Close waits for processes that were killed to end, and closePause is between two looks.
const (
	closeTime  = 200 * time.Millisecond
	closePause = 5 * time.Millisecond
)

// Close removes the group, unless services were left in it.
func (c *Cgroup) Close() {
	if c == nil {
		return
	}
	if c.folder != nil {
		_ = c.folder.Close()
	}
	end := time.Now().Add(closeTime)
	for _, path := range c.paths() {
		for { // fails while it has processes
			err := os.Remove(path)
			if !errors.Is(err, syscall.EBUSY) || !c.killed.Load() || time.Now().After(end) {
				break
			}
			time.Sleep(closePause)
		}
	}
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
