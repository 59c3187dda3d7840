package cli

import (
	"bytes"
	"maps"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// FileDiff is a file that differs.
type FileDiff struct {
	File string `json:"file"`
	Kind string `json:"kind"` // added, removed, changed
	Diff string `json:"diff,omitempty"`
}

// DiffFiles returns the files that differ, by name.
func DiffFiles(before, after map[string][]byte) []FileDiff {
	names := map[string][]byte{}
	maps.Copy(names, before)
	maps.Copy(names, after)
	var out []FileDiff
	for _, name := range SortedKeys(names) {
		old, was := before[name]
		now, is := after[name]
		if was && is && bytes.Equal(old, now) {
			continue
		}
		c := DiffOne(name, old, now)
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

// DiffOne returns how one file differs from what it was.
func DiffOne(name string, before, after []byte) FileDiff {
	c := FileDiff{File: name, Kind: "changed"}
	if isText(before) && isText(after) {
		c.Diff = string(diff.Diff("a/"+name, before, "b/"+name, after))
	}
	return c
}

// maxShownBytes bounds the differences that are printed together: beyond it, files are only named.
const maxShownBytes = 512 << 10

// BoundDiffs leaves the differences out of all files beyond maxShownBytes.
func BoundDiffs(files []FileDiff) {
	total := 0
	for i := range files {
		if total += len(files[i].Diff); total > maxShownBytes {
			files[i].Diff = ""
		}
	}
}

// PrintDiffs prints how files differ; those without a difference to show are named.
func (p Printer) PrintDiffs(files []FileDiff) {
	for _, f := range files {
		if f.Diff == "" {
			p.PrintLine("%-8s %s", f.Kind, f.File)
		}
		p.PrintDiff(f)
	}
}

// maxDiffBytes is the largest file whose differences are printed.
const maxDiffBytes = 1 << 20

func isText(data []byte) bool { return len(data) <= maxDiffBytes && !bytes.ContainsRune(data, 0) }

// PrintDiff prints how a file differs.
func (p Printer) PrintDiff(f FileDiff) {
	for line := range strings.Lines(f.Diff) {
		line, colour := strings.TrimSuffix(line, "\n"), Plain
		switch {
		case strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
			colour = Bold
		case strings.HasPrefix(line, "+"):
			colour = Green
		case strings.HasPrefix(line, "-"):
			colour = Red
		case strings.HasPrefix(line, "@@"):
			colour = Faint
		}
		p.PrintLine("%s", p.Paint(colour, line))
	}
}
