package console

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/words"
)

// conditions are all conditions, the most pressing first.
func conditions() []view.Condition {
	return []view.Condition{view.ConditionFailing, view.ConditionShutOut, view.ConditionSilent, view.ConditionUpdating,
		view.ConditionHeld, view.ConditionBehind, view.ConditionNew, view.ConditionHealthy}
}

// shapes are the marks of states, as paths in a square of 12. The wall draws with the same paths.
func shapes() [][2]string {
	return [][2]string{
		{"healthy", "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z"},
		{"updating", "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10zM6 2.6v6.8a3.4 3.4 0 1 0 0-6.8z"},
		{"held", "M2 1h3v10H2zM7 1h3v10H7z"},
		{"behind", "M10.5 1v10L2 6z"},
		{"failing", "M6 .6L11.8 11.2H.2z"},
		{"silent", "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10zM6 2.8a3.2 3.2 0 1 1 0 6.4a3.2 3.2 0 1 1 0-6.4z"},
		{"new", "M5 1h2v4h4v2H7v4H5V7H1V5h4z"},
		{"shut-out", "M2.4 1L6 4.6 9.6 1 11 2.4 7.4 6 11 9.6 9.6 11 6 7.4 2.4 11 1 9.6 4.6 6 1 2.4z"},
		{"none", "M2 5h8v2H2z"},
		{"passed", "M1.2 6.4L2.7 4.9 4.8 7 9.3 2.2 10.8 3.7 4.9 10z"},
	}
}

// mark returns the shape of a state. A word stands beside it, or in title.
func mark(state, title string) markup.HTML {
	with := markup.Attributes{"class", "mark " + state}
	if title == "" {
		with = append(with, "aria-hidden", "true")
	} else {
		with = append(with, "role", "img", "aria-label", title)
	}
	return markup.Element("svg", with, markup.Element("use", markup.Attributes{"href", "#mark-" + state}))
}

// state returns a state as shape and word.
func state(shape, word string) markup.HTML {
	return markup.Element("span", markup.Attributes{"class", "state " + shape}, mark(shape, ""), markup.Text(word))
}

// stateCount returns a state as shape, number and word.
func stateCount(shape string, n int, word string) markup.HTML {
	return state(shape, thousands(n)+" "+word)
}

// shapeOfCondition returns the name of a condition's shape, which is the condition's own.
func shapeOfCondition(c view.Condition) string { return string(c) }

func element(tag, class string, inside ...markup.HTML) markup.HTML {
	if class == "" {
		return markup.Element(tag, nil, inside...)
	}
	return markup.Element(tag, markup.Attributes{"class", class}, inside...)
}

func heading(title string, beside ...markup.HTML) markup.HTML {
	return markup.Element("h1", nil, append([]markup.HTML{markup.Text(title)}, beside...)...)
}

func subheading(title string) markup.HTML { return markup.Element("h2", nil, markup.Text(title)) }

func paragraph(class string, inside ...markup.HTML) markup.HTML {
	return element("p", class, inside...)
}

func soft(text string) markup.HTML { return element("span", "soft", markup.Text(text)) }

// link returns a link to the page of one thing.
func link(kind Kind, name string) markup.HTML { return linkAs(kind, name, name) }

func linkAs(kind Kind, name, text string) markup.HTML {
	return markup.Link(Address{Kind: kind, Name: name}.String(), text)
}

// version returns a link to a release.
func version(name string) markup.HTML {
	if name == "" {
		return soft("nothing")
	}
	return markup.Element("a", markup.Attributes{"class", "version", "href", Address{Kind: Releases,
		Name: name}.String()},
		markup.Text(name))
}

// instant returns a time in UTC. The script adds how far away it is, and shows the reader's own zone.
func instant(t time.Time) markup.HTML {
	if t.IsZero() {
		return soft("unknown")
	}
	t = t.UTC()
	return markup.Element("time", markup.Attributes{"datetime", t.Format(time.RFC3339)},
		markup.Text(t.Format("2 Jan 15:04 MST")))
}

