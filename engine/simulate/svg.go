package simulate

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/internal/words"
)

// Sizes of the chart, in pixels.
const (
	chartWidth = 1280
	chartLeft  = 150 // left edge of the plot
	chartRight = 1256
	headHeight = 22
	waveHeight = 12
	areaHeight = 96
	gateHeight = 13
	letter     = 6.4 // mean width of a letter at 11 px
)

// palette holds colours that most colour-blind people can distinguish (after Okabe and Ito, with paler companions).
var palette = [...]string{
	"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#b8a500", "#7a5fa8", "#8c6d46", "#4d7f8f", "#a0c070",
}

var gateColours = map[string]string{
	"soak": "#7fb3d5", "window": "#b7a6d8", "freeze": "#6fc7c7", "approval": "#f0c36d", "wave": "#9bc79b",
	"maxInFlight": "#c5d86d", "hold": "#d98880", "quarantine": "#c0392b", "halt": "#c0392b", "settled": "#c8b7a6",
}

// SVG draws the result of a simulation: for each channel its head over time, the waves, which release its cells ran,
// and what blocked it.
func SVG(r *Result) []byte {
	c := &chart{result: r, colours: map[string]string{}}
	c.assignColours()
	c.y = 64
	axis := c.y
	for i := range r.Channels {
		c.drawChannel(&r.Channels[i])
	}
	c.drawLegend()
	var out bytes.Buffer
	fmt.Fprintf(&out,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" `+
			`font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="11" fill="#222">`+"\n",
		chartWidth, c.y, chartWidth, c.y)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", chartWidth, c.y)
	s := r.Summary
	fmt.Fprintf(&out, `<text x="16" y="24" font-size="16" font-weight="bold">%s to %s: %d cells</text>`+"\n",
		r.From.Format("2 Jan 2006 15:04"), r.Until.Format("2 Jan 2006 15:04 MST"), s.Cells)
	fmt.Fprintf(&out,
		`<text x="%d" y="24" text-anchor="end" fill="#555">%s, %s, %s, %s; seed %d</text>`+"\n", chartRight,
		words.Count(s.Promotions, "promotion"), words.Count(s.Rollbacks, "rollback"),
		words.Count(s.Halts, "halt"), words.Count(s.Failed, "failed cell"), r.Seed)
	c.drawGrid(&out, axis-6, c.bottom)
	out.Write(c.body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

type chart struct {
	result  *Result
	colours map[string]string // by release
	order   []string          // releases in the order in which channels took them
	y       int
	bottom  int // bottom of the last channel
	body    bytes.Buffer
}

func (c *chart) assignColours() {
	add := func(release string) {
		if release != "" && c.colours[release] == "" {
			c.colours[release] = palette[len(c.order)%len(palette)]
			c.order = append(c.order, release)
		}
	}
	for _, ch := range c.result.Channels {
		for _, o := range ch.Rollouts {
			if o.Kind == "standing" {
				add(o.Release)
			}
		}
	}
	for _, e := range c.result.Timeline {
		if e.Kind == "promote" || e.Kind == "rollback" {
			add(e.Release)
		}
	}
}

func (c *chart) printf(format string, args ...any) { fmt.Fprintf(&c.body, format+"\n", args...) }

func (c *chart) xOf(t time.Time) float64 {
	whole := c.result.Until.Sub(c.result.From)
	at := min(max(t.Sub(c.result.From), 0), whole)
	return chartLeft + float64(at)/float64(whole)*(chartRight-chartLeft)
}

func (c *chart) drawGrid(out *bytes.Buffer, top, bottom int) {
	whole := c.result.Until.Sub(c.result.From)
	day := 24 * time.Hour
	step, layout := 7*day, "2 Jan"
	for _, s := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour,
		6 * time.Hour, 12 * time.Hour, day, 2 * day} {
		if whole/s <= 18 {
			step = s
			break
		}
	}
	switch {
	case step < day && whole > day:
		layout = "2 Jan 15:04"
	case step < day:
		layout = "15:04"
	}
	for whole/step > 40 {
		step *= 2
	}
	for t := c.result.From.Truncate(step); !t.After(c.result.Until); t = t.Add(step) {
		if t.Before(c.result.From) {
			continue
		}
		x := c.xOf(t)
		fmt.Fprintf(out, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#e3e3e3"/>`+"\n", x, top, x, bottom)
		if x < chartRight-20 {
			fmt.Fprintf(out, `<text x="%.1f" y="%d" fill="#555">%s</text>`+"\n", x+3, top+2, t.Format(layout))
		}
	}
}

// drawBar draws a span of time, with text inside if it fits, and a tooltip.
func (c *chart) drawBar(from, until time.Time, height int, fill, inside, tip string) {
	x1, x2 := c.xOf(from), c.xOf(until)
	width := max(x2-x1, 1.5)
	c.printf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s</title></rect>`, x1, c.y, width,
		height, fill, escape(tip))
	if inside != "" && float64(utf8.RuneCountInString(inside))*letter+6 < width {
		c.printf(`<text x="%.1f" y="%d" fill="#fff" font-weight="bold" pointer-events="none">%s</text>`, x1+4,
			c.y+height/2+4, escape(inside))
	}
}

func (c *chart) drawLabel(text string, dy int, attributes string) {
	c.printf(`<text x="%d" y="%d" text-anchor="end" %s>%s</text>`, chartLeft-8, c.y+dy, attributes, escape(text))
}

func (c *chart) drawChannel(ch *Channel) {
	c.y += 14
	const beside = 10 // longest name that leaves room for a label beside it
	c.printf(`<text x="16" y="%d" font-size="14" font-weight="bold">%s<title>%s</title></text>`, c.y+15,
		escape(clipText(ch.Name, 14)), escape(ch.Name))
	if utf8.RuneCountInString(ch.Name) <= beside {
		c.drawLabel("head", 15, `fill="#555"`)
	}
	for i, o := range ch.Rollouts {
		until := c.result.Until
		if i+1 < len(ch.Rollouts) {
			until = ch.Rollouts[i+1].Moved
		}
		name := o.Release
		if o.Kind == "rollback" {
			name = "↩ " + name
		}
		c.drawBar(o.Moved, until, headHeight, c.colours[o.Release], name,
			fmt.Sprintf("%s %s at %s", o.Kind, o.Release, o.Moved.Format(time.RFC3339)))
	}
	c.y += headHeight + 3
	c.drawWaves(ch)
	c.drawShares(ch)
	c.drawGates(ch)
	c.bottom = c.y
}

// drawWaves draws when each wave was being granted. Later waves are darker.
func (c *chart) drawWaves(ch *Channel) {
	c.drawLabel("waves", 10, `fill="#555"`)
	for i, o := range ch.Rollouts {
		for k, wave := range o.Waves {
			until := c.result.Until
			switch {
			case k+1 < len(o.Waves):
				until = o.Waves[k+1].First
			case !o.Finished.IsZero():
				until = o.Finished
			case i+1 < len(ch.Rollouts):
				until = ch.Rollouts[i+1].Moved
			}
			shade := max(0xbb-0x28*(wave.Wave-1), 0x22)
			c.drawBar(wave.First, until, waveHeight, fmt.Sprintf("#%02x%02x%02x", shade, shade, shade),
				fmt.Sprint(wave.Wave),
				fmt.Sprintf("%s wave %d: %s, from %s", o.Release, wave.Wave, words.Count(wave.Cells, "cell"),
					wave.First.Format(time.RFC3339)))
		}
	}
	c.y += waveHeight + 3
}

// drawShares draws which share of the cells runs which release.
func (c *chart) drawShares(ch *Channel) {
	c.drawLabel(words.Count(ch.Cells, "cell"), 12, `fill="#555"`)
	c.printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="#f3f3f3"><title>nothing installed</title></rect>`,
		chartLeft, c.y, chartRight-chartLeft, areaHeight)
	series := c.thinSeries(c.result.series[ch.Name])
	if ch.Cells > 0 {
		base := make([]float64, len(series))
		for _, release := range c.order {
			c.drawLayer(release, series, base, ch.Cells)
		}
	}
	for _, o := range ch.Rollouts {
		if o.Kind == "rollback" {
			c.printf(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#c0392b" stroke-width="2"/>`, c.xOf(o.Moved),
				c.y-headHeight-waveHeight-10, c.xOf(o.Moved), c.y+areaHeight+2)
		}
	}
	for _, e := range c.result.Timeline {
		if e.Kind == "failed" && e.Channel == ch.Name {
			c.printf(
				`<circle cx="%.1f" cy="%d" r="3.5" fill="#c0392b" stroke="#fff"><title>%s failed in %s at %s</title></circle>`,
				c.xOf(e.At), c.y+areaHeight-6, escape(e.Release),
				escape(words.Count(e.Cells, "cell")+" ("+strings.Join(e.Names, ", ")+")"), e.At.Format(time.RFC3339))
		}
	}
	c.y += areaHeight + 4
}

// drawLayer draws one release's share on top of base, and adds the share to base.
func (c *chart) drawLayer(release string, series []releaseCounts, base []float64, of int) {
	any := false
	var up, down []string
	for i, s := range series {
		x1, x2 := c.xOf(s.at), c.xOf(c.result.Until)
		if i+1 < len(series) {
			x2 = c.xOf(series[i+1].at)
		}
		low := float64(c.y+areaHeight) - base[i]
		n := s.counts[release]
		base[i] += float64(n) / float64(of) * areaHeight
		high := float64(c.y+areaHeight) - base[i]
		any = any || n > 0
		up = append(up, fmt.Sprintf("%.1f,%.1f %.1f,%.1f", x1, high, x2, high))
		down = append(down, fmt.Sprintf("%.1f,%.1f %.1f,%.1f", x2, low, x1, low))
	}
	if any {
		slices.Reverse(down)
		c.printf(`<polygon points="%s %s" fill="%s" fill-opacity="0.75"><title>%s</title></polygon>`,
			strings.Join(up, " "), strings.Join(down, " "), c.colours[release], escape(release))
	}
}

// thinSeries keeps only the last of the counts that fall on the same half pixel.
func (c *chart) thinSeries(series []releaseCounts) []releaseCounts {
	var out []releaseCounts
	for _, s := range series {
		if n := len(out); n > 0 && c.xOf(s.at)-c.xOf(out[n-1].at) < 0.5 && n > 1 {
			out[n-1].counts = s.counts
			continue
		}
		out = append(out, s)
	}
	return out
}

func (c *chart) drawGates(ch *Channel) {
	total := map[string]int64{}
	for _, wait := range c.result.allWaits {
		if wait.Channel == ch.Name && wait.Longest > 0 {
			total[wait.Gate] += wait.Longest
		}
	}
	names := slices.SortedFunc(maps.Keys(total), func(a, b string) int {
		if total[a] != total[b] {
			return int(min(max(total[b]-total[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	for _, gate := range names {
		c.drawLabel(clipText(gate, 18), 10, `fill="#555" font-size="10"`)
		fill := gateColours[gate]
		if fill == "" {
			fill = "#b0b0b0"
		}
		for _, wait := range c.result.allWaits {
			if wait.Channel == ch.Name && wait.Gate == gate && wait.Longest > 0 {
				c.drawBar(wait.From, wait.Until, gateHeight-3, fill, "",
					fmt.Sprintf("%s blocked %s for %s: %s", gate, wait.Release,
						(time.Duration(wait.Longest)*time.Second).String(), wait.Reason))
			}
		}
		c.y += gateHeight
	}
}

func (c *chart) drawLegend() {
	c.y += 26
	x := float64(chartLeft)
	item := func(mark, text string) {
		width := float64(utf8.RuneCountInString(text))*letter + 34
		if x+width > chartRight {
			x, c.y = chartLeft, c.y+18
		}
		c.printf(mark, x, c.y-9)
		c.printf(`<text x="%.1f" y="%d">%s</text>`, x+16, c.y, escape(text))
		x += width
	}
	for _, release := range c.order {
		item(`<rect x="%.1f" y="%d" width="11" height="11" fill="`+c.colours[release]+`"/>`, release)
	}
	item(`<rect x="%.1f" y="%d" width="11" height="11" fill="#f3f3f3" stroke="#ccc"/>`, "nothing installed")
	item(`<g transform="translate(%.1f %d)"><circle cx="5" cy="6" r="3.5" fill="#c0392b"/></g>`, "cells failed")
	item(`<g transform="translate(%.1f %d)"><line x1="5" y1="0" x2="5" y2="12" stroke="#c0392b" stroke-width="2"/></g>`,
		"rolled back")
	c.y += 18
}

func clipText(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder's Write never fails
	return b.String()
}
