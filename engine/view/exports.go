package view

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// AddExports adds where the exports of cells stand, by name.
func (s *Status) AddExports(found map[string]*cells.ExportStanding) {
	for i := range s.Cells {
		s.Cells[i].Exports = found[s.Cells[i].Name]
	}
}

// AddExports adds where the exports of the explained cell stand; nil: it never exported anything.
func (e *Explanation) AddExports(s *cells.ExportStanding) {
	e.Lines = append(e.Lines, exportLines(s)...)
}

func exportLines(s *cells.ExportStanding) (lines []string) {
	if s == nil {
		return nil
	}
	held := time.Duration(s.HeldSeconds * float64(time.Second)).Round(time.Minute)
	line := fmt.Sprintf("exports since %s, the last at %s", words.FormatTime(s.Since), words.FormatTime(s.Received))
	switch {
	case s.State == cells.ExportsQuiet:
		line = fmt.Sprintf("exported nothing since %s: its owner turned exports off, its programs measure nothing, or it "+
			"can't be reached", words.FormatTime(s.Received))
	case held > 0:
		line += fmt.Sprintf(", held in the cell for %s", words.ExactDuration(held))
	}
	lines = append(lines, line)
	if g := s.Gap; g != nil {
		lines = append(lines, fmt.Sprintf("its exports lack what was from %s to %s: %s", words.FormatTime(g.From),
			words.FormatTime(g.To), words.OneLine(g.Why)))
	}
	return lines
}
