package console

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// cellTerm begins the term of a typed context that names a cell; the other terms are the caller's own.
const cellTerm = "cell:"

// question is what somebody typed on a flag's page: a caller's context, and perhaps a cell.
type question struct {
	cell    string
	context flags.Context
	wrong   string // why it can't be asked; empty: it can
}

// parseQuestion parses terms such as "cell:acme plan=pro targetingKey=u1". A value is read as the command line reads
// it.
func parseQuestion(text string) question {
	q := question{context: flags.Context{}}
	for _, term := range splitTerms(text) {
		if cell, ok := strings.CutPrefix(term, cellTerm); ok {
			q.cell = cell
			continue
		}
		name, value, ok := strings.Cut(term, "=")
		if !ok || name == "" {
			q.wrong = fmt.Sprintf("%q is neither NAME=VALUE nor %sNAME", term, cellTerm)
			return q
		}
		q.context[name] = flags.TypedValue(name, value)
	}
	return q
}

// splitTerms splits at spaces outside of double quotes, which are left out.
func splitTerms(text string) []string {
	quoted := false
	terms := strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	for i, t := range terms {
		terms[i] = strings.ReplaceAll(t, `"`, "")
	}
	return terms
}

// whoSees renders what a caller with a typed context would get of a flag: in the cell that is named or, without one, in
// the first cell of each channel.
func whoSees(m *Model, p *Page) {
	a := p.Address
	ask := markup.Element("form", markup.Attributes{"class", "filter", "action", Address{Kind: a.Kind,
		Name: a.Name}.String()},
		markup.Element("label", markup.Attributes{"for", "context"}, "Context"),
		markup.Void("input", "id", "context", "name", "q", "type", "text", "value", a.Filter, "maxlength",
			strconv.Itoa(maxFilter), "autocomplete", "off", "spellcheck", "false", "placeholder",
			"targetingKey=ada plan=pro cell:acme", "aria-describedby", "context-hint"),
		markup.Element("button", nil, "Evaluate"),
		markup.Element("p", markup.Attributes{"class", "soft", "id", "context-hint"},
			"What a caller sends, as NAME=VALUE, values with spaces in quotes; with cell:NAME as in that cell, "+
				"else as in the first cell of each channel"))
	parts := []markup.HTML{ui.Subheading("Who would see it"), ask}
	if a.Filter == "" {
		p.add("who", parts...)
		return
	}
	q := parseQuestion(a.Filter)
	var rows [][]markup.HTML
	for _, name := range m.askedCells(&q) {
		rows = append(rows, m.answerIn(name, a.Name, q.context))
	}
	if q.wrong != "" {
		parts = append(parts, ui.Alert("failing", "It can't be evaluated", q.wrong, ""))
	} else {
		parts = append(parts, ui.Table("Who would see it", []string{"Cell", "Channel", "Value", "Variant", "Reason",
			"Why"},
			rows))
	}
	args := []string{"sluice", "flag", "eval", a.Name}
	for _, term := range splitTerms(a.Filter) {
		if cell, ok := strings.CutPrefix(term, cellTerm); ok {
			args = append(args, "--cell", cell)
		} else {
			args = append(args, "--context", term)
		}
	}
	p.add("who", append(parts, ui.Command(words.Shell(args...)))...)
}

// askedCells returns the cells in which the flag is evaluated.
func (m *Model) askedCells(q *question) (names []string) {
	switch {
	case q.wrong != "":
		return nil
	case q.cell != "" && m.view.Desired.Cells[q.cell] == nil:
		q.wrong = fmt.Sprintf("there is no cell %q", q.cell)
		return nil
	case q.cell != "":
		return []string{q.cell}
	}
	for _, channel := range m.view.Desired.Order[:min(len(m.view.Desired.Order), pageRows)] {
		if cells := m.view.Desired.Channels[channel].Cells; len(cells) > 0 {
			names = append(names, cells[0].Name)
		}
	}
	if len(names) == 0 {
		q.wrong = "there is no cell"
	}
	return names
}

// answerIn evaluates a flag in a cell, as the cell itself does: of its own bundle, with its facts, as of the plan.
func (m *Model) answerIn(name, key string, caller flags.Context) []markup.HTML {
	cell := m.view.Desired.Cells[name]
	row := []markup.HTML{link(Cell, name), link(Channel, cell.Channel)}
	sent := m.view.Flags.Plan.CellFlags[name]
	if sent == nil || sent.Bundle == nil {
		return append(row, ui.Soft("unknown"), "", "", markup.Text("nothing is known of the flags of "+cell.Channel))
	}
	compiled, err := flags.Compile(sent.Bundle)
	if err != nil {
		return append(row, ui.Soft("unknown"), "", "", markup.Text(words.OneLine(err.Error())))
	}
	at := flags.Instant(m.view.Plan.Now)
	r := compiled.Fold(sent.Orders, m.factsOf(name), at).Evaluate(key, caller, at)
	value, err := json.Marshal(r.Value)
	if err != nil || r.Value == nil {
		value = []byte("the caller's default")
	}
	return append(row, ui.Code(words.Clip(string(value), 200)), ui.Text(r.Variant),
		ui.Text(strings.TrimSpace(string(r.Reason)+" "+string(r.Error))), markup.Text(m.whyValue(name, key, r)))
}

// factsOf returns what rules may use of a cell: what it reported or, before it has reported, what its channel is at.
func (m *Model) factsOf(name string) flags.Facts {
	d := m.view.Desired
	cell := d.Cells[name]
	f := flags.Facts{Cell: name, Channel: cell.Channel, Labels: cell.Labels, Region: cell.Labels["region"]}
	if s := m.view.Observed.Cells[name]; s != nil {
		f.Release = s.Release
		if s.Owner != nil {
			f.Held = s.Owner.Features
		}
	}
	if c := d.Channels[cell.Channel]; f.Release == "" && c != nil && c.Effective != nil {
		f.Release = c.Effective.Release
	}
	if r := d.Releases[f.Release]; r != nil {
		f.Features = slices.Sorted(slices.Values(r.Features))
	}
	return f
}

// whyValue says why a flag is as it is in the cell, whoever asks.
func (m *Model) whyValue(cell, key string, r flags.Result) (why string) {
	if r.Message != "" {
		return words.OneLine(r.Message)
	}
	if x := m.index(); x != nil { // the caller holds its lock
		why = x.InCell(key, cell).Why
	}
	return words.OneLine(why)
}

// confirmedLine says in one sentence how far a kill has come.
func confirmedLine(all []view.FlagKill) markup.HTML {
	if len(all) == 0 {
		return ""
	}
	k := all[0]
	shape, said := "passed", fmt.Sprintf("Killed: confirmed by all of %s", ui.Counted(k.Cells, "cell"))
	if k.Confirmed < k.Cells {
		shape, said = "failing", fmt.Sprintf("Killed: confirmed by %s of %s, %s out of contact",
			ui.Thousands(k.Confirmed),
			ui.Counted(k.Cells, "cell"), ui.Thousands(len(k.Offline)))
	}
	parts := []markup.HTML{ui.State(shape, said)}
	if !k.Until.IsZero() {
		parts = append(parts, ui.Soft(", to be looked at again "), ui.Instant(k.Until))
	}
	return ui.Paragraph("urgent", parts...)
}
