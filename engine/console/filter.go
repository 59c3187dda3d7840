package console

import (
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/engine/view"
)

// filter selects cells. It is text that people type: terms that must all hold, separated by spaces.
//
//	channel:dedicated   cell:acme*   release:2026.11.*   condition:failing   region:us*
//	failing             a condition, alone
//	acme                part of a cell's name
//	-healthy            not
//
// Any other key is a label's. A value in quotes may have spaces, and * stands for any text. Every text is a filter.
type filter []term

type term struct {
	not        bool
	key, value string
}

// quoted returns a value as a filter has it.
func quoted(value string) string {
	if strings.ContainsAny(value, " \t\"") {
		return `"` + strings.ReplaceAll(value, `"`, "*") + `"`
	}
	return value
}

func parseFilter(text string) (f filter) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		var word string
		word, text = cutWord(text)
		t := term{}
		word, t.not = strings.CutPrefix(word, "-")
		key, value, keyed := strings.Cut(word, ":")
		switch {
		case keyed && key != "":
			t.key, t.value = key, strings.Trim(value, `"`)
		case slices.Contains(conditions(), view.Condition(word)):
			t.key, t.value = "condition", word
		default:
			t.key, t.value = "cell", "*"+strings.Trim(word, `"`)+"*"
		}
		f = append(f, t)
	}
	return f
}

// cutWord cuts the first word off. Spaces between quotes do not end it.
func cutWord(text string) (word, rest string) {
	inside := false
	for i, r := range text {
		switch {
		case r == '"':
			inside = !inside
		case !inside && (r == ' ' || r == '\t'):
			return text[:i], text[i:]
		}
	}
	return text, ""
}

func (f filter) selects(c *view.CellStatus, labels map[string]string) bool {
	for _, t := range f {
		var value string
		switch t.key {
		case "cell":
			value = c.Name
		case "channel":
			value = c.Channel
		case "release":
			value = c.Release
		case "condition":
			value = string(c.Condition)
		case "state":
			value = string(c.State)
		default:
			value = labels[t.key]
		}
		if matches(t.value, value) == t.not {
			return false
		}
	}
	return true
}

// matches reports whether a text matches a pattern in which * stands for any text.
func matches(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	for ok {
		var part string
		if part, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(text, part)
		}
		_, text, ok = strings.Cut(text, part)
	}
	return false
}

// selectCells returns the cells that a filter selects, by name.
func (m *Model) selectCells(text string) []*view.CellStatus {
	f := parseFilter(text)
	all := m.status().Cells
	selected := make([]*view.CellStatus, 0, len(all))
	for i := range all {
		if f.selects(&all[i], m.view.Desired.Cells[all[i].Name].Labels) {
			selected = append(selected, &all[i])
		}
	}
	return selected
}
