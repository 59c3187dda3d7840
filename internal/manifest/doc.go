package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// Doc is a decoded document, with the line of each of its fields.
type Doc[T any] struct {
	Value T
	File  string

	root *yaml.Node // nil if the document could not be parsed
}

// Decode reads one YAML document into a T, strictly. It always returns a Doc: with faults, the Doc holds what could be
// read. Fields are found by their yaml tags; a field without a tag, or with "-", is never read. Further tags:
// required:"true", enum:"a,b", minimum, maximum (numbers), positive:"true" (lengths of time that have a default), doc,
// empty (see RefuseEmpty). Null counts as absent. A type with UnmarshalText is read from any scalar's text.
func Decode[T any](file string, data []byte) (*Doc[T], []Fault) {
	doc := &Doc[T]{File: file}
	root, fault := parseDocument(file, data, maxEntries)
	if fault != nil {
		return doc, []Fault{*fault}
	}
	doc.root = root
	d := decoder{Checker: jsondoc.Checker{File: file, Limits: jsondoc.Limits{Depth: maxDepth}}}
	v := reflect.ValueOf(&doc.Value).Elem()
	if !d.decode(decodePlanOf(v.Type()), root, v) {
		d.fault(Missing, root, "is empty")
	}
	return doc, d.Faults
}

// Line returns the line of the field with a path such as "gates[1].window.zone" or, for a key with dots, "values[a.b]".
// A missing field has the line of the nearest field around it; 0 in a nil or empty Doc.
func (d *Doc[T]) Line(path string) int {
	if d == nil || d.root == nil {
		return 0
	}
	n, line := d.root, d.root.Line
	for path != "" {
		var key string
		key, path = cutPathKey(path)
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		child, at := findChild(n, key)
		if child == nil {
			return line
		}
		n, line = child, at
	}
	return line
}

// HasField reports whether the document has the field with that path, even if its value is zero.
func (d *Doc[T]) HasField(path string) bool {
	n := d.root
	for n != nil && path != "" {
		var key string
		key, path = cutPathKey(path)
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		n, _ = findChild(n, key)
	}
	return n != nil
}

// Fault returns a fault of the field with that path.
func (d *Doc[T]) Fault(code FaultCode, path, format string, args ...any) Fault {
	return Fault{File: d.File, Line: d.Line(path), Code: code, Message: fmt.Sprintf(format, args...)}
}

// Warning is Fault, but the fault stops nothing.
func (d *Doc[T]) Warning(code FaultCode, path, format string, args ...any) Fault {
	f := d.Fault(code, path, format, args...)
	f.Warning = true
	return f
}

// cutPathKey cuts the first key off a path.
func cutPathKey(path string) (key, rest string) {
	if path[0] == '[' {
		if end := strings.IndexByte(path, ']'); end > 0 {
			return path[1:end], strings.TrimPrefix(path[end+1:], ".")
		}
		return path[1:], ""
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, ""
	}
	return path[:end], strings.TrimPrefix(path[end:], ".")
}

// findChild returns the value below key, and the line of the key, or of the element of a sequence.
func findChild(n *yaml.Node, key string) (*yaml.Node, int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}

var yamlLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`) })

// parseDocument returns the root of the only document in data.
func parseDocument(file string, data []byte, maxEntries int) (root *yaml.Node, fault *Fault) {
	fail := func(code FaultCode, line int, format string, args ...any) (*yaml.Node, *Fault) {
		return nil, &Fault{File: file, Line: line, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	if len(data) > MaxFile {
		return fail(TooLarge, 0, "is larger than %d bytes", MaxFile)
	}
	if !utf8.Valid(data) {
		return fail(Encoding, jsondoc.InvalidLine(data), "is not valid UTF-8")
	}
	if countEntries(data) > maxEntries {
		return fail(TooLarge, 0, "has more than %d lines and entries", maxEntries)
	}
	for _, b := range lineBreaks {
		if i := bytes.Index(data, []byte(b)); i >= 0 {
			return fail(Encoding, 1+bytes.Count(data[:i], []byte("\n")),
				"has the character %U, which breaks a line in YAML but not in an editor", []rune(b)[0])
		}
	}
	if root := parsePlain(data); root != nil {
		return root, nil
	}
	return parseWithLibrary(file, data)
}

// parseWithLibrary parses any document.
func parseWithLibrary(file string, data []byte) (root *yaml.Node, fault *Fault) {
	fail := func(code FaultCode, line int, format string, args ...any) (*yaml.Node, *Fault) {
		return nil, &Fault{File: file, Line: line, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	defer func() {
		if r := recover(); r != nil { // the parser is a library's, and its input comes from outside
			root, fault = fail(Syntax, 0, "is not YAML that can be parsed: %v", r)
		}
	}()
	in := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := in.Decode(&first); {
	case errors.Is(err, io.EOF):
		return fail(Missing, 1, "is empty")
	case err != nil:
		m := yamlLine().FindStringSubmatch(err.Error())
		line, _ := strconv.Atoi(m[1])
		return fail(Syntax, max(line, 1), "is not YAML: %s", m[2])
	}
	if err := in.Decode(&second); !errors.Is(err, io.EOF) {
		return fail(Syntax, max(second.Line, 1), "has more than one document: put each in a file of its own")
	}
	return first.Content[0], nil
}

// maxEntries bounds the time that a file takes: the parser needs a microsecond or two for each line and each entry of a
// list, so a file of MaxFile bytes could take half a second.
const maxEntries = 20_000

// lineBreaks end a line in YAML only.
var lineBreaks = [...]string{"\u0085", "\u2028", "\u2029"}

// countEntries counts what may begin a line, an entry or a key. It overestimates, since text has commas too.
func countEntries(data []byte) int {
	n := 0
	for _, b := range [...]string{"\n", "\r", ",", "[", "{", "- ", "? "} {
		n += bytes.Count(data, []byte(b))
	}
	return n
}
