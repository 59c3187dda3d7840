package reason

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryCodeHasANameAndWords(t *testing.T) {
	silent := []Code{WindowOpen, NotFrozen} // the gate's name and the instant say all
	names := map[string]Code{}
	for _, c := range Codes() {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(c.String()) {
			t.Errorf("code %d has the name %q", uint8(c), c.String())
		}
		if other, twice := names[c.String()]; twice {
			t.Errorf("%d and %d are both called %s", uint8(other), uint8(c), c)
		}
		names[c.String()] = c
		if (table[c].format == "") != slices.Contains(silent, c) {
			t.Errorf("%s has the words %q", c, table[c].format)
		}
	}
}

func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		"frozen":              Frozen.Words(),
		"it is below 1.0.0":   Floor.Words("1.0.0"),
		"release 1 moves %s":  Quarantine.Words("release 1 moves %s"),
		"the answer was no":   AnswerNo.Words(),
		"the answer was no: ": AnswerNo.Words(""),
		"not asked yet":       AnswerMissing.Words(),

		"paused by its owner: ask the cell's owner": OwnerPaused.AfterName(OwnerPaused.Words("ask the cell's owner")),
		"paused by the cell's owner: no":            Hold.AfterName("paused by the cell's owner: no"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestText(t *testing.T) {
	for _, c := range Codes() {
		var back Code
		if name, err := c.MarshalText(); err != nil || back.UnmarshalText(name) != nil || back != c {
			t.Errorf("%s comes back as %s: %v", c, back, err)
		}
	}
	c := Hold
	if err := c.UnmarshalText([]byte("of-tomorrow")); err != nil || c != Unknown {
		t.Errorf("a newer program's code: %s, %v", c, err)
	}
	if codeCount.String() != "" || codeCount.Words() != "" || Unknown.String() != "" {
		t.Error("what is no code has a name")
	}
}

// docs/gates.md lists exactly the codes of this package, each with its words.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/gates.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Codes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		documented[row[1]] = row[2]
	}
	there, rows := map[string]string{}, []string{}
	for _, c := range Codes() {
		there[c.String()] = documentedWords(c)
		rows = append(rows, "| `"+c.String()+"` | "+there[c.String()]+" |")
	}
	if !maps.Equal(documented, there) {
		t.Errorf("docs/gates.md has other codes; these are there:\n%s", strings.Join(rows, "\n"))
	}
}

// documentedWords returns a code's words as docs/gates.md shows them, with … for arguments.
func documentedWords(c Code) string {
	words := regexp.MustCompile(`(%[sd])+`).ReplaceAllString(table[c].format, "…")
	switch {
	case words == "":
		return "(none: until when says all)"
	case table[c].formatWithoutArgs != "":
		return table[c].formatWithoutArgs + "; or: " + words
	}
	return words
}
