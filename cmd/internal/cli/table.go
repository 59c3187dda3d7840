package cli

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
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

// PrintTable prints rows under a heading. Columns are as wide as their widest field; the last is unpadded. Where that
// is wider than the terminal, the last column is wrapped or, if there is little room beside the others, it goes below
// them; others that don't fit go below too, and are wrapped if they are wider than the terminal alone.
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
	starts := layOut(widths, p.columns-len(p.indent))
	for _, row := range all {
		p.printRow(row, starts, widths)
	}
}

// place is where a column begins: on which line of its row, and after how many columns of text.
type place struct{ line, start int }

// minLast is how narrow a last column may get beside the others.
const minLast = 20

// layOut returns a place for each column, within a width; width <= 0: no limit.
func layOut(widths []int, width int) []place {
	places := make([]place, len(widths))
	at := place{}
	for i, w := range widths {
		need := w
		if i == len(widths)-1 {
			need = min(w, minLast) // it can be wrapped
		}
		if width > 0 && i > 0 && at.start+need > width {
			at = place{at.line + 1, 2}
		}
		places[i] = at
		at.start += w + 2
	}
	return places
}

func (p Printer) printRow(row []Field, places []place, widths []int) {
	var b strings.Builder
	at := place{}
	goTo := func(to place) {
		for ; at.line < to.line; at.line++ {
			b.WriteString("\n" + p.indent)
			at.start = 0
		}
		b.WriteString(strings.Repeat(" ", max(0, to.start-at.start)))
		at.start = max(at.start, to.start)
	}
	b.WriteString(p.indent)
	wrapped := 0 // lines that wrapped fields added to the row
	for i, f := range row {
		if f.Text == "" {
			continue
		}
		lines := []string{f.Text}
		room := p.columns - len(p.indent) - places[i].start
		if p.columns > 0 && widths[i] > room {
			lines = wrap(f.Text, max(room, minLast))
		}
		for n, line := range lines {
			goTo(place{places[i].line + wrapped + n, places[i].start})
			b.WriteString(string(p.Paint(f.Colour, line)))
			at.start += utf8.RuneCountInString(line)
		}
		wrapped += len(lines) - 1 // the next column is below, for this one takes the whole width
	}
	fmt.Fprintln(p, b.String())
}

// wrap breaks text between words into lines of a width, and a longer word wherever a line ends.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		for rest := []rune(word); len(rest) > width; word = string(rest) {
			lines, rest = append(lines, string(rest[:width])), rest[width:]
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// FitScreen returns text cut to what a terminal shows at once, with a last line that says how many lines are not shown.
func (p Printer) FitScreen(text, more string) string {
	if p.rows < 4 || p.columns < 1 {
		return text
	}
	lines := strings.SplitAfter(text, "\n")
	shown := 0
	for i, line := range lines {
		length := utf8.RuneCountInString(ansiSequence().ReplaceAllString(strings.TrimSuffix(line, "\n"), ""))
		shown += 1 + max(0, length-1)/p.columns
		if shown >= p.rows-1 && i < len(lines)-2 {
			return strings.Join(lines[:i], "") + fmt.Sprintf("%d more lines: %s\n", len(lines)-1-i, more)
		}
	}
	return text
}

var ansiSequence = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\x1b\[[0-9;]*m`) })

// PrintSection prints a titled table, or that there is nothing.
func (a *App) PrintSection(title string, heading []string, rows [][]Field) {
	if len(rows) == 0 {
		a.Stdout.PrintLine("\n%s: nothing", a.Stdout.Paint(Bold, title))
		return
	}
	a.Stdout.PrintLine("\n%s:", a.Stdout.Paint(Bold, title))
	a.Stdout.PrintTable(heading, rows)
}
