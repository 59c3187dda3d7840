package ui

import (
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/internal/markup"
)

// Sizes of a chart, in its own units: it is as wide as the page.
const (
	chartWidth  = 1000
	ChartLeft   = 130 // where the axis begins
	ChartRight  = chartWidth - 10
	ChartTop    = 22 // height of the axis's labels
	trackHeight = 26
	leastNamed  = 14  // the least height of a track that has room for its name
	letterWidth = 6.8 // mean width of a letter
)

// Chart draws spans and instants over one axis of time. A table beside it, or the page's sentences, say the same.
type Chart struct {
	Label       string // what it shows
	From, Until time.Time
	Now         time.Time // marked if it is inside; zero: it is not marked
	Tracks      []Track
	RowHeight   int // of a track; 0: that of a name
}

// Track is a row of a chart.
type Track struct {
	Name  string
	To    string // the address that the name leads to; empty: none
	Spans []Span
}

// Span is a stretch of time in a track; with a zero Until, an instant.
type Span struct {
	From, Until time.Time
	Class       string // of the style
	Mark        string // of an instant: the shape of a state; empty: a dot
	Thin        bool   // of a stretch: a line, not a bar
	Inside      string // written in it, or beside an instant, if there is room
	Title       string // shown to whoever points at it
}

// X returns where an instant is; what is outside of the axis is at its nearer end.
func (c *Chart) X(t time.Time) int {
	whole := c.Until.Sub(c.From)
	if whole <= 0 {
		return ChartLeft
	}
	at := min(max(t.Sub(c.From), 0), whole)
	return ChartLeft + int(float64(ChartRight-ChartLeft)*float64(at)/float64(whole))
}

// Render returns the chart with all its tracks.
func (c *Chart) Render() markup.HTML {
	row := c.rowHeight()
	height := ChartTop + row*len(c.Tracks) + 6
	parts := c.Frame(height)
	for i, t := range c.Tracks {
		y := ChartTop + i*row + row/2
		if row >= leastNamed {
			name := SVGText("", 0, y+4, ClipName(t.Name, 18))
			if t.To != "" {
				name = markup.Element("a", markup.Attributes{"href", t.To}, name)
			}
			parts = append(parts, name)
		}
		parts = append(parts, SVGLine("grid", ChartLeft, y, ChartRight, y))
		for k, s := range t.Spans {
			parts = append(parts, c.renderSpan(s, y))
			if s.Until.IsZero() && s.Inside != "" {
				parts = append(parts, c.beside(t.Spans, k, y+4))
			}
		}
	}
	return c.SVG(height, append(parts, c.nowLine(height))...)
}

// besideDot is how far from an instant its text begins.
const besideDot = 10

// beside returns the text of an instant, after it or before it, where there is room in its track; nothing if there is
// none.
func (c *Chart) beside(all []Span, k, y int) markup.HTML {
	x, width := c.X(all[k].From), int(widthOf(all[k].Inside))
	from, until := ChartLeft, ChartRight
	if k > 0 {
		from = c.X(all[k-1].From) + besideDot + int(widthOf(all[k-1].Inside))
		if !all[k-1].Until.IsZero() {
			from = c.X(all[k-1].Until)
		}
	}
	if k+1 < len(all) {
		until = c.X(all[k+1].From) - besideDot
	}
	switch {
	case x+besideDot+width <= until:
		return SVGText("beside", x+besideDot, y, all[k].Inside)
	case x-besideDot-width >= from && k+1 == len(all): // no other text is there
		return SVGText("beside end", x-besideDot, y, all[k].Inside)
	}
	return ""
}

// Frame returns the labels of the axis, and a line for each.
func (c *Chart) Frame(height int) (parts []markup.HTML) {
	for _, t := range ticks(c.From, c.Until.Sub(c.From)) {
		x := c.X(t.at)
		parts = append(parts, SVGLine("grid", x, ChartTop-4, x, height), SVGText("tick", x, 12, t.label))
	}
	return parts
}

func (c *Chart) nowLine(height int) markup.HTML {
	if c.Now.IsZero() || c.Now.Before(c.From) || c.Now.After(c.Until) {
		return ""
	}
	x := c.X(c.Now)
	return SVGLine("now", x, ChartTop-8, x, height)
}

// SVG returns the parts of a chart, in a box that scrolls sideways by itself.
func (c *Chart) SVG(height int, parts ...markup.HTML) markup.HTML {
	return markup.Element("div", markup.Attributes{"class", "scroll plot", "tabindex", "0", "role", "region",
		"aria-label", c.Label},
		markup.Element("svg", markup.Attributes{"class", "axis", "role", "img", "aria-label", c.Label, "viewBox",
			fmt.Sprintf("0 0 %d %d", chartWidth, height)}, parts...))
}

