package ui

import (
	"strings"

	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/markup"
)

// Alert says something that matters, and what to do next; without next, nothing.
func Alert(shape, title, text, next string) markup.HTML {
	inside := []markup.HTML{Element("p", "alert-title", Mark(shape, ""), markup.Text(title)),
		Paragraph("", markup.Text(text))}
	if next != "" {
		inside = append(inside, Paragraph("soft", markup.Text(next)))
	}
	return markup.Element("div", markup.Attributes{"class", "alert " + shape, "role", "alert"}, inside...)
}

// Diffs shows how files differ.
func Diffs(files []filediff.File) markup.HTML {
	var parts []markup.HTML
	for _, f := range files {
		title := markup.Element("p", markup.Attributes{"class", "diff-title"}, State(diffShape(f.Kind), f.Kind), " ",
			Code(f.File))
		body := markup.HTML("")
		if f.Diff != "" {
			body = markup.Element("pre", markup.Attributes{"class", "diff", "tabindex", "0", "aria-label",
				"Changes of " + f.File}, diffLines(f.Diff)...)
		}
		parts = append(parts, title, body)
	}
	return markup.Join(parts...)
}

func diffShape(kind string) string {
	switch kind {
	case "added":
		return "new"
	case "removed":
		return "shut-out"
	case "refused":
		return "failing"
	case "kept", "unknown":
		return "held"
	}
	return "updating"
}

// diffLines marks lines by their first character, which stays: a state is never a colour alone.
func diffLines(text string) (lines []markup.HTML) {
	for line := range strings.Lines(text) {
		class := ""
		switch {
		case strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
			continue // the title says it
		case strings.HasPrefix(line, "+"):
			class = "added"
		case strings.HasPrefix(line, "-"):
			class = "removed"
		case strings.HasPrefix(line, "@@"):
			class = "at"
		}
		lines = append(lines, Element("span", class, markup.Text(line)))
	}
	return lines
}
