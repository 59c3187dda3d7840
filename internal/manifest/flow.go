package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// plainFlow reads the value in a line.
type plainFlow struct {
	*plainParser
	rest string // the rest of the line
	line int
}

// parseNode reads one scalar or collection. within says whether the value is inside a flow collection.
func (f *plainFlow) parseNode(within bool) *yaml.Node {
	if f.depth++; f.depth > maxDepth {
		return f.fail()
	}
	defer func() { f.depth-- }()
	if f.rest == "" || f.failed {
		return f.fail()
	}
	switch c := f.rest[0]; {
	case c == '{':
		return f.parseFlowMapping()
	case c == '[':
		return f.parseFlowList()
	case c == '"' || c == '\'':
		return f.parseQuoted(c)
	case isLetter(c) || isDigit(c) || c == '.' || c == '/' || c == '_':
		return f.parseUnquoted(within)
	}
	return f.fail()
}

func (f *plainFlow) parseQuoted(quote byte) *yaml.Node {
	end := strings.IndexByte(f.rest[1:], quote) + 1
	if end == 0 || strings.IndexByte(f.rest[:end], '\\') >= 0 && quote == '"' {
		return f.fail()
	}
	text := f.rest[1:end]
	f.rest = f.rest[end+1:]
	if f.rest != "" && (f.rest[0] == quote || f.rest[0] == ':') { // an escaped quote, or a quoted key
		return f.fail()
	}
	n := f.plainParser.newNode(yaml.ScalarNode, f.line)
	n.Value, n.Tag, n.Style = text, "!!str", yaml.DoubleQuotedStyle
	if quote == '\'' {
		n.Style = yaml.SingleQuotedStyle
	}
	return n
}

func (f *plainFlow) parseUnquoted(within bool) *yaml.Node {
	i := 0
scan:
	for ; i < len(f.rest); i++ {
		switch c := f.rest[i]; {
		case isPlainByte(c):
		case c == ':':
			if i+1 == len(f.rest) || !isLetter(f.rest[i+1]) && !isDigit(f.rest[i+1]) && f.rest[i+1] != '/' {
				return f.fail()
			}
		case within && (c == ',' || c == ']' || c == '}'):
			break scan
		case !within && c == ',':
		default:
			return f.fail()
		}
	}
	text := strings.TrimRight(f.rest[:i], " ")
	f.rest = f.rest[i:]
	return f.newScalar(text, f.line)
}

func (f *plainFlow) skipSpaces() { f.rest = strings.TrimLeft(f.rest, " ") }

// cutSeparator cuts the separator after an entry, and reports whether another entry must follow.
func (f *plainFlow) cutSeparator(end byte) bool {
	f.skipSpaces()
	if f.rest == "" || f.rest[0] != ',' && f.rest[0] != end {
		f.fail()
		return false
	}
	more := f.rest[0] == ','
	f.rest = f.rest[1:]
	if more {
		f.skipSpaces()
	}
	return more
}

// cutBracket cuts the opening bracket, and the closing bracket if nothing is between them.
func (f *plainFlow) cutBracket(end byte) (empty bool) {
	f.rest = f.rest[1:]
	f.skipSpaces()
	if f.rest != "" && f.rest[0] == end {
		f.rest = f.rest[1:]
		return true
	}
	return false
}

func (f *plainFlow) parseFlowMapping() *yaml.Node {
	n := f.plainParser.newNode(yaml.MappingNode, f.line)
	n.Style = yaml.FlowStyle
	if f.cutBracket('}') {
		return n
	}
	for more := true; more && !f.failed; more = f.cutSeparator('}') {
		if f.rest == "" {
			return f.fail()
		}
		key, rest, ok := f.cutKey(f.rest, f.line)
		if !ok || rest == "" {
			return f.fail()
		}
		f.rest = rest
		n.Content = append(n.Content, key, f.parseNode(true))
	}
	return n
}

func (f *plainFlow) parseFlowList() *yaml.Node {
	n := f.plainParser.newNode(yaml.SequenceNode, f.line)
	n.Style = yaml.FlowStyle
	if f.cutBracket(']') {
		return n
	}
	for more := true; more && !f.failed; more = f.cutSeparator(']') {
		n.Content = append(n.Content, f.parseNode(true))
	}
	return n
}
