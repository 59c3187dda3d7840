package ui

import (
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/internal/markup"
)

// Shapes are the marks of states, as paths in a square of 12. The wall draws with the same paths.
func Shapes() [][2]string {
	return [][2]string{
		{"healthy", "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z"},
		{"updating", "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10zM6 2.6v6.8a3.4 3.4 0 1 0 0-6.8z"},
		{"held", "M2.5 1h2.75v10H2.5zM6.75 1H9.5v10H6.75z"},
		{"behind", "M10.5 1v10L2 6z"},
		{"failing", "M6 .6L11.8 11.2H.2z"},
		{"silent", "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10zM6 2.8a3.2 3.2 0 1 1 0 6.4a3.2 3.2 0 1 1 0-6.4z"},
		{"new", "M5 1h2v4h4v2H7v4H5V7H1V5h4z"},
		{"shut-out", "M2.4 1L6 4.6 9.6 1 11 2.4 7.4 6 11 9.6 9.6 11 6 7.4 2.4 11 1 9.6 4.6 6 1 2.4z"},
		{"none", "M2 5h8v2H2z"},
		{"passed", "M1.2 6.4L2.7 4.9 4.8 7 9.3 2.2 10.8 3.7 4.9 10z"},
	}
}

// Mark returns the shape of a state. A word stands beside it, or in title.
func Mark(state, title string) markup.HTML {
	with := markup.Attributes{"class", "mark " + state}
	if title == "" {
		with = append(with, "aria-hidden", "true")
	} else {
		with = append(with, "role", "img", "aria-label", title)
	}
	return markup.Element("svg", with, markup.Element("use", markup.Attributes{"href", "#mark-" + state}))
}

// State returns a state as shape and word.
func State(shape, word string) markup.HTML {
	return markup.Element("span", markup.Attributes{"class", "state " + shape}, Mark(shape, ""), markup.Text(word))
}

// StateCount returns a state as shape, number and word.
func StateCount(shape string, n int, word string) markup.HTML {
	return State(shape, Thousands(n)+" "+word)
}

func Element(tag, class string, inside ...markup.HTML) markup.HTML {
	if class == "" {
		return markup.Element(tag, nil, inside...)
	}
	return markup.Element(tag, markup.Attributes{"class", class}, inside...)
}

func Heading(title string, beside ...markup.HTML) markup.HTML {
	return markup.Element("h1", nil, append([]markup.HTML{markup.Text(title)}, beside...)...)
}

func Subheading(title string) markup.HTML { return markup.Element("h2", nil, markup.Text(title)) }

func Paragraph(class string, inside ...markup.HTML) markup.HTML {
	return Element("p", class, inside...)
}

func Soft(text string) markup.HTML { return Element("span", "soft", markup.Text(text)) }

// Instant returns a time in UTC. The script adds how far away it is, and shows the reader's own zone.
func Instant(t time.Time) markup.HTML {
	if t.IsZero() {
		return Soft("unknown")
	}
	t = t.UTC()
	return markup.Element("time", markup.Attributes{"datetime", t.Format(time.RFC3339)},
		markup.Text(t.Format("2 Jan 15:04 MST")))
}

// Table returns a table in a box that scrolls sideways by itself. The first column names the row.
func Table(caption string, head []string, rows [][]markup.HTML) markup.HTML {
	var top []markup.HTML
	for _, h := range head {
		top = append(top, markup.Element("th", markup.Attributes{"scope", "col"}, markup.Text(h)))
	}
	body := make([]markup.HTML, 0, len(rows))
	for _, r := range rows {
		line := make([]markup.HTML, 0, len(r))
		for i, c := range r {
			if i == 0 {
				line = append(line, markup.Element("th", markup.Attributes{"scope", "row"}, c))
				continue
			}
			line = append(line, markup.Element("td", nil, c))
		}
		body = append(body, markup.Element("tr", nil, line...))
	}
	return markup.Element("div", markup.Attributes{"class", "scroll", "tabindex", "0", "role", "region", "aria-label",
		caption},
		markup.Element("table", nil,
			Element("caption", "unseen", markup.Text(caption)),
			markup.Element("thead", nil, markup.Element("tr", nil, top...)),
			markup.Element("tbody", nil, body...)))
}

// Facts returns names and values as a list of definitions. Empty values are left out.
func Facts(pairs ...[2]markup.HTML) markup.HTML {
	var all []markup.HTML
	for _, p := range pairs {
		if p[1] != "" {
			all = append(all, markup.Element("div", nil, markup.Element("dt", nil, p[0]), markup.Element("dd", nil,
				p[1])))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return Element("dl", "facts", all...)
}

// Text returns text as a value, or nothing if it is empty.
func Text(s string) markup.HTML {
	if s == "" {
		return ""
	}
	return markup.Text(s)
}

func Code(s string) markup.HTML {
	if s == "" {
		return ""
	}
	return markup.Element("code", nil, markup.Text(s))
}

// Command returns a command line that can be copied.
func Command(s string) markup.HTML {
	return Element("p", "command", markup.Element("code", nil, markup.Text(s)))
}

// Bar draws shares of a whole. What it shows is also said in words beside it.
func Bar(whole int, shares ...Share) markup.HTML {
	const width = 1000
	var parts []markup.HTML
	x := 0
	for _, s := range shares {
		if s.N <= 0 || whole <= 0 {
			continue
		}
		w := max(s.N*width/whole, 4) // few of many are visible
		if x+w > width {
			w = width - x
		}
		parts = append(parts, markup.Element("rect", markup.Attributes{"class", "fill-" + s.Class, "x", strconv.Itoa(x),
			"width", strconv.Itoa(w), "height", "10"}))
		x += w
	}
	return markup.Element("svg", markup.Attributes{"class", "bar", "viewBox", "0 0 1000 10", "preserveAspectRatio",
		"none",
		"aria-hidden", "true"}, parts...)
}

// Thousands returns a number with a thin space between thousands.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// Counted returns a number with a noun.
func Counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return Thousands(n) + " " + what
}

// Share is a part of a bar.
type Share struct {
	Class string
	N     int
}
