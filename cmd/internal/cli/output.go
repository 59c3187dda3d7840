package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

// The output forms of -o.
const (
	AsTable = "table"
	AsJSON  = "json"
	AsYAML  = "yaml"
)

// Colour is an ANSI colour; only Printer.Paint writes it.
type Colour string

const (
	Plain  Colour = ""
	Green  Colour = "32"
	Yellow Colour = "33"
	Red    Colour = "31"
	Faint  Colour = "2"
	Bold   Colour = "1"
)

// Printer writes to one stream, with colours only on a terminal and without NO_COLOR.
type Printer struct {
	io.Writer // a *trackedWriter, except in StatusText
	colours   bool
	Terminal  bool
	columns   int    // width of what shows it; 0: no limit, as in a file or a pipe, which others read
	rows      int    // height of the terminal; 0: not known
	indent    string // of each row of a table
}

// WithIndent returns p with the rows of its tables indented.
func (p Printer) WithIndent(by string) Printer {
	p.indent = by
	return p
}

// Columns returns the width of what shows p's output; 0: it has no limit.
func (p Printer) Columns() int { return p.columns }

func newPrinter(w io.Writer, getenv func(string) string) Printer {
	p := Printer{Writer: &trackedWriter{Writer: w}}
	if f, ok := w.(*os.File); ok {
		p.Terminal = term.IsTerminal(int(f.Fd()))
		if width, height, err := term.GetSize(int(f.Fd())); p.Terminal && err == nil {
			p.columns, p.rows = width, height
		}
	}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 && p.columns == 0 {
		p.columns = n // as a test or a pager says
	}
	p.colours = p.Terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return p
}

// Painted is clean text, perhaps in a colour; only Printer.Paint makes it.
type Painted string

// Paint returns s, cleaned, in a colour where p shows colours.
func (p Printer) Paint(c Colour, s string) Painted {
	s = cleantext.Line(s)
	if !p.colours || c == Plain || s == "" {
		return Painted(s)
	}
	return Painted("\x1b[" + string(c) + "m" + s + "\x1b[0m")
}

// trackedWriter remembers the first error of writing: on a full disk, output must not look complete.
type trackedWriter struct {
	io.Writer
	firstError atomic.Pointer[error] // atomic, as many goroutines log
}

func (w *trackedWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		w.firstError.CompareAndSwap(nil, &err)
	}
	return n, err
}

// writeError returns the first error of writing; nil: none.
func (p Printer) writeError() error {
	if w, ok := p.Writer.(*trackedWriter); ok {
		if err := w.firstError.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// PrintLine prints a line, folded where it is wider than the terminal. What an argument says may come from anyone, such
// as a cell's health command, so it is cleaned (R54): it neither controls the reader's terminal nor begins a line. Only
// Painted text keeps its colour.
func (p Printer) PrintLine(format string, args ...any) {
	clean := make([]any, len(args))
	for i, arg := range args {
		clean[i] = cleanArgument(arg)
	}
	fmt.Fprintln(p, p.fold(fmt.Sprintf(format, clean...)))
}

func cleanArgument(arg any) any {
	if painted, ok := arg.(Painted); ok {
		return string(painted)
	}
	switch v := reflect.ValueOf(arg); {
	case !v.IsValid(), v.CanInt(), v.CanUint(), v.CanFloat(), v.Kind() == reflect.Bool:
		return arg // a verb such as %d formats it
	}
	return cleantext.Line(fmt.Sprint(arg))
}

// PrintText prints text of several lines, each cleaned and after a prefix. Without a prefix, text from outside can
// begin a line, which CI systems may take for a command.
func (p Printer) PrintText(prefix, text string) {
	for line := range strings.Lines(cleantext.Text(text)) {
		fmt.Fprintln(p, foldLine(prefix+strings.TrimSuffix(line, "\n"), p.columns, prefix))
	}
}

// PrintEncoded prints v as JSON or YAML if -o asks for it; ok is false for a table, which the caller draws.
func (a *App) PrintEncoded(v any) (ok bool, err error) {
	if a.Output == AsTable {
		return false, nil
	}
	encoded, err := EncodeAs(a.Output, v)
	if err != nil {
		return true, err
	}
	_, err = a.Stdout.Write(encoded)
	return true, err
}

// PrintResult prints v in the form that -o names; draw draws the table.
func (a *App) PrintResult(v any, draw func()) error {
	if done, err := a.PrintEncoded(v); done {
		return err
	}
	draw()
	return nil
}

// EncodeAs returns v as JSON or YAML, as form says.
func EncodeAs(form string, v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("print as %s: %w", form, err)
	}
	if form == AsJSON {
		return cleantext.JSON(b.Bytes()), nil
	}
	// YAML is made from JSON, so that both have the same fields in the same order.
	var doc yaml.Node
	if err := yaml.Unmarshal(cleantext.YAML(b.Bytes()), &doc); err != nil {
		return nil, fmt.Errorf("print as yaml: %w", err)
	}
	blockStyle(&doc)
	b.Reset()
	y := yaml.NewEncoder(&b)
	y.SetIndent(2)
	if err := y.Encode(&doc); err != nil {
		return nil, fmt.Errorf("print as yaml: %w", err)
	}
	return cleantext.YAML(b.Bytes()), nil
}

// blockStyle makes the style that people read. Text that is not clean stays in double quotes, on one line.
func blockStyle(n *yaml.Node) {
	n.Style = 0 // the encoder still quotes what would read as another type
	if n.Kind == yaml.ScalarNode && cleantext.Line(n.Value) != n.Value {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// ShortID shortens an object id or a digest for people to compare.
func ShortID(id string) string {
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

// OrDash returns s, or a dash if s is empty.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Ago returns in words how long before now t was.
func Ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return FormatDuration(now.Sub(t))
}

// FormatDuration returns a length of time as verdicts have it: 42s, 3m10s, 5h2m, 100h.
func FormatDuration(d time.Duration) string {
	return words.FormatElapsed(max(d, 0).Round(time.Second))
}

// FormatTime returns an instant as tables show it.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}

// SortedKeys returns the keys of a map in order.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// WithUntil adds to a reason when it may end, if that is known, and how far away that is.
func WithUntil(reason string, t, now time.Time) string {
	if t.IsZero() {
		return reason
	}
	if at := t.Format(time.RFC3339); !strings.HasSuffix(reason, at) {
		reason += ", until " + at
	}
	if t.After(now) {
		reason += " (in " + FormatDuration(t.Sub(now)) + ")"
	}
	return reason
}

// FormatCounts returns in words how many are in which state.
func FormatCounts[S ~string](counts map[S]int, order []S) string {
	var parts []string
	for _, s := range order {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}
