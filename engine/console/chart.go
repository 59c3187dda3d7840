package console

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
	chartLeft   = 130 // where the axis begins
	chartRight  = chartWidth - 10
	chartTop    = 22 // height of the axis's labels
	trackHeight = 26
	letterWidth = 6.8 // mean width of a letter
)

// chart draws spans and instants over one axis of time. A table beside it, or the page's sentences, say the same.
type chart struct {
	label       string // what it shows
	from, until time.Time
	now         time.Time // marked if it is inside; zero: it is not marked
	tracks      []track
}

// track is a row of a chart.
type track struct {
	name  string
	to    string // the address that the name leads to; empty: none
	spans []span
}

// span is a stretch of time in a track; with a zero until, an instant.
type span struct {
	from, until time.Time
	class       string // of the style
	inside      string // written in it if there is room
	title       string // shown to whoever points at it
}

func (c *chart) x(t time.Time) int {
	whole := c.until.Sub(c.from)
	if whole <= 0 {
		return chartLeft
	}
	at := min(max(t.Sub(c.from), 0), whole)
	return chartLeft + int(float64(chartRight-chartLeft)*float64(at)/float64(whole))
}

// render returns the chart with all its tracks.
func (c *chart) render() markup.HTML {
	height := chartTop + trackHeight*len(c.tracks) + 6
	parts := c.frame(height)
	for i, t := range c.tracks {
		y := chartTop + i*trackHeight + trackHeight/2
		name := svgText("", 0, y+4, clipName(t.name, 18))
		if t.to != "" {
			name = markup.Element("a", markup.Attributes{"href", t.to}, name)
		}
		parts = append(parts, name, svgLine("grid", chartLeft, y, chartRight, y))
		for _, s := range t.spans {
			parts = append(parts, c.renderSpan(s, y))
		}
	}
	return c.svg(height, append(parts, c.nowLine(height))...)
}

// frame returns the labels of the axis, and a line for each.
func (c *chart) frame(height int) (parts []markup.HTML) {
	for _, t := range ticks(c.from, c.until.Sub(c.from)) {
		x := c.x(t.at)
		parts = append(parts, svgLine("grid", x, chartTop-4, x, height), svgText("tick", x, 12, t.label))
	}
	return parts
}

func (c *chart) nowLine(height int) markup.HTML {
	if c.now.IsZero() || c.now.Before(c.from) || c.now.After(c.until) {
		return ""
	}
	x := c.x(c.now)
	return svgLine("now", x, chartTop-8, x, height)
}

func (c *chart) svg(height int, parts ...markup.HTML) markup.HTML {
	return markup.Element("div", markup.Attributes{"class", "scroll plot", "tabindex", "0", "role", "region",
		"aria-label", c.label},
		markup.Element("svg", markup.Attributes{"class", "axis", "role", "img", "aria-label", c.label, "viewBox",
			fmt.Sprintf("0 0 %d %d", chartWidth, height)}, parts...))
}

func (c *chart) renderSpan(s span, y int) markup.HTML {
	title := markup.Element("title", nil, markup.Text(s.title))
	if s.until.IsZero() {
		return markup.Element("circle", markup.Attributes{"class", "dot " + s.class, "r", "5",
			"cx", strconv.Itoa(c.x(s.from)), "cy", strconv.Itoa(y)}, title)
	}
	x := c.x(s.from)
	width := max(c.x(s.until)-x, 3)
	bar := markup.Element("rect", markup.Attributes{"class", "span " + s.class, "x", strconv.Itoa(x), "y",
		strconv.Itoa(y - 8), "width", strconv.Itoa(width), "height", "16"}, title)
	if s.inside == "" || float64(utf8.RuneCountInString(s.inside))*letterWidth+8 > float64(width) {
		return bar
	}
	return bar + svgText("inside", x+4, y+4, s.inside)
}

func svgText(class string, x, y int, text string) markup.HTML {
	with := markup.Attributes{"x", strconv.Itoa(x), "y", strconv.Itoa(y)}
	if class != "" {
		with = append(with, "class", class)
	}
	return markup.Element("text", with, markup.Text(text))
}

func svgLine(class string, x1, y1, x2, y2 int) markup.HTML {
	return markup.Element("line", markup.Attributes{"class", class, "x1", strconv.Itoa(x1), "y1", strconv.Itoa(y1),
		"x2", strconv.Itoa(x2), "y2", strconv.Itoa(y2)})
}

// clipName shortens a name to so many letters.
func clipName(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// hues gives releases colours that most people can tell apart, in the order in which they are first seen. The name of
// the release stands beside or inside of the colour.
type hues struct{ names []string }

const hueCount = 8

func (h *hues) of(release string) string {
	i := slices.Index(h.names, release)
	if i < 0 {
		i = len(h.names)
		h.names = append(h.names, release)
	}
	return "hue-" + strconv.Itoa(i%hueCount)
}

// legend names the colours.
func (h *hues) legend() markup.HTML {
	var items []markup.HTML
	for _, name := range h.names {
		items = append(items, markup.Element("li", nil, swatch(h.of(name)), markup.Text(name)))
	}
	return element("ul", "legend", items...)
}

func swatch(class string) markup.HTML {
	return markup.Element("svg", markup.Attributes{"class", "swatch", "viewBox", "0 0 12 12", "aria-hidden", "true"},
		markup.Element("rect", markup.Attributes{"class", "span " + class, "x", "1", "y", "1", "width", "10", "height",
			"10"}))
}
