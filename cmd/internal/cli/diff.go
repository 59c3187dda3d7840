package cli

import (
	"strings"

	"github.com/sluice-cd/sluice/internal/filediff"
)

// PrintDiffs prints how files differ; those without a difference to show are named.
func (p Printer) PrintDiffs(files []filediff.File) {
	for _, f := range files {
		if f.Diff == "" {
			p.PrintLine("%-8s %s", f.Kind, f.File)
		}
		p.PrintDiff(f)
	}
}

// PrintDiff prints how a file differs.
func (p Printer) PrintDiff(f filediff.File) {
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
