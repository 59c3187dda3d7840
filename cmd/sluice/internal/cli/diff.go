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
	names := maps.Clone(before)
	maps.Copy(names, after)
	var out []FileDiff
	for _, name := range SortedKeys(names) {
		old, was := before[name]
		now, is := after[name]
		c := FileDiff{File: name, Kind: "changed"}
		switch {
		case was && is && bytes.Equal(old, now):
			continue
		case !was:
			c.Kind = "added"
		case !is:
			c.Kind = "removed"
		}
		if isText(old) && isText(now) {
			c.Diff = string(diff.Diff("a/"+name, old, "b/"+name, now))
		}
		out = append(out, c)
	}
	return out
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
