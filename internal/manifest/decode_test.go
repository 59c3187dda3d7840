package manifest_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/manifest"
)

type example struct {
	Kind     string            `yaml:"kind" required:"true" enum:"Example"`
	Count    int               `yaml:"count" minimum:"1" maximum:"9"`
	Small    int8              `yaml:"small"`
	Size     uint              `yaml:"size"`
	Ratio    *float64          `yaml:"ratio" minimum:"0" maximum:"100"`
	On       bool              `yaml:"on"`
	For      time.Duration     `yaml:"for"`
	At       time.Time         `yaml:"at"`
	Colours  []string          `yaml:"colours" enum:"red,blue"`
	Words    colourWord        `yaml:"word"`
	Maybe    *colourWord       `yaml:"maybe"`
	Labels   map[string]string `yaml:"labels"`
	Inner    inner             `yaml:"inner"`
	Pointer  *inner            `yaml:"pointer"`
	List     []inner           `yaml:"list"`
	People   map[string]*inner `yaml:"people"`
	Any      any               `yaml:"any"`
	Values   map[string]any    `yaml:"values"`
	Hidden   string            `yaml:"-"`
	Untagged string
}

type inner struct {
	Name string `yaml:"name" required:"true"`
	Self *inner `yaml:"self"`
}

type colourWord string

func (w *colourWord) UnmarshalText(b []byte) error {
	if strings.ContainsAny(string(b), " ") {
		return fmt.Errorf("%q is more than a word", b)
	}
	*w = colourWord(b)
	return nil
}

func TestDecode(t *testing.T) {
	in := `# all there is
kind: Example
count: 3
small: -128
size: 0x10
ratio: 1.5
on: true
for: 7d
at: 2026-12-20T00:00:00+01:00
colours: [red, blue]
word: 1.20
maybe: x
labels: {a: b, "1": "2", date: 2026-01-01}
inner: &inner {name: n}
pointer: *inner
list:
  - name: a
    self: {name: b}
people:
  ada: {name: Ada}
  nobody:
any: [1, 2.5, x, true, null, {k: v}]
values: {n: 1}
`
	doc, faults := manifest.Decode[example]("x.yaml", []byte(in))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	ratio, maybe := 1.5, colourWord("x")
	want := example{
		Kind: "Example", Count: 3, Small: -128, Size: 16, Ratio: &ratio, On: true, For: 7 * 24 * time.Hour,
		At:      time.Date(2026, 12, 20, 0, 0, 0, 0, time.FixedZone("", 3600)),
		Colours: []string{"red", "blue"}, Words: "1.20", Maybe: &maybe,
		Labels: map[string]string{"a": "b", "1": "2", "date": "2026-01-01"},
		Inner:  inner{Name: "n"}, Pointer: &inner{Name: "n"},
		List:   []inner{{Name: "a", Self: &inner{Name: "b"}}},
		People: map[string]*inner{"ada": {Name: "Ada"}, "nobody": nil},
		Any:    []any{1, 2.5, "x", true, nil, map[string]any{"k": "v"}},
		Values: map[string]any{"n": 1},
	}
	if diff := cmp.Diff(want, doc.Value); diff != "" {
		t.Error(diff)
	}
}

