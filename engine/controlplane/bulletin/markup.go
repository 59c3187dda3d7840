package bulletin

import (
	"html"
	"strings"
)

// markup is safe HTML, made only by these functions and by notesRenderer. It avoids html/template, with which the
// linker keeps every method of a program: 7 MB for each binary.
type markup string

// attributes holds names and values in turn.
type attributes []string

func escapeText(s string) markup { return markup(html.EscapeString(s)) }

func anchor(to, name string) markup { return element("a", attributes{"href", to}, escapeText(name)) }

// element returns a tag with its content. The names of tag and attributes are constants of this package.
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

// voidElement returns a tag without content.
func voidElement(tag string, with ...string) markup {
	var b strings.Builder
	b.WriteString("<" + tag)
	for i := 0; i+1 < len(with); i += 2 {
		b.WriteString(" " + with[i] + `="` + html.EscapeString(with[i+1]) + `"`)
	}
	b.WriteByte('>')
	return markup(b.String())
}

// isBlock reports whether a line may end after a tag.
func isBlock(tag string) bool { return tag != "a" && tag != "span" && tag != "time" }
