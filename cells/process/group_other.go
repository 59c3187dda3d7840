//go:build !linux

package process

import (
	"errors"
	"syscall"
	"time"
)

// newProcessGroup puts a child into a process group of its own. Only Linux can end the child when its parent dies.
func newProcessGroup(bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// CanSupervise reports whether Supervise works here.
func CanSupervise() bool { return false }

// Supervise is for Linux only.
func Supervise(time.Duration, []string) (int, error) {
	return 0, errors.New("supervise a command: only Linux returns orphans to a supervisor")
}

// Command returns no command: see RunEnclosed.
func (Enclosure) Command(...string) ([]string, error) {
	return nil, errors.New("enclose a command: only Linux returns orphans to a supervisor")
}

// RunEnclosed is for Linux only.
func RunEnclosed(string, []string) (int, error) {
	return 0, errors.New("enclose a command: only Linux returns orphans to a supervisor")
}

// Cgroup is for Linux only.
type Cgroup struct{}

// NewCgroup returns nil: there are no control groups.
func NewCgroup(string) *Cgroup { return nil }

// OpenCgroup returns nil: there are no control groups.
func OpenCgroup(string) *Cgroup { return nil }

// Kill does nothing.
func (*Cgroup) Kill() {}

// Close does nothing.
func (*Cgroup) Close() {}

func (*Cgroup) assign(*syscall.SysProcAttr) {}

// WithEnvironment returns nothing: only Linux shows the environment of processes.
func WithEnvironment(string) []int { return nil }
