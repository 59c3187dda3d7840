package cli

import (
	"bytes"
	"strings"
	"testing"
)

// Sentences are folded between words; what people copy, and output that no terminal shows, stays as it is.
func TestSentencesFitTheTerminal(t *testing.T) {
	const long = "channel dedicated waits for the approval of a person who is on holiday"
	print := func(columns int, format string, args ...any) string {
		var b bytes.Buffer
		Printer{Writer: &b, columns: columns, colours: true}.PrintLine(format, args...)
		return b.String()
	}
	for _, c := range []struct{ got, want string }{
		{print(0, "%s", long), long + "\n"},
		{print(200, "%s", long), long + "\n"},
		{print(40, "%s", long), "channel dedicated waits for the approval\n  of a person who is on holiday\n"},
		{print(40, "  %s", long), "  " + long + "\n"},
		{print(40, "next: %s", long), "next: " + long + "\n"},
		{print(20, "see https://host.example/a/long/address and on"),
			"see\n  https://host.example/a/long/address\n  and on\n"},
		{print(40, "\n%s", long), "\nchannel dedicated waits for the approval\n  of a person who is on holiday\n"},
	} {
		if c.got != c.want {
			t.Errorf("printed\n%q, want\n%q", c.got, c.want)
		}
	}
	p := Printer{Writer: new(bytes.Buffer), columns: 20, colours: true}
	p.PrintLine("%s and then some more words", p.Paint(Red, "killed: one"))
	got, want := p.Writer.(*bytes.Buffer).String(), "\x1b[31mkilled: one\x1b[0m and then\n  some more words\n"
	if got != want {
		t.Errorf("a colour counts as width: %q, want %q", got, want)
	}
	// Each line of an error begins with the program's name, so that nothing from outside does.
	var b bytes.Buffer
	Printer{Writer: &b, columns: 24}.PrintText("sluice: ", "read it: ::error::x and more of it\n")
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "sluice: ") {
			t.Errorf("a line begins with text from outside: %q", b.String())
		}
	}
}

// Paragraphs of help are filled, lists go on below their explanations, examples stay whole.
func TestFitHelp(t *testing.T) {
	const help = "Waits until the channel has the release and\nit is healthy.\n\nUsage:\n  sluice wait CHANNEL\n\n" +
		"Examples:\n  sluice wait dedicated 2026.11.3 --server http://127.0.0.1:7600\n\n" +
		"Available Commands:\n  halt        Stop the rollout of a channel's head\n"
	const want = "Waits until the channel has the\nrelease and it is healthy.\n\nUsage:\n  sluice wait CHANNEL\n\n" +
		"Examples:\n  sluice wait dedicated 2026.11.3 --server http://127.0.0.1:7600\n\n" +
		"Available Commands:\n  halt        Stop the rollout of\n              a channel's head\n"
	if got := FitHelp(help, 34); got != want {
		t.Errorf("help is\n%s\nwant\n%s", got, want)
	}
	if got := FitHelp(help, 0); got != help {
		t.Errorf("without a terminal, help is\n%s", got)
	}
}
