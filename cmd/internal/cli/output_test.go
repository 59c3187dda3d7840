package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/releases"
)

// R54: the output of a cell's health command appears in tables and messages: it neither controls the reader's terminal
// nor begins a line, which CI systems may take for a command.
func TestR54TerminalIsNotDrivenFromOutside(t *testing.T) {
	type name string
	for _, c := range []struct {
		format string
		arg    any
		want   string
	}{
		{"%s", "plain ü", "plain ü"},
		{"%s", "\x1b[32mhealthy\x1b[0m", `\x1b[32mhealthy\x1b[0m`},
		{"%s", "\x1b]0;title\x07 after", `\x1b]0;title\x07 after`},
		{"%s", "x\n::stop-commands::y", `x\n::stop-commands::y`},
		{"%v", errors.New("open x\n::error::y"), `open x\n::error::y`},
		{"%v", releases.Fault{File: "a\n::warning::b", Message: "c\u202e"}, `a\n::warning::b: c\u202e`},
		{"%v", []string{"a\rb"}, `[a\rb]`},
		{"%s", name("a\u009b2J"), `a\u009b2J`},
		{"%s", "fetch https://ci:s3cret@host/r", "fetch https://host/r"},
		{"%3d", 5, "  5"}, {"%v", true, "true"}, {"%v", nil, "<nil>"}, {"%v", 3 * time.Second, "3s"},
	} {
		var out bytes.Buffer
		Printer{Writer: &out}.PrintLine(c.format, c.arg)
		if out.String() != c.want+"\n" {
			t.Errorf("%#v is printed as %q, want %q", c.arg, out.String(), c.want)
		}
	}
	var out bytes.Buffer
	p := Printer{Writer: &out, colours: true}
	p.PrintLine("%s %s", p.Paint(Red, "a\x1b[0m\nb"), "\x1b[31mc")
	if got, want := out.String(), "\x1b[31m"+`a\x1b[0m\nb`+"\x1b[0m "+`\x1b[31mc`+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	out.Reset()
	Printer{Writer: &out}.PrintTable([]string{"A", "B"}, [][]Field{{Text("one\ntwo\x1b[2J"), Text("x")}})
	if got, want := out.String(), "A"+strings.Repeat(" ", 15)+"B\n"+`one two\x1b[2J  x`+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	out.Reset()
	Printer{Writer: &out}.PrintText("| ", "one\r\n::error::two\x1b[2J")
	if got, want := out.String(), "| one\n| ::error::two"+`\x1b[2J`+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// R54: an error of several lines, such as of a joined one, begins each with the program's name.
func TestR54ErrorsBeginNoLine(t *testing.T) {
	var said bytes.Buffer
	a := NewApp(nil, nil, &bytes.Buffer{}, &said)
	a.ReportError(Fail(errors.Join(errors.New("open a\n::error::b"), errors.New("\x1b[2Jc")), "see d\n::error::e"))
	want := "sluice: open a\nsluice: ::error::b\nsluice: " + `\x1b[2Jc` + "\nnext: " + `see d\n::error::e` + "\n"
	if said.String() != want {
		t.Errorf("got %q, want %q", said.String(), want)
	}
}

// R54: what -o yaml and -o json print means the same, and a terminal obeys none of it.
func TestR54EncodedOutput(t *testing.T) {
	text := "a\u202eb\U000e0041\u009b2J\x1b[2J\n::error::c"
	for form, decode := range map[string]func([]byte, any) error{AsJSON: json.Unmarshal, AsYAML: yaml.Unmarshal} {
		encoded, err := EncodeAs(form, map[string]string{"text": text})
		var back map[string]string
		if err := errors.Join(err, decode(encoded, &back)); err != nil || back["text"] != text {
			t.Errorf("%s: %q is %q, %v", form, encoded, back, err)
		}
		if strings.ContainsAny(string(encoded), "\u202e\u009b\x1b") || strings.Contains(string(encoded), "\n:") {
			t.Errorf("%s: %q is not clean", form, encoded)
		}
	}
}

// R54: the log shows what a message and its fields say, in JSON and on a terminal.
func TestR54Log(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var said bytes.Buffer
		a := NewApp(nil, nil, &bytes.Buffer{}, &said)
		a.Stderr.Terminal = terminal
		log := a.Logger()
		log.Warn().Str("hook", "\x1b[2J\u202e\u009b").Err(errors.New("fetch https://ci:s3cret@host/r: \x1b]0;x\x07")).
			Msg("it said\n\x1b[2J\u202ehttp://tok3n@host")
		if got := said.String(); strings.ContainsAny(got, "\x1b\x07\u202e\u009b") || strings.Count(got, "\n") != 1 ||
			strings.Contains(got, "s3cret") || strings.Contains(got, "tok3n") || !strings.Contains(got, `\u202e`) {
			t.Errorf("terminal %v: %q", terminal, got)
		}
	}
}

