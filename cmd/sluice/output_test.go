package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// fullDisk takes so many bytes and no more.
type fullDisk struct{ room int }

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(d.room, len(b))
	d.room -= n
	if n < len(b) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// An answer that is cut short is no success, in whatever form.
func TestAnswerThatCannotBeWrittenFails(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"help"}, {"version", "-o", "json"}, {"completion", "bash"}} {
		for _, room := range []int{0, 3} {
			var said bytes.Buffer
			if code := run(context.Background(), args, os.Environ(), nil, &fullDisk{room}, &said); code != exitFailed {
				t.Errorf("%v: exit code %d, want %d", args, code, exitFailed)
			}
			if !strings.Contains(said.String(), "no space left on device") {
				t.Errorf("%v: said %q", args, said.String())
			}
		}
	}
}

// What a cell's health command prints ends up in tables and messages: it must not drive the reader's terminal.
func TestTerminalIsNotDrivenFromOutside(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\nü":             "plain\ttext\nü",
		"\x1b[32mgreen\x1b[0m":       "\x1b[32mgreen\x1b[0m",
		"\x1b]0;title\x07 after":     "]0;title after",
		"\x1b[2Jgone\r":              "[2Jgone",
		"a\x1b[8mhidden\x1b[30;40mb": "ahiddenb",
		"\u009b2J\u202egpj.exe":      "2Jgpj.exe",
	} {
		if got := harmless(in); got != want {
			t.Errorf("harmless(%q) = %q, want %q", in, got, want)
		}
	}
	var out bytes.Buffer
	printer{Writer: &out}.table([]string{"A"}, [][]field{{text("\x1b[31mno\x1b[0m")}})
	printer{Writer: &out}.line("%s", "\x1b[32mhealthy\x1b[0m")
	if got, want := out.String(), "A\nno\nhealthy\n"; got != want {
		t.Errorf("a cell's own colours: %q, want %q", got, want)
	}
	out.Reset()
	printer{Writer: &out}.table([]string{"A", "B"}, [][]field{{text("one\ntwo\x1b[2J"), text("x")}})
	if got, want := out.String(), fmt.Sprintf("A%sB\none two[2J  x\n", strings.Repeat(" ", 11)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