// Fault 29: every mistake is reported with its line, all at once.
func TestDecodeFaults(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     []string // "line: message", sorted by line
	}{
		{"unknown field", "kind: Example\ncuont: 1\n", []string{`2: unknown field "cuont"; did you mean "count"?`}},
		{"unknown field, nothing near", "kind: Example\ninner: {name: a, zzzzzz: 1}\n",
			[]string{`2: unknown field "zzzzzz"; there are: name, self`}},
		{"case matters", "kind: Example\nCount: 1\n", []string{`2: unknown field "Count"; did you mean "count"?`}},
		{"hidden and untagged are unknown", "kind: Example\nHidden: a\nUntagged: b\n", []string{
			`2: unknown field "Hidden"; there are: ` + names, `3: unknown field "Untagged"; there are: ` + names}},
		{"duplicate key", "kind: Example\ncount: 1\ncount: 2\n", []string{`3: "count" is there twice`}},
		{"duplicate key in a map", "kind: Example\nlabels:\n  a: b\n  a: c\n", []string{`4: "a" is there twice`}},
		{"duplicate key in any", "kind: Example\nany:\n  a: b\n  a: c\n", []string{`4: "a" is there twice`}},
		{"missing", "count: 1\n", []string{"1: kind is required"}},
		{"null is missing", "kind: null\n", []string{"1: kind is required"}},
		{"empty is missing", "kind: \"\"\n", []string{"1: kind is required"}},
		{"missing below", "kind: Example\nlist:\n  - name: a\n  - self: {}\n",
			[]string{"4: list[1].name is required", "4: list[1].self.name is required"}},
		{"enum", "kind: Sample\ncolours: [red, green]\n",
			[]string{`1: kind must be Example, not "Sample"`, `2: colours must each be red or blue, not "green"`}},
		{"bounds", "kind: Example\ncount: 10\nratio: -1\n",
			[]string{"2: count must be at most 9, not 10", "3: ratio must be at least 0, not -1"}},
		{"wrong types",
			"kind: 1\ncount: x\nsmall: 128\nsize: -1\nratio: .nan\non: yes\nfor: 5\nat: 2026-12-20\ncolours: red\nlabels: [a]\ninner: a\nlist: {}\nword: [a]\n", []string{
				"1: kind must be text, not the number 1: put it in quotes",
				`2: count must be a whole number, not the text "x"`,
				"3: small must be a whole number, not the number 128",
				"4: size must be a whole number of at least 0, not the number -1",
				"5: ratio must be a number, not the number .nan",
				`6: on must be true or false, not the text "yes"`,
				`7: for must be a length of time such as 30m, 24h or 7d, not "5"`,
				`8: at must be an instant such as 2026-12-20T00:00:00Z (RFC 3339), not "2026-12-20"`,
				`9: colours must be a list, not the text "red"`,
				"10: labels must be a mapping, not a list",
				`11: inner must be a mapping of fields, not the text "a"`,
				"12: list must be a list, not a mapping",
				"13: word must be text, not a list",
			}},
		{"negative and endless durations", "kind: Example\nfor: -1h\n",
			[]string{`2: for must be a length of time such as 30m, 24h or 7d, not "-1h"`}},
		{"text's own error", "kind: Example\nword: a b\n", []string{`2: word: "a b" is more than a word`}},
		{"what JSON can't say", "kind: Example\nany: [.inf, 9007199254740993, !!binary aGk=, !x y]\n", []string{
			"2: any[0] must be a finite number, not the number .inf",
			"2: any[1] is a number too large to be exact: put it in quotes",
			"2: any[2] has a YAML tag (!!binary) that is not read", "2: any[3] has a YAML tag (!x) that is not read"}},
		{"empty list entry", "kind: Example\ncolours:\n  - red\n  -\n", []string{"4: colours[1] is empty"}},
		{"merge keys", "kind: Example\ninner: &a {name: x}\npointer: {<<: *a}\nlabels: {<<: {a: b}}\n", []string{
			"3: merge keys (<<) are not read: write the fields out", "3: pointer.name is required",
			"4: merge keys (<<) are not read: write the fields out"}},
		{"key that is no text", "kind: Example\n[a]: b\nlabels: {[a]: b, ? : c}\n",
			[]string{"2: a field's name must be text", "3: a key must be text"}},
		{"two documents", "kind: Example\n---\nkind: Example\n",
			[]string{"2: has more than one document: put each in a file of its own"}},
		{"second document broken", "kind: Example\n---\n[\n",
			[]string{"1: has more than one document: put each in a file of its own"}},
		{"empty", "", []string{"1: is empty"}},
		{"only a comment", "# nothing\n", []string{"1: is empty"}},
		{"null", "# nothing\n~\n", []string{"2: is empty"}},
		{"a list", "- a\n", []string{"1: the document must be a mapping of fields, not a list"}},
		{"not YAML", "kind: Example\n  a: b\n",
			[]string{"2: is not YAML: mapping values are not allowed in this context"}},
		{"not UTF-8", "kind: Example\nword: \xff\n", []string{"2: is not valid UTF-8"}},
		{"UTF-16", "\xff\xfek\x00", []string{"1: is not valid UTF-8"}},
		{"line separator", "kind: Example\nword: a\u2028b\n",
			[]string{"2: has the character U+2028, which breaks a line in YAML but not in an editor"}},
		{"too large", strings.Repeat("#", manifest.MaxFile+1), []string{"0: is larger than 1048576 bytes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, faults := manifest.Decode[example]("x.yaml", []byte(test.in))
			var got []string
			for _, f := range manifest.Sort(faults) {
				if f.File != "x.yaml" {
					t.Errorf("file %q", f.File)
				}
				got = append(got, fmt.Sprintf("%d: %s", f.Line, f.Message))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const names = "kind, count, small, size, ratio, on, for, at, colours, word, maybe, labels, inner, pointer, list, people, any, values"

// bombs are small files, or files of the allowed size, that take much memory or time to read.
var bombs = map[string]string{
	"billion laughs": billionLaughs(),
	"wide aliases": "kind: Example\nany: [&a [" + strings.Repeat("x,", 1000) + "]" + strings.Repeat(",*a", 15_000) +
		"]\n",
	"aliases":        "any: [&a x" + strings.Repeat(",*a", 300_000) + "]\n",
	"most lines":     strings.Repeat("x: 1\n", 19_000),
	"most anchors":   "any: [" + strings.Repeat("&a x, ", 19_000) + "]\n",
	"self reference": "kind: Example\nany: &a [*a]\n",
	"deep flow":      "any: " + strings.Repeat("[", 500_000),
	"deep mapping":   "any: " + strings.Repeat("{a: ", 200_000),
	"deep block":     "any:\n" + strings.Repeat("- ", 400_000) + "x\n",
	"deep indents":   indents(1000),
	"many anchors":   "any: [" + strings.Repeat("&a x, ", 150_000) + "]\n",
	"many faults":    strings.Repeat("x: 1\n", 200_000),
	"one long key":   strings.Repeat("k", 1_000_000) + ": 1\n",
	"one long line":  "kind: \"" + strings.Repeat("k", 1_000_000) + "\"\n",
	"many questions": strings.Repeat("? ", 500_000),
	"many quotes":    "any: [" + strings.Repeat("'',", 300_000) + "]\n",
	"tags":           strings.Repeat("!", 1_000_000),
	"control":        "kind: \x00\x01\x02\n",
}

func billionLaughs() string {
	var b strings.Builder
	b.WriteString("kind: Example\nany:\n  a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
	for c := 'b'; c <= 'z'; c++ {
		fmt.Fprintf(&b, "  %c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	return b.String()
}

func indents(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// Fault 29: a bomb is refused in few words. (BenchmarkBombs shows that this takes less than 100 ms.)
func TestDecodeRefusesBombs(t *testing.T) {
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			_, faults := manifest.Decode[example]("x.yaml", []byte(bomb))
			if !manifest.Fatal(faults) {
				t.Fatal("was accepted")
			}
			if len(faults) > 101 {
				t.Errorf("%d faults", len(faults))
			}
			for _, f := range faults {
				if len(f.String()) > 500 {
					t.Errorf("a fault of %d bytes: %.200s", len(f.String()), f)
				}
			}
		})
	}
}

func BenchmarkBombs(b *testing.B) {
	for name, bomb := range bombs {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			for b.Loop() {
				manifest.Decode[example]("x.yaml", []byte(bomb))
			}
		})
	}
}

func TestLine(t *testing.T) {
	in := "kind: Example\nlist:\n  - name: a\n  - name: b\n    self: {name: c}\nlabels:\n  a.b: c\nany: &x\n  k:\n    - 1\n    - 2\nvalues:\n  alias: *x\n"
	doc, faults := manifest.Decode[example]("x.yaml", []byte(in))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for path, want := range map[string]int{
		"": 1, "kind": 1, "list": 2, "list[0]": 3, "list[1]": 4, "list[1].self.name": 5, "labels[a.b]": 7,
		"any.k[1]":     11,
		"list[7].name": 2, "nothing.at.all": 1, "labels.missing": 6, "values.alias.k": 9, "list[x": 2,
	} {
		if got := doc.Line(path); got != want {
			t.Errorf("%s: line %d, want %d", path, got, want)
		}
	}
	var none *manifest.Doc[example]
	if none.Line("a") != 0 {
		t.Error("a nil document has lines")
	}
	f := doc.Fault(manifest.WrongValue, "list[1].name", "no %s", "way")
	if f.String() != "x.yaml:4: no way" || doc.Warning(manifest.Unused, "", "w").String() != "x.yaml:1: warning: w" {
		t.Error(f)
	}
}

func FuzzDecode(f *testing.F) {
	for _, bomb := range bombs {
		if len(bomb) < 4096 {
			f.Add([]byte(bomb))
		}
	}
	f.Add([]byte(cellYAML))
	f.Add([]byte("kind: Example\nlist: [{name: a}]\nany: {a: [1, ~]}\nfor: 1h\nat: 2026-12-20T00:00:00Z\n"))
	f.Add([]byte("a: &a [*a]\n---\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		doc, faults := manifest.Decode[example]("x.yaml", in)
		lines := bytes.Count(in, []byte("\n")) + bytes.Count(in, []byte("\r")) + 1
		for _, fault := range faults {
			if fault.File != "x.yaml" || fault.Message == "" || fault.Line > lines+1 {
				t.Errorf("%q in %d lines", fault, lines)
			}
		}
		if len(faults) == 0 && (doc.Value.Kind != "Example" || doc.Value.Ratio != nil && math.IsNaN(*doc.Value.Ratio)) {
			t.Errorf("%+v was accepted", doc.Value)
		}
		doc.Line(string(in[:min(20, len(in))]))
	})
}

// A tag alone does not make a bool: the decoder once read beyond the end of such a text.
func TestTaggedBools(t *testing.T) {
	for _, in := range []string{`!!bool ""`, "!!bool yes", "!!bool t"} {
		_, faults := manifest.Decode[struct {
			A bool `yaml:"a"`
			B any  `yaml:"b"`
		}]("x.yaml", []byte("a: "+in+"\nb: "+in+"\n"))
		if len(faults) != 2 {
			t.Errorf("%s: faults %v, want one each", in, faults)
		}
	}
}