// Tables fit the terminal: the last column is wrapped beside the others or, where there is little room, below them.
func TestTablesFit(t *testing.T) {
	heading := []string{"CHANNEL", "RELEASE", "WAITS FOR"}
	rows := [][]Field{{Text("staging"), Text("2026.11.1"), Text("hold: the incident 512 of last Friday is not over yet")},
		{Text("dedicated"), Text("-"), Text("")}}
	for _, c := range []struct {
		columns int
		want    string
	}{
		{0, "CHANNEL    RELEASE    WAITS FOR\n" +
			"staging    2026.11.1  hold: the incident 512 of last Friday is not over yet\ndedicated  -\n"},
		{60, "CHANNEL    RELEASE    WAITS FOR\n" +
			"staging    2026.11.1  hold: the incident 512 of last Friday\n                      is not over yet\ndedicated  -\n"},
		{30, "CHANNEL    RELEASE\n  WAITS FOR\n" +
			"staging    2026.11.1\n  hold: the incident 512 of\n  last Friday is not over yet\ndedicated  -\n"},
	} {
		var out bytes.Buffer
		Printer{Writer: &out, columns: c.columns}.PrintTable(heading, rows)
		if out.String() != c.want {
			t.Errorf("%d columns:\n%s\nwant\n%s", c.columns, out.String(), c.want)
		}
		for line := range strings.Lines(out.String()) {
			if c.columns > 0 && len(line) > c.columns+1 {
				t.Errorf("%d columns: %q is %d wide", c.columns, line, len(line)-1)
			}
		}
	}
}

// No field makes a line wider than the terminal: neither a long name nor a word longer than a line.
func TestLongFieldsFit(t *testing.T) {
	heading := []string{"CELL", "CHANNEL", "RELEASE", "NOTE"}
	name, digest := strings.Repeat("eu-central-", 7)+"1", "sha256:"+strings.Repeat("0123456789abcdef", 4)
	rows := [][]Field{{Text("acme"), Text(name), Text("1.0.0"), Text("waits")},
		{Text(name), Text("x"), Text(digest), Text("")},
		{Text("b"), Text("staging"), Text("1.0.0"), Text("has " + digest + " as of now")}}
	for _, columns := range []int{30, 60, 100} {
		for _, indent := range []string{"", "    "} {
			var out bytes.Buffer
			Printer{Writer: &out, columns: columns, indent: indent}.PrintTable(heading, rows)
			for line := range strings.Lines(out.String()) {
				if len(line) > columns+1 {
					t.Errorf("%d columns: %q is %d wide", columns, line, len(line)-1)
				}
			}
			joined := strings.Join(strings.Fields(out.String()), "")
			for _, want := range []string{name + "1.0.0", digest, "has" + digest + "asofnow", "1.0.0waits"} {
				if !strings.Contains(joined, want) {
					t.Errorf("%d columns: %s is missing:\n%s", columns, want, out.String())
				}
			}
		}
	}
}

// What is redrawn in place stays on the screen.
func TestRedrawnTextFitsTheScreen(t *testing.T) {
	p := Printer{columns: 10, rows: 6}
	if got := p.FitScreen("a\nb\n", "more"); got != "a\nb\n" {
		t.Errorf("%q", got)
	}
	want := "a\n\x1b[31m01234567890123456789\x1b[0m\nc\n2 more lines: more\n"
	if got := p.FitScreen("a\n\x1b[31m01234567890123456789\x1b[0m\nc\nd\ne\n", "more"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
