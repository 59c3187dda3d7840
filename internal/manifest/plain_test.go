package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// dumpNode writes the fields of a node that the decoder reads, and its children.
func dumpNode(b *strings.Builder, n *yaml.Node) {
	fmt.Fprintf(b, "%d %d %s %q\n", n.Kind, n.Line, n.ShortTag(), n.Value)
	if n.Kind == yaml.ScalarNode && n.Style == 0 != (n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0) {
		b.WriteString("quoted\n")
	}
	for _, c := range n.Content {
		dumpNode(b, c)
	}
	b.WriteString("end\n")
}

// checkPlainAgainstLibrary reports whether parsePlain reads a document, and fails if the library reads it otherwise.
func checkPlainAgainstLibrary(t interface{ Fatalf(string, ...any) }, in string) bool {
	root := parsePlain([]byte(in))
	if root == nil {
		return false
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(in), &doc); err != nil || len(doc.Content) != 1 {
		t.Fatalf("read as plain, but the library says %v:\n%s", err, in)
	}
	var ours, theirs strings.Builder
	dumpNode(&ours, root)
	dumpNode(&theirs, doc.Content[0])
	if ours.String() != theirs.String() {
		t.Fatalf("%s\nread as plain:\n%s\nby the library:\n%s", in, ours.String(), theirs.String())
	}
	return true
}

// plainDocuments are documents that parsePlain reads.
var plainDocuments = []string{
	"apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\nvalues:\n  domain: a.example.com\n  replicas: 3\nlabels: {region: eu-1}\n",
	"# about\na:\n- b\n- c: d\n  e: f\n\n  # within\n  g:\n    h: 1\n",
	"a:\n  - [x, \"y: z\", 'w', {}, []]\n  - {b: [1, 2.5], c: {d: true}}\n",
	"a:\nb: null\nc: {d: null}\n",
	"from: 2026-12-20T00:00:00Z\nurl: https://x.example/y\n",
	"text: some words, with a comma (and more)\nempty: {}\n",
	"- a\n- b\n",
	"a: 0x10\nb: 010\nc: 1e3\nd: 1_000\ne: .5\nf: yes\ng: 12:30\nh: .nan\n",
	"a.b/c-d_e: x\ntrue: y\n",
	"\"on\": true\n'off': {\"a b\": 1, '<=': [x]}\n$ref: y\nz:\n  - \">=\": [{var: a}, \"2\"]\n    \"\": q\n  - \"c\"\n  - '$d': e\n",
}

func TestPlainReadsAsTheLibrary(t *testing.T) {
	for _, in := range plainDocuments {
		if !checkPlainAgainstLibrary(t, in) {
			t.Errorf("not read as plain:\n%s", in)
		}
	}
}

// parsePlain leaves everything else to the library, even what looks nearly plain.
func TestPlainGivesUp(t *testing.T) {
	for _, in := range []string{
		"", "a", "a: b\n  c\n", "a: b\n  c: d\n", "a: &x b\n", "a: *x\n", "a: !t b\n", "a: |\n  b\n", "a: >\n  b\n",
		"a: b # c\n", "a: \"b\\n\"\n",
		"a: 'it''s'\n", "a: b: c\n", "? a\n: b\n", "---\na: b\n", "a: b\n...\n", "a:\tb\n", "a: ü\n", "a: {b: c\n",
		"a: {b}\n", "a: [b, ]\n", "a: [b: c]\n",
		"a: {b: c,}\n", "a:\n   b: c\n  d: e\n", " a: b\n", "a: b\n c: d\n", "\"a\\n\": b\n", "'a''b': c\n",
		"\"a\":b\n", "\"a\" : b\n", "\"a: b\n", "a: {\"b\" : c}\n", "<<: b\n", "a: -1\n", "- - a\n",
		"-\n", "a: [b] c\n", "a: \"b\" c\n",
		"a: b\r\n", "a: b \n", "{a: b}\n", "a: {\"b\":c}\n", "1: a\n", "a: @b\n", "a: %b\n", "a: `b\n", "a:\n- b\nc\n",
		"a: b\n- c\n",
		"a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n",
	} {
		if parsePlain([]byte(in)) != nil {
			t.Errorf("read as plain: %q", in)
		}
	}
}

// Random documents of YAML's building blocks.
func TestPlainReadsAsTheLibraryWhateverThePieces(t *testing.T) {
	pieces := []string{
		"a: ", "b:", "- ", "-", "\n", "\n", "\n  ", "\n    ", " ", "  ", "{", "}", "[", "]", ", ", ",", ": ",
		":", "\"", "'", "# ", "x", "y z", "true", "null", "1", "2.5", "0o7",
		".", "/", "<", ">", "~", "=", "(", "2026-01-01", "http://x", "a: b\n", "c: {d: e}\n", "- f\n", "- g: h\n",
		"<<", "$", "^", ";", "@", "+",
		"\"k\": ", "'k l': ", "$r: ", "\"\": ", "\"<=\":",
	}
	read := 0
	rapid.Check(t, func(rt *rapid.T) {
		in := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 14).Draw(rt, "pieces"), "")
		for _, d := range []string{in, "a: b\nc: " + in, "a: {c: " + in + "}\n", "a: [c, " + in + "]\n",
			"a:\n  - " + in} {
			if checkPlainAgainstLibrary(rt, d) {
				read++
			}
		}
	})
	if read == 0 {
		t.Error("none was read as plain")
	}
	t.Logf("%d were read as plain", read)
}

func FuzzPlain(f *testing.F) {
	for _, in := range plainDocuments {
		f.Add(in)
	}
	seeds, _ := filepath.Glob(filepath.Join("..", "..", "fixtures", "*", "*.yaml"))
	for _, name := range seeds {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(string(b))
		}
	}
	f.Fuzz(func(t *testing.T, in string) { checkPlainAgainstLibrary(t, in) })
}

func BenchmarkParse(b *testing.B) {
	for name, parse := range map[string]func([]byte) *yaml.Node{
		"plain":   parsePlain,
		"library": func(b []byte) *yaml.Node { n, _ := parseWithLibrary("x", b); return n },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if parse([]byte(plainDocuments[0])) == nil {
					b.Fatal("not read")
				}
			}
		})
	}
}
