package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// FreeFormLimits bounds a free-form document.
type FreeFormLimits struct {
	jsondoc.Limits
	Entries int // lines and entries, as countEntries counts them
}

// DecodeFreeForm reads a document that has only what JSON can express: JSON if the file's name ends in .json, else
// YAML, whose numbers become float64 as JSON's do. A value that YAML and JSON would not read alike is a fault: dates
// without quotes, keys that are not text, tags. With faults, Free returns what could be read; the zero Node if the
// document is neither, or exceeds the limits.
func DecodeFreeForm(file string, data []byte, limits FreeFormLimits) (root jsondoc.Node, faults []Fault) {
	if strings.HasSuffix(file, ".json") {
		return jsondoc.Read(file, data, limits.Limits)
	}
	n, fault := parseDocument(file, data, limits.Entries)
	if fault != nil {
		return jsondoc.Node{}, []Fault{*fault}
	}
	f := freeReader{decoder{Checker: jsondoc.Checker{File: file, Limits: limits.Limits}}}
	if root = f.readNode(n); f.Stopped() {
		root = jsondoc.Node{}
	}
	return root, f.Faults
}

type freeReader struct{ decoder }

func (f *freeReader) readNode(n *yaml.Node) jsondoc.Node {
	line := n.Line
	if n.Kind == yaml.AliasNode {
		f.inAlias++
		defer func() { f.inAlias-- }()
		n = n.Alias
	}
	if !f.countAliased(line) {
		return jsondoc.Node{Line: line}
	}
	switch n.Kind {
	case yaml.MappingNode:
		return jsondoc.Node{Line: line, Value: f.readMembers(n)}
	case yaml.SequenceNode:
		defer f.Leave()
		if !f.Enter(line) {
			return jsondoc.Node{Line: line}
		}
		list := make([]jsondoc.Node, len(n.Content))
		for i, c := range n.Content {
			list[i] = f.readNode(c)
		}
		return jsondoc.Node{Line: line, Value: list}
	}
	return jsondoc.Node{Line: line, Value: f.readScalar(n, line)}
}

func (f *freeReader) readMembers(n *yaml.Node) jsondoc.Members {
	defer f.Leave()
	if !f.Enter(n.Line) {
		return nil
	}
	all := make(jsondoc.Members, 0, len(n.Content)/2)
	keys := jsondoc.KeySet{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, ok := f.readKey(n.Content[i])
		if !ok {
			continue
		}
		if keys.Repeated(all, key) {
			f.fault(Duplicate, n.Content[i], "%q is there twice", jsondoc.Clip(key))
			continue
		}
		all = append(all, jsondoc.Member{Key: key, Line: n.Content[i].Line, Node: f.readNode(n.Content[i+1])})
	}
	return all
}

// readKey returns a key's text. It accepts booleans and whole numbers in the one spelling that every reader uses.
func (f *freeReader) readKey(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.AliasNode {
		f.fault(Syntax, n, "a key can't be an alias: write it out")
		return "", false
	}
	key, ok := f.decodeKey(n)
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
		f.fault(WrongType, n, "the key %s is not text in YAML: put it in quotes", jsondoc.Clip(key))
		return "", false
	}
	return f.Text(key, n.Line), true
}

func (f *freeReader) readScalar(n *yaml.Node, line int) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!str":
		return f.Text(n.Value, line)
	case "!!bool":
		if x, ok := parseBool(n.Value); ok {
			return x
		}
		f.Fault(WrongType, line, "%s is neither true nor false", jsondoc.Clip(n.Value))
	case "!!int", "!!float":
		if jsondoc.IsNumber(n.Value) {
			return f.Number(n.Value, line)
		}
		var x any
		if len(n.Value) <= jsondoc.MaxNumber && n.Decode(&x) == nil {
			if s := fmt.Sprint(x); jsondoc.IsNumber(s) { // 0x1f, 1_000
				return f.Number(s, line)
			}
		}
		f.Fault(WrongValue, line, "%s is not a number that JSON has", jsondoc.Clip(n.Value))
	case "!!timestamp":
		f.Fault(WrongType, line, "%s is a date in YAML, and no text: put it in quotes", jsondoc.Clip(n.Value))
	default:
		f.Fault(Syntax, line, "has a YAML tag (%s) that is not read", jsondoc.Clip(n.Tag))
	}
	return nil
}
