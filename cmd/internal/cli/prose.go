package cli

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// widestProse is how wide paragraphs get at most: longer lines are hard to read.
const widestProse = 100

// visibleLength returns how many columns a text takes, without its colours.
func visibleLength(s string) int {
	return utf8.RuneCountInString(ansiSequence().ReplaceAllString(s, ""))
}

// foldLine breaks a line between words into lines of a width, each after the first with an indent. A word stays whole,
// however long it is: it may be an address, to be copied.
func foldLine(line string, width int, indent string) string {
	if width <= 0 || visibleLength(line) <= width {
		return line
	}
	text := strings.TrimLeft(line, " ")
	var b strings.Builder
	b.WriteString(line[:len(line)-len(text)])
	at, begun := len(line)-len(text), false
	for _, word := range strings.Split(text, " ") {
		n := visibleLength(word)
		switch {
		case begun && at+1+n > width && n > 0:
			b.WriteString("\n" + indent)
			at = len(indent)
		case begun:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at, begun = at+n, true
	}
	return b.String()
}

// fold breaks the lines of a sentence between words where they are longer than p is wide. What follows is indented, so
// that no text from outside begins a line. Lines that are indented already, and next steps, stay whole: people copy
// commands from them.
func (p Printer) fold(text string) string {
	if p.columns <= 0 || visibleLength(text) <= p.columns {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, nextPrefix) {
			lines[i] = foldLine(line, p.columns, "  ")
		}
	}
	return strings.Join(lines, "\n")
}

// nextPrefix begins the line with the next step after an error.
const nextPrefix = "next: "

// listed matches what stands before the explanation in a list of commands.
var listed = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^ +\S+ {2,}`) })

// FitHelp breaks the lines of a command's help for a width: paragraphs are filled, and an explanation in a list goes on
// below itself. Examples stay as they are, to be copied.
func FitHelp(help string, width int) string {
	if width <= 0 {
		return help
	}
	const begin = "\n\nUsage:\n"
	prose, usage, found := strings.Cut(help, begin)
	if !found {
		return help
	}
	blocks := strings.Split(prose, "\n\n")
	for i, block := range blocks {
		if lines := strings.Split(block, "\n"); !slices.ContainsFunc(lines, isIndented) {
			blocks[i] = foldLine(strings.Join(lines, " "), min(width, widestProse), "")
		} else {
			blocks[i] = foldLines(lines, min(width, widestProse))
		}
	}
	sections := strings.Split(usage, "\n\n")
	for i, section := range sections {
		if !strings.HasPrefix(section, "Examples:\n") {
			sections[i] = foldLines(strings.Split(section, "\n"), width)
		}
	}
	return strings.Join(blocks, "\n\n") + begin + strings.Join(sections, "\n\n")
}

func isIndented(line string) bool { return strings.HasPrefix(line, " ") }

func foldLines(lines []string, width int) string {
	folded := make([]string, len(lines))
	for i, line := range lines {
		indent := max(len(listed().FindString(line)), len(line)-len(strings.TrimLeft(line, " ")))
		if indent > width/2 {
			indent = 4
		}
		folded[i] = foldLine(line, width, strings.Repeat(" ", indent))
	}
	return strings.Join(folded, "\n")
}