// sentence returns a verdict: its gate, its reason, and its clock.
func sentence(v channels.Verdict) markup.HTML {
	parts := []markup.HTML{element("span", "gate", markup.Text(v.Gate)), " ", markup.Text(v.Reason)}
	if !v.Until.IsZero() {
		parts = append(parts, element("span", "until", " until ", instant(v.Until)))
	}
	return markup.Join(parts...)
}

// verdicts lists verdicts, the first few of them.
func verdicts(all []channels.Verdict) markup.HTML {
	var items []markup.HTML
	for _, v := range all[:min(len(all), maxListed)] {
		items = append(items, element("li", "", mark("held", ""), element("span", "", sentence(v))))
	}
	if more := len(all) - len(items); more > 0 {
		items = append(items, element("li", "", mark("none", ""), soft(fmt.Sprintf("and %d more", more))))
	}
	if len(items) == 0 {
		return ""
	}
	return element("ul", "verdicts", items...)
}

// table returns a table in a box that scrolls sideways by itself. The first column names the row.
func table(caption string, head []string, rows [][]markup.HTML) markup.HTML {
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
			element("caption", "unseen", markup.Text(caption)),
			markup.Element("thead", nil, markup.Element("tr", nil, top...)),
			markup.Element("tbody", nil, body...)))
}

// facts returns names and values as a list of definitions. Empty values are left out.
func facts(pairs ...[2]markup.HTML) markup.HTML {
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
	return element("dl", "facts", all...)
}

// text returns text as a value, or nothing if it is empty.
func text(s string) markup.HTML {
	if s == "" {
		return ""
	}
	return markup.Text(s)
}

func code(s string) markup.HTML {
	if s == "" {
		return ""
	}
	return markup.Element("code", nil, markup.Text(s))
}

// command returns a command line that can be copied.
func command(s string) markup.HTML {
	return element("p", "command", markup.Element("code", nil, markup.Text(s)))
}

// shell returns a command line in which a shell takes every argument as it is.
func shell(args ...string) string {
	return words.Shell(args...)
}

// share is a part of a bar.
type share struct {
	class string
	n     int
}

// bar draws shares of a whole. What it shows is also said in words beside it.
func bar(whole int, shares ...share) markup.HTML {
	const width = 1000
	var parts []markup.HTML
	x := 0
	for _, s := range shares {
		if s.n <= 0 || whole <= 0 {
			continue
		}
		w := max(s.n*width/whole, 4) // few of many are visible
		if x+w > width {
			w = width - x
		}
		parts = append(parts, markup.Element("rect", markup.Attributes{"class", "fill-" + s.class, "x", strconv.Itoa(x),
			"width", strconv.Itoa(w), "height", "10"}))
		x += w
	}
	return markup.Element("svg", markup.Attributes{"class", "bar", "viewBox", "0 0 1000 10", "preserveAspectRatio",
		"none",
		"aria-hidden", "true"}, parts...)
}

// some lists links to things, the first few of them.
func some(kind Kind, names []string) markup.HTML {
	if len(names) == 0 {
		return soft("none")
	}
	var parts []markup.HTML
	for i, name := range names[:min(len(names), maxListed)] {
		if i > 0 {
			parts = append(parts, ", ")
		}
		parts = append(parts, link(kind, name))
	}
	if more := len(names) - maxListed; more > 0 {
		parts = append(parts, soft(fmt.Sprintf(" and %s more", thousands(more))))
	}
	return markup.Join(parts...)
}

// thousands returns a number with a thin space between thousands.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// counted returns a number with a noun.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(n) + " " + what
}

// sortedKeys returns the keys of counts, the greatest count first.
func sortedKeys[K ~string](counts map[K]int) []K {
	keys := make([]K, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(string(a), string(b)))
	})
	return keys
}
