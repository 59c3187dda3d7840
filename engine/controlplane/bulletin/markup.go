package bulletin

import (
	"html"
	"strings"
)

// markup is HTML that is safe to show: only these functions, and the printer of notes, make it of other text. It is written
// by hand because templates keep every method of the whole program alive, agents' too: 7 MB each.
type markup string

// attributes are names and values, in turn.
type attributes []string

func escapeText(s string) markup { return markup(html.EscapeString(s)) }

func anchor(to, name string) markup { return element("a", attributes{"href", to}, escapeText(name)) }

// element is a tag with what is inside. Its name and its attributes' names are ours.
func element(tag string, with attributes, inside ...markup) markup {
	var b strings.Builder
	b.WriteString(string(voidElement(tag, with...)))
	for _, m := range inside {
		b.WriteString(string(m))
	}
	b.WriteString("</" + tag + ">")
	if isBlock(tag) {
		b.WriteByte('\n')
	}
	return markup(b.String())
}

// voidElement is a tag that nothing is inside of.
func voidElement(tag string, with ...string) markup {
	var b strings.Builder
	b.WriteString("<" + tag)
	for i := 0; i+1 < len(with); i += 2 {
		b.WriteString(" " + with[i] + `="` + html.EscapeString(with[i+1]) + `"`)
	}
	b.WriteByte('>')
	return markup(b.String())
}

// isBlock tells whether a line may end behind a tag.
func isBlock(tag string) bool { return tag != "a" && tag != "span" && tag != "time" }
