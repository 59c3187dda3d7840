package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// plainFlow reads what stands on one line.
type plainFlow struct {
	*plainParser
	s    string // what is left of it
	line int
}

// node reads one scalar or collection. within tells whether it is inside a flow collection.
func (f *plainFlow) node(within bool) *yaml.Node {
	if f.depth++; f.depth > maxDepth {
		return f.fail()
	}
	defer func() { f.depth-- }()
	if f.s == "" || f.failed {
		return f.fail()
	}
	switch c := f.s[0]; {
	case c == '{':
		return f.mapping()
	case c == '[':
		return f.list()
	case c == '"' || c == '\'':
		return f.quoted(c)
	case isLetter(c) || isDigit(c) || c == '.' || c == '/' || c == '_':
		return f.unquoted(within)
	}
	return f.fail()
}

func (f *plainFlow) quoted(quote byte) *yaml.Node {
	end := strings.IndexByte(f.s[1:], quote) + 1
	if end == 0 || strings.IndexByte(f.s[:end], '\\') >= 0 && quote == '"' {
		return f.fail()
	}
	text := f.s[1:end]
	f.s = f.s[end+1:]
	if f.s != "" && (f.s[0] == quote || f.s[0] == ':') { // '' stands for '; a quoted key
		return f.fail()
	}
	n := f.plainParser.node(yaml.ScalarNode, f.line)
	n.Value, n.Tag, n.Style = text, "!!str", yaml.DoubleQuotedStyle
	if quote == '\'' {
		n.Style = yaml.SingleQuotedStyle
	}
	return n
}

func (f *plainFlow) unquoted(within bool) *yaml.Node {
	i := 0
scan:
	for ; i < len(f.s); i++ {
		switch c := f.s[i]; {
		case isPlainByte(c):
		case c == ':':
			if i+1 == len(f.s) || !isLetter(f.s[i+1]) && !isDigit(f.s[i+1]) && f.s[i+1] != '/' {
				return f.fail()
			}
		case within && (c == ',' || c == ']' || c == '}'):
			break scan
		case !within && c == ',':
		default:
			return f.fail()
		}
	}
	text := strings.TrimRight(f.s[:i], " ")
	f.s = f.s[i:]
	return f.scalar(text, f.line)
}

// space skips spaces.
func (f *plainFlow) space() { f.s = strings.TrimLeft(f.s, " ") }

// next takes the separator after an entry. It tells whether another entry must follow.
func (f *plainFlow) next(end byte) bool {
	f.space()
	if f.s == "" || f.s[0] != ',' && f.s[0] != end {
		f.fail()
		return false
	}
	more := f.s[0] == ','
	f.s = f.s[1:]
	if more {
		f.space()
	}
	return more
}

// open takes the bracket, and the closing one if nothing is between them.
func (f *plainFlow) open(end byte) (empty bool) {
	f.s = f.s[1:]
	f.space()
	if f.s != "" && f.s[0] == end {
		f.s = f.s[1:]
		return true
	}
	return false
}

func (f *plainFlow) mapping() *yaml.Node {
	n := f.plainParser.node(yaml.MappingNode, f.line)
	n.Style = yaml.FlowStyle
	if f.open('}') {
		return n
	}
	for more := true; more && !f.failed; more = f.next('}') {
		if f.s == "" {
			return f.fail()
		}
		key, rest, ok := f.cutKey(f.s, f.line)
		if !ok || rest == "" {
			return f.fail()
		}
		f.s = rest
		n.Content = append(n.Content, key, f.node(true))
	}
	return n
}

func (f *plainFlow) list() *yaml.Node {
	n := f.plainParser.node(yaml.SequenceNode, f.line)
	n.Style = yaml.FlowStyle
	if f.open(']') {
		return n
	}
	for more := true; more && !f.failed; more = f.next(']') {
		n.Content = append(n.Content, f.node(true))
	}
	return n
}
