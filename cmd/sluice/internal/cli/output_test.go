package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// The output of a cell's health command appears in tables and messages: it must not control the reader's
// terminal.
func TestTerminalIsNotDrivenFromOutside(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\nü":             "plain\ttext\nü",
		"\x1b[32mgreen\x1b[0m":       "\x1b[32mgreen\x1b[0m",
		"\x1b]0;title\x07 after":     "]0;title after",
		"\x1b[2Jgone\r":              "[2Jgone",
		"a\x1b[8mhidden\x1b[30;40mb": "ahiddenb",
		"\u009b2J\u202egpj.exe":      "2Jgpj.exe",
	} {
		if got := stripControls(in); got != want {
			t.Errorf("harmless(%q) = %q, want %q", in, got, want)
		}
	}
	var out bytes.Buffer
	Printer{Writer: &out}.PrintTable([]string{"A"}, [][]Field{{Text("\x1b[31mno\x1b[0m")}})
	Printer{Writer: &out}.PrintLine("%s", "\x1b[32mhealthy\x1b[0m")
	if got, want := out.String(), "A\nno\nhealthy\n"; got != want {
		t.Errorf("a cell's own colours: %q, want %q", got, want)
	}
	out.Reset()
	Printer{Writer: &out}.PrintTable([]string{"A", "B"}, [][]Field{{Text("one\ntwo\x1b[2J"), Text("x")}})
	if got, want := out.String(), fmt.Sprintf("A%sB\none two[2J  x\n", strings.Repeat(" ", 11)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
