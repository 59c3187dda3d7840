package process

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listProcesses returns the ids of all processes that can be seen.
func listProcesses() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// otherThreads returns the threads of a process but the first, which a program may end while others work.
func otherThreads(pid int) (ids []string) {
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Name() != strconv.Itoa(pid) {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

// tree has the children of each process that has not ended.
type tree map[int][]int

func readTree() tree {
	children := tree{}
	for _, pid := range listProcesses() {
		if parent, ok := parentOf(pid); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	return children
}

// below returns the processes below a process.
func (t tree) below(of int) (below []int) {
	for next := t[of]; len(next) > 0; {
		pid := next[0]
		next = append(next[1:len(next):len(next)], t[pid]...)
		below = append(below, pid)
	}
	return below
}

// descendants returns the processes below a process that have not ended.
func descendants(of int) []int { return readTree().below(of) }

// parentOf returns the parent of a process; ok is false for one that has ended.
func parentOf(pid int) (parent int, ok bool) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, false
	}
	_, rest, found := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest) // state and parent follow the name, which may contain anything
	if !found || len(fields) < 2 || (fields[0] == "Z" || fields[0] == "X") && len(otherThreads(pid)) == 0 {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil
}

// WithEnvironment returns the processes, other than this one, that have the entry (NAME=VALUE) in their environment,
// and all that is below them.
func WithEnvironment(entry string) (pids []int) {
	found := map[int]bool{}
	add := func(pid int) {
		if !found[pid] && pid != os.Getpid() {
			found[pid] = true
			pids = append(pids, pid)
		}
	}
	processes := readTree()
	for _, children := range processes {
		for _, pid := range children {
			if !hasVariable(readEnvironment(pid), entry) {
				continue
			}
			add(pid)
			for _, below := range processes.below(pid) {
				add(below)
			}
		}
	}
	return pids
}

// readEnvironment returns the environment of a process, which one whose first thread has ended shows by another. It is
// empty if the process is gone, or is another user's.
func readEnvironment(pid int) []byte {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	environment, err := os.ReadFile(filepath.Join(dir, "environ"))
	if len(environment) > 0 || errors.Is(err, fs.ErrPermission) {
		return environment
	}
	for _, thread := range otherThreads(pid) {
		environment, err = os.ReadFile(filepath.Join(dir, "task", thread, "environ"))
		if err == nil && len(environment) > 0 {
			return environment
		}
	}
	return nil
}

func hasVariable(environment []byte, entry string) bool {
	for variable := range bytes.SplitSeq(environment, []byte{0}) {
		if string(variable) == entry {
			return true
		}
	}
	return false
}