func (c *Chart) rowHeight() int {
	if c.RowHeight > 0 {
		return c.RowHeight
	}
	return trackHeight
}

func (c *Chart) renderSpan(s Span, y int) markup.HTML {
	title := markup.Element("title", nil, markup.Text(s.Title))
	if s.Until.IsZero() && s.Mark != "" {
		const size = 12
		return markup.Element("g", markup.Attributes{"class", "mark " + s.Mark}, title, markup.Element("use",
			markup.Attributes{"href", "#mark-" + s.Mark, "x", strconv.Itoa(c.X(s.From) - size/2), "y",
				strconv.Itoa(y - size/2), "width", strconv.Itoa(size), "height", strconv.Itoa(size)}))
	}
	if s.Until.IsZero() {
		return markup.Element("circle", markup.Attributes{"class", "dot " + s.Class, "r", "5",
			"cx", strconv.Itoa(c.X(s.From)), "cy", strconv.Itoa(y)}, title)
	}
	x := c.X(s.From)
	width := max(c.X(s.Until)-x, 3)
	high := max(c.rowHeight()-10, 4)
	if s.Thin {
		high = 4
	}
	bar := markup.Element("rect", markup.Attributes{"class", "span " + s.Class, "x", strconv.Itoa(x), "y",
		strconv.Itoa(y - high/2), "width", strconv.Itoa(width), "height", strconv.Itoa(high)}, title)
	if s.Inside == "" || s.Thin || widthOf(s.Inside)+8 > float64(width) {
		return bar
	}
	return bar + SVGText("inside", x+4, y+4, s.Inside)
}

// widthOf returns about how wide a text is drawn.
func widthOf(text string) float64 { return float64(utf8.RuneCountInString(text)) * letterWidth }

// SVGText returns text at a place.
func SVGText(class string, x, y int, text string) markup.HTML {
	with := markup.Attributes{"x", strconv.Itoa(x), "y", strconv.Itoa(y)}
	if class != "" {
		with = append(with, "class", class)
	}
	return markup.Element("text", with, markup.Text(text))
}

// SVGLine returns a line.
func SVGLine(class string, x1, y1, x2, y2 int) markup.HTML {
	return markup.Element("line", markup.Attributes{"class", class, "x1", strconv.Itoa(x1), "y1", strconv.Itoa(y1),
		"x2", strconv.Itoa(x2), "y2", strconv.Itoa(y2)})
}

// ClipName shortens a name to so many letters.
func ClipName(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// Hues gives releases colours that most people can tell apart, in the order in which they are first seen. The name of
// the release stands beside or inside of the colour.
type Hues struct{ names []string }

// HueCount is how many colours there are.
const HueCount = 8

// Of returns the class of a release's colour.
func (h *Hues) Of(release string) string {
	i := slices.Index(h.names, release)
	if i < 0 {
		i = len(h.names)
		h.names = append(h.names, release)
	}
	return "hue-" + strconv.Itoa(i%HueCount)
}

// Legend names the colours.
func (h *Hues) Legend() markup.HTML {
	var items []markup.HTML
	for _, name := range h.names {
		items = append(items, markup.Element("li", nil, Swatch(h.Of(name)), markup.Text(name)))
	}
	return Element("ul", "legend", items...)
}

// Swatch returns a piece of a colour.
func Swatch(class string) markup.HTML {
	return markup.Element("svg", markup.Attributes{"class", "swatch", "viewBox", "0 0 12 12", "aria-hidden", "true"},
		markup.Element("rect", markup.Attributes{"class", "span " + class, "x", "1", "y", "1", "width", "10", "height",
			"10"}))
}

type tick struct {
	at    time.Time
	label string
}

// ticks returns round instants of a span, about eight. Near its end there is no room for a label.
func ticks(from time.Time, span time.Duration) (all []tick) {
	const day = 24 * time.Hour
	step, layout := 14*day, "2 Jan"
	for _, s := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour,
		6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day} {
		if span/s <= 9 {
			step = s
			break
		}
	}
	if step < day {
		layout = "2 Jan 15:04"
	}
	if span < 12*time.Hour {
		layout = "15:04"
	}
	for t := from.UTC().Truncate(step).Add(step); t.Before(from.Add(span - span/12)); t = t.Add(step) {
		all = append(all, tick{t, t.Format(layout)})
	}
	return all
}

// Line returns a piece of a thin line in a colour.
func Line(class string) markup.HTML {
	return markup.Element("svg", markup.Attributes{"class", "swatch", "viewBox", "0 0 12 12", "aria-hidden", "true"},
		markup.Element("rect", markup.Attributes{"class", "span " + class, "x", "0", "y", "4", "width", "12", "height",
			"4"}))
}
