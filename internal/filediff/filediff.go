// Package filediff compares sets of files, and says how they differ as git's unified diffs. It is pure.
package filediff

import (
	"bytes"
	"maps"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
)

const (
	maxShownBytes = 512 << 10 // of the differences that are shown together
	maxFileBytes  = 1 << 20   // of a file whose differences are shown
)

// File is a file that differs.
type File struct {
	File string `json:"file"`
	Kind string `json:"kind"` // added, removed, changed
	Diff string `json:"diff,omitempty"`
}

// Compare returns the files that differ, by name.
func Compare(before, after map[string][]byte) []File {
	names := map[string][]byte{}
	maps.Copy(names, before)
	maps.Copy(names, after)
	var out []File
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, was := before[name]
		now, is := after[name]
		if was && is && bytes.Equal(old, now) {
			continue
		}
		c := One(name, old, now)
		switch {
		case !was:
			c.Kind = "added"
		case !is:
			c.Kind = "removed"
		}
		out = append(out, c)
	}
	return out
}

// One returns how one file differs from what it was.
func One(name string, before, after []byte) File {
	c := File{File: name, Kind: "changed"}
	if isText(before) && isText(after) {
		c.Diff = string(diff.Diff("a/"+name, before, "b/"+name, after))
	}
	return c
}

// Bound leaves the differences out of all files beyond what is shown together: these are only named.
func Bound(files []File) {
	total := 0
	for i := range files {
		if total += len(files[i].Diff); total > maxShownBytes {
			files[i].Diff = ""
		}
	}
}

func isText(data []byte) bool { return len(data) <= maxFileBytes && !bytes.ContainsRune(data, 0) }
