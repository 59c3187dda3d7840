package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/internal/cleantext"
)

// Field is one field of a table.
type Field struct {
	Text   string
	Colour Colour
}

// Text returns a field without a colour.
func Text(s string) Field { return Field{Text: s} }

// Coloured returns a field in a colour.
func Coloured(s string, c Colour) Field { return Field{s, c} }

// PrintTable prints rows under a heading. Columns are as wide as their widest field; the last is unpadded.
func (p Printer) PrintTable(heading []string, rows [][]Field) {
	all := make([][]Field, 0, len(rows)+1)
	top := make([]Field, len(heading))
	for i, h := range heading {
		top[i] = Field{h, Faint}
	}
	all = append(all, top)
	for _, row := range rows {
		one := make([]Field, len(row))
		for i, f := range row {
			one[i] = Field{cleantext.Line(strings.Join(strings.Fields(f.Text), " ")), f.Colour} // a row is one line
		}
		all = append(all, one)
	}
	widths := make([]int, len(heading))
	for _, row := range all {
		for i, f := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(f.Text))
		}
	}
	for _, row := range all {
		var b strings.Builder
		b.WriteString(p.indent)
		pad := 0
		for i, f := range row {
			if f.Text != "" {
				b.WriteString(strings.Repeat(" ", pad))
				b.WriteString(string(p.Paint(f.Colour, f.Text)))
				pad = 0
			}
			pad += widths[i] - utf8.RuneCountInString(f.Text) + 2
		}
		fmt.Fprintln(p, b.String())
	}
}

// PrintSection prints a titled table, or that there is nothing.
func (a *App) PrintSection(title string, heading []string, rows [][]Field) {
	if len(rows) == 0 {
		a.Stdout.PrintLine("\n%s: nothing", a.Stdout.Paint(Bold, title))
		return
	}
	a.Stdout.PrintLine("\n%s:", a.Stdout.Paint(Bold, title))
	a.Stdout.PrintTable(heading, rows)
}
