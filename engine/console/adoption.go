package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/adoption"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// areaHeight is the height of the chart of an adoption's curves, in the chart's units.
const areaHeight = 150

// adoptionChart draws which share of the cells ran which release over time, with those in trouble as a line; in a table
// the same by day.
func adoptionChart(s *adoption.Series) markup.HTML {
	if s == nil || len(s.Samples) == 0 {
		return ""
	}
	a := newAdopted(s)
	c := ui.Chart{Label: "Which releases the cells ran over time; the table below says the same", From: s.Samples[0].At,
		Until: s.Until}
	if least := c.From.Add(time.Hour); c.Until.Before(least) {
		c.Until = least
	}
	height := ui.ChartTop + areaHeight + 6
	parts := c.Frame(height)
	bottom := ui.ChartTop + areaHeight
	parts = append(parts, ui.SVGText("tick", 0, ui.ChartTop+10, ui.Counted(a.most, "cell")), ui.SVGText("tick", 0,
		bottom, "0"),
		ui.SVGLine("grid", ui.ChartLeft, bottom, ui.ChartRight, bottom))
	base := make([]int, len(a.steps))
	h := &ui.Hues{}
	for i, release := range a.releases {
		parts = append(parts, a.layer(&c, i, base, h.Of(release)))
	}
	trouble := markup.Element("li", nil, "never was a cell failing, silent or shut out")
	if slices.ContainsFunc(a.steps, func(s adoptedStep) bool { return s.trouble > 0 }) {
		parts = append(parts, a.troubleLine(&c))
		key := markup.Element("svg", markup.Attributes{"class", "swatch", "aria-hidden", "true",
			"viewBox", "0 0 12 12"}, ui.SVGLine("trouble-line", 0, 6, 12, 6))
		trouble = markup.Element("li", nil, key, "failing, silent or shut out")
	}
	return ui.Subheading("Adoption over "+ui.Counted(adoption.Days, "day")) + c.SVG(height, parts...) +
		ui.Element("div", "legends", h.Legend(), ui.Element("ul", "legend", trouble)) +
		markup.Element("details", nil, markup.Element("summary", nil, "As a table"), a.table())
}

// adopted is a series with its kinds summed up by release.
type adopted struct {
	releases []string // most cells ever first; the last may stand for others
	steps    []adoptedStep
	most     int // the greatest number of cells at once
	until    time.Time
}

// adoptedStep holds until the next.
type adoptedStep struct {
	at      time.Time
	counts  []int // by release; nil: unknown
	trouble int
}

const restOfReleases = "others"

func newAdopted(s *adoption.Series) *adopted {
	a := &adopted{until: s.Until}
	peak := map[string]int{}
	for i := range s.Samples {
		now := map[string]int{}
		for k, kind := range s.Kinds {
			now[kind.Release] += s.Count(i, k)
		}
		for release, n := range now {
			peak[release] = max(peak[release], n)
		}
	}
	for _, release := range sortedKeys(peak) {
		if peak[release] > 0 && len(a.releases) < ui.HueCount-1 {
			a.releases = append(a.releases, release)
		}
	}
	slices.Sort(a.releases)
	rest := len(a.releases)
	for i, one := range s.Samples {
		step := adoptedStep{at: one.At}
		if one.Counts != nil {
			step.counts = make([]int, rest+1)
			whole := 0
			for k, kind := range s.Kinds {
				n := s.Count(i, k)
				at := slices.Index(a.releases, kind.Release)
				if at < 0 {
					at = rest
				}
				step.counts[at] += n
				whole += n
				switch kind.Condition {
				case view.ConditionFailing, view.ConditionSilent, view.ConditionShutOut:
					step.trouble += n
				}
			}
			a.most = max(a.most, whole)
		}
		a.steps = append(a.steps, step)
	}
	if slices.ContainsFunc(a.steps, func(s adoptedStep) bool { return s.counts != nil && s.counts[rest] > 0 }) {
		a.releases = append(a.releases, restOfReleases)
	}
	for i, name := range a.releases {
		if name == "" {
			a.releases[i] = "nothing installed"
		}
	}
	return a
}

