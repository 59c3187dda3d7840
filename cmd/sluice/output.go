package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"
)

// The forms that -o names.
const (
	asTable = "table"
	asJSON  = "json"
	asYAML  = "yaml"
)

// colour is an ANSI colour; only printer.paint writes it.
type colour string

const (
	plain  colour = ""
	green  colour = "32"
	yellow colour = "33"
	red    colour = "31"
	faint  colour = "2"
	bold   colour = "1"
)

// printer writes to one stream, with colours only where a person looks at a terminal and has not set NO_COLOR.
type printer struct {
	io.Writer // a *watched, but where something is drawn first
	colours   bool
	terminal  bool
	indent    string // before each row of a table
}

func (p printer) indented(by string) printer {
	p.indent = by
	return p
}

func newPrinter(w io.Writer, getenv func(string) string) printer {
	p := printer{Writer: &watched{Writer: w}}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	p.colours = p.terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return p
}

func (p printer) paint(c colour, s string) string {
	if !p.colours || c == plain || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// watched remembers the first write that failed: on a full disk an answer must not look complete.
type watched struct {
	io.Writer
	failed atomic.Pointer[error] // the log is written from many goroutines
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		w.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// failed is the first error of writing; nil: all was written.
func (p printer) failed() error {
	if w, ok := p.Writer.(*watched); ok {
		if err := w.failed.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// line prints one line, or several if a text has them.
func (p printer) line(format string, args ...any) {
	text := harmless(fmt.Sprintf(format, args...))
	if !p.colours {
		text = painted.ReplaceAllString(text, "") // not of this printer's making
	}
	fmt.Fprintln(p, text)
}

// painted finds what paint writes.
var painted = regexp.MustCompile(`\x1b\[(?:0|1|2|31|32|33)m`)

// control finds what a terminal would obey or hide. What paint writes and line ends are let through: the first group. Other
// such sequences could make text that nobody sees.
var control = regexp.MustCompile(`(\x1b\[(?:0|1|2|31|32|33)m|[\n\t])|\x1b\[[0-9;]*m|[\x00-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]`)

// harmless is text that may come from anyone, a cell's health command for instance, without what would drive the
// reader's terminal.
func harmless(s string) string {
	if !control.MatchString(s) {
		return s
	}
	return control.ReplaceAllString(s, "$1")
}

// field is one field of a table.
type field struct {
	text   string
	colour colour
}

func text(s string) field { return field{text: s} }

// table prints rows under a heading, columns as wide as their widest field, the last one unpadded.
func (p printer) table(heading []string, rows [][]field) {
	all := make([][]field, 0, len(rows)+1)
	top := make([]field, len(heading))
	for i, h := range heading {
		top[i] = field{h, faint}
	}
	all = append(all, top)
	for _, row := range rows {
		one := make([]field, len(row))
		for i, f := range row {
			one[i] = field{painted.ReplaceAllString(harmless(strings.Join(strings.Fields(f.text), " ")), ""), f.colour} // a row is one line
		}
		all = append(all, one)
	}
	widths := make([]int, len(heading))
	for _, row := range all {
		for i, f := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(f.text))
		}
	}
	for _, row := range all {
		var b strings.Builder
		b.WriteString(p.indent)
		pad := 0
		for i, f := range row {
			if f.text != "" {
				b.WriteString(strings.Repeat(" ", pad))
				b.WriteString(p.paint(f.colour, f.text))
				pad = 0
			}
			pad += widths[i] - utf8.RuneCountInString(f.text) + 2
		}
		fmt.Fprintln(p, b.String())
	}
}

// encode prints v in the form that -o asked for; ok is false if that is a table, which the caller draws.
func (a *app) encode(v any) (ok bool, err error) {
	if a.output == asTable {
		return false, nil
	}
	encoded, err := encodeAs(a.output, v)
	if err != nil {
		return true, err
	}
	_, err = a.stdout.Write(encoded)
	return true, err
}

func encodeAs(form string, v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("print as %s: %w", form, err)
	}
	if form == asJSON {
		return b.Bytes(), nil
	}
	// YAML goes by way of JSON, so that both have the same fields in the same order.
	var doc yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &doc); err != nil {
		return nil, fmt.Errorf("print as yaml: %w", err)
	}
	blockStyle(&doc)
	b.Reset()
	y := yaml.NewEncoder(&b)
	y.SetIndent(2)
	if err := y.Encode(&doc); err != nil {
		return nil, fmt.Errorf("print as yaml: %w", err)
	}
	return b.Bytes(), nil
}

func blockStyle(n *yaml.Node) {
	n.Style = 0 // the encoder still quotes what would read as another type
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// short cuts object ids and digests to what people compare by eye.
func short(id string) string {
	const keep = 10
	prefix, rest, ok := strings.Cut(id, ":")
	if !ok {
		prefix, rest = "", id
	} else {
		prefix += ":"
	}
	if len(rest) > keep {
		rest = rest[:keep]
	}
	return prefix + rest
}

// orDash stands in for what there is not.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ago says how long before now t was, in two units at the most.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(now.Sub(t))
}

// span says a duration as people do: 42s, 3m10s, 5h02m, 3d04h.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// stamp says an instant as tables show it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}
