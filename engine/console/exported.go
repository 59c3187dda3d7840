package console

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// Exported is what a cell exported last.
type Exported struct {
	Until    time.Time         // until when what came last was measured, by the cell's clock
	Received time.Time         // of what came last
	Values   []telemetry.Line  // the last of each series
	Left     int               // series whose values there was no room for
	Gaps     []cells.ExportGap // the newest last
}

// cellExports renders the last values that a cell exported, and what is missing. Of a cell that exports nothing there
// is nothing to say: what may leave is its owner's to decide.
func cellExports(e *Exported) markup.HTML {
	if e == nil || e.Received.IsZero() {
		return ""
	}
	parts := []markup.HTML{ui.Subheading("Exports"), ui.Paragraph("soft", "What its owner agreed to; measured until ",
		ui.Instant(e.Until), ", received ", ui.Instant(e.Received))}
	var gaps []markup.HTML
	for _, g := range slices.Backward(e.Gaps) {
		gaps = append(gaps, ui.Element("li", "", ui.Mark("silent", ""), ui.Element("span", "", "nothing came from ",
			ui.Instant(g.From), " to ", ui.Instant(g.To), markup.Text(": "+words.OneLine(g.Why)))))
	}
	if len(gaps) > 0 {
		parts = append(parts, ui.Element("ul", "verdicts", gaps...))
	}
	var rows [][]markup.HTML
	for _, l := range e.Values[:min(len(e.Values), pageRows)] {
		rows = append(rows, []markup.HTML{markup.Text(l.Metric + l.Event), exportLabels(l), exportValue(l),
			ui.Instant(l.At)})
	}
	if len(rows) == 0 {
		return markup.Join(append(parts, ui.Paragraph("soft", "No value is kept."))...)
	}
	parts = append(parts, ui.Table("Last values", []string{"Metric or event", "Labels", "Value", "Measured"}, rows))
	if more := len(e.Values) - len(rows) + e.Left; more > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text("and "+ui.Thousands(more)+" more series")))
	}
	return markup.Join(parts...)
}

func exportLabels(l telemetry.Line) markup.HTML {
	var all []markup.HTML
	for _, name := range slices.Sorted(maps.Keys(l.Labels)) {
		all = append(all, ui.Element("span", "label", markup.Text(words.OneLine(name+"="+l.Labels[name]))), " ")
	}
	return markup.Join(all...)
}

// exportValue returns the number of a metric, of a histogram its count and mean, and of an event its fields.
func exportValue(l telemetry.Line) markup.HTML {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
	switch {
	case l.Event != "":
		var fields []string
		for _, name := range slices.Sorted(maps.Keys(l.Fields)) {
			fields = append(fields, fmt.Sprintf("%s=%v", name, l.Fields[name].Value))
		}
		return markup.Text(words.OneLine(strings.Join(fields, ", ")))
	case l.Value != nil:
		return markup.Text(number(*l.Value))
	case l.Count > 0:
		return markup.Text(fmt.Sprintf("%d, on average %s", l.Count, number(l.Sum/float64(l.Count))))
	}
	return "0"
}