// y returns where so many cells are.
func (a *adopted) y(n int) int { return ui.ChartTop + areaHeight - n*areaHeight/max(a.most, 1) }

// end returns until when a step holds.
func (a *adopted) end(i int) time.Time {
	if i+1 < len(a.steps) {
		return a.steps[i+1].at
	}
	return a.until
}

// layer draws a release's share on top of base, and adds it to base. Of steps within one unit of width the last is
// drawn; where nothing is known there is nothing.
func (a *adopted) layer(c *ui.Chart, release int, base []int, class string) markup.HTML {
	var path strings.Builder
	any := false
	for i := 0; i < len(a.steps); {
		first := i
		var up, down []string
		last := -1
		for ; i < len(a.steps) && a.steps[i].counts != nil; i++ {
			low := base[i]
			n := at(a.steps[i].counts, release)
			base[i] += n
			any = any || n > 0
			x1, x2 := c.X(a.steps[i].at), c.X(a.end(i))
			if x2 == last && i > first {
				continue
			}
			last = x2
			up = append(up, point(x1, a.y(low+n)), point(x2, a.y(low+n)))
			down = append(down, point(x1, a.y(low)), point(x2, a.y(low)))
		}
		if len(up) > 0 {
			slices.Reverse(down)
			path.WriteString("M" + strings.Join(up, " ") + " " + strings.Join(down, " ") + "z")
		}
		if i == first {
			i++
		}
	}
	if !any {
		return ""
	}
	return markup.Element("path", markup.Attributes{"class", "layer " + class, "d", path.String()},
		markup.Element("title", nil, markup.Text(a.releases[release])))
}

func at(counts []int, i int) int {
	if i < len(counts) {
		return counts[i]
	}
	return 0
}

func point(x, y int) string { return strconv.Itoa(x) + "," + strconv.Itoa(y) }

// troubleLine draws how many cells are in trouble.
func (a *adopted) troubleLine(c *ui.Chart) markup.HTML {
	var path strings.Builder
	gap, last := true, -1
	for i, s := range a.steps {
		if s.counts == nil {
			gap = true
			continue
		}
		x1, x2 := c.X(s.at), c.X(a.end(i))
		if x2 == last {
			continue
		}
		last = x2
		if gap {
			path.WriteString("M")
		} else {
			path.WriteString("L")
		}
		path.WriteString(point(x1, a.y(s.trouble)) + "L" + point(x2, a.y(s.trouble)))
		gap = false
	}
	return markup.Element("path", markup.Attributes{"class", "trouble-line", "d", path.String()},
		markup.Element("title", nil, "failing, silent or shut out"))
}

// table says what was so at the end of each day, the newest first.
func (a *adopted) table() markup.HTML {
	const day = 24 * time.Hour
	head := append([]string{"At the end of"}, a.releases...)
	head = append(head, "Failing, silent or shut out")
	var rows [][]markup.HTML
	i := len(a.steps) - 1
	for date := a.until.UTC().Truncate(day); date.Add(day).After(a.steps[0].at); date = date.Add(-day) {
		for i > 0 && !a.steps[i].at.Before(date.Add(day)) {
			i--
		}
		row := []markup.HTML{markup.Text(date.Format("2 Jan"))}
		s := a.steps[i]
		for _, n := range s.counts[:min(len(s.counts), len(a.releases))] {
			row = append(row, markup.Text(ui.Thousands(n)))
		}
		if s.counts == nil {
			for range a.releases {
				row = append(row, ui.Soft("unknown"))
			}
			rows = append(rows, append(row, ui.Soft("unknown")))
			continue
		}
		rows = append(rows, append(row, markup.Text(ui.Thousands(s.trouble))))
	}
	return ui.Table(fmt.Sprintf("Adoption over %d days, in UTC", adoption.Days), head, rows)
}
