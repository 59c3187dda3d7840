package process

import (
	"bytes"
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
	if !found || len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
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
			environment, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
			if err != nil || !hasVariable(environment, entry) { // gone, another user's, or no concern of ours
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

func hasVariable(environment []byte, entry string) bool {
	for variable := range bytes.SplitSeq(environment, []byte{0}) {
		if string(variable) == entry {
			return true
		}
	}
	return false
}
