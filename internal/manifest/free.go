package manifest

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Node is a value of a free-form document, one whose fields are not known beforehand, and where it stands.
type Node struct {
	Line  int
	Value any // nil, bool, float64, string, []Node or Members
}

// Members are a mapping's, in the document's order, no key twice.
type Members []Member

// Member is a key, where it stands, and its value.
type Member struct {
	Key  string
	Line int
	Node
}

// Get gives the member with that key, nil if there is none.
func (m Members) Get(key string) *Member {
	for i := range m {
		if m[i].Key == key {
			return &m[i]
		}
	}
	return nil
}

// FreeLimits bounds a free-form document.
type FreeLimits struct {
	Entries int // lines and entries; see parse
	Depth   int // of lists and mappings in each other
	Text    int // bytes of one text or key
}

// maxNumber bounds the text of a number, in bytes. No number that a float64 tells apart from its neighbours needs more.
const maxNumber = 64

// Free reads a document that consists of what JSON can say: JSON if the file's name ends in .json, else YAML, whose numbers
// become float64 as JSON's do. What the two would not say alike is a fault: dates without quotes, keys that are not text, tags.
// With faults it returns what could be read; the zero Node of what is neither, or beyond the limits.
func Free(file string, data []byte, limits FreeLimits) (root Node, faults []Fault) {
	f := freeReader{decoder: decoder{file: file}, limits: limits}
	if strings.HasSuffix(file, ".json") {
		root = f.json(data)
	} else {
		n, fault := parse(file, data, limits.Entries)
		if fault != nil {
			return Node{}, []Fault{*fault}
		}
		root = f.yaml(n)
	}
	if f.stopped {
		root = Node{}
	}
	return root, f.faults
}

type freeReader struct {
	decoder
	limits FreeLimits
}

// enter counts a list or mapping; the caller leaves it by depth--.
func (f *freeReader) enter(line int) bool {
	f.depth++
	if f.depth > f.limits.Depth && !f.stopped {
		f.at(line, "nests deeper than %d levels", f.limits.Depth)
		f.stopped = true
	}
	return !f.stopped
}

func (f *freeReader) at(line int, format string, args ...any) {
	f.fault(&yaml.Node{Line: line}, format, args...)
}

func (f *freeReader) warn(line int, format string, args ...any) {
	if len(f.faults) < maxFaults {
		f.faults = append(f.faults, Fault{File: f.file, Line: line, Message: fmt.Sprintf(format, args...), Warning: true})
	}
}

func (f *freeReader) text(s string, line int) string {
	if len(s) > f.limits.Text {
		f.at(line, "has a text of %d bytes: at most %d are read", len(s), f.limits.Text)
		return ""
	}
	return s
}

// number reads a decimal number. An integer that a float64 can't hold is worth a warning: it is not what was written.
func (f *freeReader) number(s string, line int) any {
	if len(s) > maxNumber {
		f.at(line, "has a number of %d digits: at most %d are read", len(s), maxNumber)
		return nil
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		f.at(line, "%s is a number beyond what can be represented", clip(s))
		return nil
	}
	if math.Abs(x) >= maxInteger && !strings.ContainsAny(s, ".eE") && strconv.FormatFloat(x, 'f', 0, 64) != strings.TrimPrefix(s, "+") {
		f.warn(line, "%s is a number too large to be exact: put it in quotes", clip(s))
	}
	return x
}

func (f *freeReader) yaml(n *yaml.Node) Node {
	line := n.Line
	if n.Kind == yaml.AliasNode {
		f.inAlias++
		defer func() { f.inAlias-- }()
		n = n.Alias
	}
	if f.inAlias > 0 {
		if f.aliased++; f.aliased > maxAliased && !f.stopped {
			f.at(line, "aliases expand to more than %d nodes", maxAliased)
			f.stopped = true
		}
	}
	if f.stopped {
		return Node{Line: line}
	}
	switch n.Kind {
	case yaml.MappingNode:
		return Node{line, f.yamlMembers(n)}
	case yaml.SequenceNode:
		defer func() { f.depth-- }()
		if !f.enter(line) {
			return Node{Line: line}
		}
		list := make([]Node, len(n.Content))
		for i, c := range n.Content {
			list[i] = f.yaml(c)
		}
		return Node{line, list}
	}
	return Node{line, f.yamlScalar(n, line)}
}

func (f *freeReader) yamlMembers(n *yaml.Node) Members {
	defer func() { f.depth-- }()
	if !f.enter(n.Line) {
		return nil
	}
	all := make(Members, 0, len(n.Content)/2)
	keys := seenKeys{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, ok := f.yamlKey(n.Content[i])
		if !ok {
			continue
		}
		if keys.twice(all, key) {
			f.fault(n.Content[i], "%q is there twice", clip(key))
			continue
		}
		all = append(all, Member{key, n.Content[i].Line, f.yaml(n.Content[i+1])})
	}
	return all
}

// yamlKey gives a key's text. Booleans and whole numbers are taken as they are written if every reader writes them so.
func (f *freeReader) yamlKey(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.AliasNode {
		f.fault(n, "a key can't be an alias: write it out")
		return "", false
	}
	key, ok := f.key(n)
	if !ok {
		return "", false
	}
	switch tag := n.ShortTag(); tag {
	case "!!str":
	case "!!bool":
		ok = key == "true" || key == "false"
	case "!!int":
		x, err := strconv.Atoi(key)
		ok = err == nil && strconv.Itoa(x) == key
	default:
		ok = false
	}
	if !ok {
		f.fault(n, "the key %s is not text in YAML: put it in quotes", clip(key))
		return "", false
	}
	return f.text(key, n.Line), true
}

func (f *freeReader) yamlScalar(n *yaml.Node, line int) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!str":
		return f.text(n.Value, line)
	case "!!bool":
		if x, ok := truth(n.Value); ok {
			return x
		}
		f.at(line, "%s is neither true nor false", clip(n.Value))
	case "!!int", "!!float":
		if decimal(n.Value) {
			return f.number(n.Value, line)
		}
		var x any
		if len(n.Value) <= maxNumber && n.Decode(&x) == nil {
			if s := fmt.Sprint(x); decimal(s) { // 0x1f, 1_000
				return f.number(s, line)
			}
		}
		f.at(line, "%s is not a number that JSON has", clip(n.Value))
	case "!!timestamp":
		f.at(line, "%s is a date in YAML, and no text: put it in quotes", clip(n.Value))
	default:
		f.at(line, "has a YAML tag (%s) that is not read", clip(n.Tag))
	}
	return nil
}

// decimal tells whether s is a number as JSON writes it.
func decimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	digits := func() bool {
		rest := strings.TrimLeft(s, "0123456789")
		some := len(rest) < len(s)
		s = rest
		return some
	}
	if len(s) > 1 && s[0] == '0' && isDigit(s[1]) || !digits() {
		return false
	}
	if fraction, ok := strings.CutPrefix(s, "."); ok {
		if s = fraction; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		if s = s[1:]; s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		return digits() && s == ""
	}
	return s == ""
}

// seenKeys finds keys that are there twice, of large mappings too.
type seenKeys map[string]bool

func (s *seenKeys) twice(before Members, key string) bool {
	const few = 8
	if len(before) < few {
		return before.Get(key) != nil
	}
	if len(*s) == 0 {
		*s = make(seenKeys, 2*few)
		for _, m := range before {
			(*s)[m.Key] = true
		}
	}
	there := (*s)[key]
	(*s)[key] = true
	return there
}
