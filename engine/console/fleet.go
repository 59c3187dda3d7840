package console

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// renderFleet renders the wall, and a table of the cells that a filter selects.
func renderFleet(m *Model, p *Page, f Facts) {
	p.Title = "Fleet"
	a := p.Address
	selected := m.selectCells(a.Filter)
	whole := len(m.status().Cells)
	count := ui.Counted(whole, "cell")
	if a.Filter != "" {
		count = fmt.Sprintf("%s of %s", ui.Thousands(len(selected)), ui.Counted(whole, "cell"))
	}
	p.add("headline", ui.Heading("Fleet ", ui.Soft(count)))
	p.add("filter", fleetFilter(a.Filter), filterCounts(m, a.Filter, selected))
	p.add("wall", wallElement(a.Filter, selected))
	if a.Filter == "" && a.After == "" {
		p.add("adoption", adoptionChart(f.Adoption))
	}
	p.add("cells", cellTable(m, a, selected))
}

func fleetFilter(text string) markup.HTML {
	return markup.Element("form", markup.Attributes{"class", "filter", "action", Address{Kind: Fleet}.String(), "role",
		"search"},
		markup.Element("label", markup.Attributes{"for", "filter"}, "Filter"),
		markup.Void("input", "id", "filter", "name", "q", "type", "search", "value", text, "maxlength",
			strconv.Itoa(maxFilter), "autocomplete", "off", "spellcheck", "false", "aria-describedby", "filter-help",
			"placeholder", "channel:dedicated -healthy region:us*"),
		markup.Element("button", nil, "Apply"),
		markup.Element("p", markup.Attributes{"id", "filter-help", "class", "soft"},
			markup.Text("A condition, part of a name, or key:value: channel, release, condition, or any label. "),
			markup.Text("* stands for any text, - for not.")))
}

// filterCounts links to the filter with each condition.
func filterCounts(m *Model, text string, selected []*view.CellStatus) markup.HTML {
	counts := map[view.Condition]int{}
	for _, c := range selected {
		counts[c.Condition]++
	}
	var items []markup.HTML
	for _, c := range conditions() {
		if counts[c] > 0 {
			narrower := strings.TrimSpace(text + " " + string(c))
			items = append(items, markup.Element("li", nil, markup.Element("a", markup.Attributes{"href",
				Address{Kind: Fleet, Filter: narrower}.String()}, ui.StateCount(string(c), counts[c], string(c)))))
		}
	}
	return barOf(counts, len(selected)) + ui.Element("ul", "counts", items...)
}

// wallElement returns the place in which the script draws the wall.
func wallElement(text string, selected []*view.CellStatus) markup.HTML {
	if len(selected) == 0 {
		return ui.Paragraph("empty", "No cell matches. ", markup.Link(Address{Kind: Fleet}.String(), "Show all"))
	}
	wall := wallOf(selected)
	return markup.Element("div", markup.Attributes{"class", "wall", "data-filter", text, "data-wall", wall.Sum,
		"data-cells", strconv.Itoa(len(selected))},
		markup.Element("noscript", nil, ui.Paragraph("soft",
			"The wall of all cells needs JavaScript; the table does not.")))
}

// Wall is the cells of a filter in a form for drawing: grouped by channel, a letter a cell.
type Wall struct {
	Groups []WallGroup `json:"groups"`
	Legend []string    `json:"legend"` // the conditions, by letter: the first is a
	Sum    string      `json:"sum"`    // changes with the states
}

// WallGroup is a channel's cells.
type WallGroup struct {
	Name   string   `json:"name"`
	States string   `json:"states"`
	Cells  []string `json:"cells"` // names
}

// WallOf returns the wall of a filter.
func (m *Model) WallOf(filter string) Wall { return wallOf(m.selectCells(filter)) }

func wallOf(selected []*view.CellStatus) Wall {
	var w Wall
	letters := map[view.Condition]byte{}
	for i, c := range conditions() {
		w.Legend = append(w.Legend, string(c))
		letters[c] = byte('a' + i)
	}
	at := map[string]int{}
	states := [][]byte{}
	for _, c := range selected {
		i, known := at[c.Channel]
		if !known {
			i = len(w.Groups)
			at[c.Channel] = i
			w.Groups = append(w.Groups, WallGroup{Name: c.Channel})
			states = append(states, nil)
		}
		states[i] = append(states[i], letters[c.Condition])
		w.Groups[i].Cells = append(w.Groups[i].Cells, c.Name)
	}
	var sum uint64 = 14695981039346656037 // FNV-1a
	for i := range w.Groups {
		w.Groups[i].States = string(states[i])
		for _, b := range states[i] {
			sum = (sum ^ uint64(b)) * 1099511628211
		}
		sum = (sum ^ 0xff) * 1099511628211
	}
	sort.SliceStable(w.Groups, func(i, j int) bool { return w.Groups[i].Name < w.Groups[j].Name })
	w.Sum = strconv.FormatUint(sum, 36)
	return w
}

// cellTable renders a page of cells.
func cellTable(m *Model, a Address, selected []*view.CellStatus) markup.HTML {
	if len(selected) == 0 {
		return ""
	}
	from := sort.Search(len(selected), func(i int) bool { return selected[i].Name > a.After })
	if a.After == "" {
		from = 0
	}
	until := min(from+pageRows, len(selected))
	rows := make([][]markup.HTML, 0, until-from)
	for _, c := range selected[from:until] {
		rows = append(rows, cellRow(m, c))
	}
	pager := []markup.HTML{markup.Text(fmt.Sprintf("%s–%s of %s", ui.Thousands(min(from+1, until)),
		ui.Thousands(until), ui.Thousands(len(selected))))}
	if from > 0 {
		back := Address{Kind: a.Kind, Name: a.Name, Filter: a.Filter}
		if from > pageRows {
			back.After = selected[from-pageRows-1].Name
		}
		pager = append(pager, " ", markup.Element("a", markup.Attributes{"rel", "prev", "href", back.String()},
			"Previous"))
	}
	if until < len(selected) {
		next := a
		next.After = selected[until-1].Name
		pager = append(pager, " ", markup.Element("a", markup.Attributes{"rel", "next", "href", next.String()}, "Next"))
	}
	return ui.Table("Cells", []string{"Cell", "Condition", "Channel", "Runs", "Last report", "Why"}, rows) +
		ui.Paragraph("pager", pager...)
}

func cellRow(m *Model, c *view.CellStatus) []markup.HTML {
	runs := version(c.Release)
	if c.Applying != "" && c.Applying != c.Release {
		runs = markup.Join(runs, " → ", version(c.Applying))
	}
	why := ui.Text(c.Message)
	switch held := m.view.Held(c.Name); {
	case why != "":
	case len(c.Blocked) > 0:
		why = sentence(c.Blocked[0])
	case held != nil && c.Condition == view.ConditionHeld:
		why = sentence(*held)
	}
	last := ui.Soft("never")
	if !c.LastReport.IsZero() {
		last = ui.Instant(c.LastReport.Truncate(asOfStep))
	}
	return []markup.HTML{link(Cell, c.Name), ui.State(string(c.Condition), string(c.Condition)),
		link(Channel, c.Channel),
		runs, last, why}
}
