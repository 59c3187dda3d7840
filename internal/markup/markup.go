// Package markup writes HTML and SVG that is safe by construction: every text and every attribute's value is cleaned
// (R54) and escaped, and the names of tags and attributes are constants of the caller.
//
// There are two places in which text from outside may stand: between tags, and in a quoted attribute. Scripts, styles
// and event handlers can't be written here with such text, and an address is made by the caller of a constant prefix
// and of url.PathEscape. The package avoids html/template, with which the linker keeps every method of a program: 7 MB
// for each binary. It is pure, and everything may be called at once.
package markup

import (
	"html"
	"strings"

	"github.com/sluice-cd/sluice/internal/cleantext"
)

// HTML is safe HTML. It is made by this package's functions and of constants; what converts another text to HTML says
// why that text is safe.
type HTML string

// Attributes holds names and values in turn. A name without a value is written with an empty one.
type Attributes []string

// Text returns text as HTML.
func Text(s string) HTML { return HTML(html.EscapeString(cleantext.Text(s))) }

// Link returns a link with a text.
func Link(to, name string) HTML { return Element("a", Attributes{"href", to}, Text(name)) }

// Element returns a tag with its content.
func Element(tag string, with Attributes, inside ...HTML) HTML {
	n := 2*len(tag) + 6
	for _, m := range inside {
		n += len(m)
	}
	for _, a := range with {
		n += len(a) + 3
	}
	var b strings.Builder
	b.Grow(n)
	openTag(&b, tag, with)
	for _, m := range inside {
		b.WriteString(string(m))
	}
	b.WriteString("</")
	b.WriteString(tag)
	b.WriteByte('>')
	if isBlock(tag) {
		b.WriteByte('\n')
	}
	return HTML(b.String())
}

// Void returns a tag without content.
func Void(tag string, with ...string) HTML {
	var b strings.Builder
	openTag(&b, tag, with)
	return HTML(b.String())
}

// Join returns all parts in one.
func Join(parts ...HTML) HTML {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(string(p))
	}
	return HTML(b.String())
}

func openTag(b *strings.Builder, tag string, with Attributes) {
	b.WriteByte('<')
	b.WriteString(tag)
	for i := 0; i < len(with); i += 2 {
		b.WriteByte(' ')
		b.WriteString(with[i])
		value := ""
		if i+1 < len(with) {
			value = with[i+1]
		}
		b.WriteString(`="`)
		b.WriteString(html.EscapeString(cleantext.Line(value)))
		b.WriteByte('"')
	}
	b.WriteByte('>')
}

// isBlock reports whether a line may end after a tag.
func isBlock(tag string) bool {
	switch tag {
	case "a", "span", "time", "strong", "code", "kbd", "button", "label", "svg", "path", "rect", "b", "i":
		return false
	}
	return true
}
