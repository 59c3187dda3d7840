package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Most documents of a release repository are a few lines of the plainest YAML, and an engine may read tens of thousands
// when it starts. parsePlain reads them about six times as fast as the YAML library, into the same nodes: ASCII, block
// mappings and lists with simple or quoted keys, scalars and flow collections on one line, whole-line comments. It
// gives up on anything else, and the library reads the document. A fuzz test compares the two.

// parsePlain returns the root of a plain document, nil for any other, valid or not.
func parsePlain(data []byte) *yaml.Node {
	if len(data) == 0 || len(data) > MaxFile {
		return nil
	}
	p := plainParser{}
	if !p.splitLines(string(data)) || len(p.lines) == 0 || p.lines[0].indent != 0 {
		return nil
	}
	p.nodes = make([]yaml.Node, 2*len(p.lines)+2) // a key and a value for each line; flow collections take more
	root := p.parseBlock(0)
	if p.failed || p.nextLine != len(p.lines) {
		return nil
	}
	return root
}

type plainLine struct {
	indent int
	text   string // neither empty nor a comment, without spaces around
	number int
}

type plainParser struct {
	lines    []plainLine
	nextLine int // index in lines
	depth    int
	nodes    []yaml.Node // allocated, and not used yet
	failed   bool
}

// splitLines splits s into lines. It returns false if s has anything but printable ASCII, or a line that parsePlain
// does not read.
func (p *plainParser) splitLines(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	p.lines = make([]plainLine, 0, strings.Count(s, "\n")+1)
	for number := 1; s != ""; number++ {
		text, rest, _ := strings.Cut(s, "\n")
		s = rest
		trimmed := strings.TrimLeft(text, " ")
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if trimmed[len(trimmed)-1] == ' ' || strings.HasPrefix(trimmed, "---") || strings.HasPrefix(trimmed, "...") {
			return false
		}
		p.lines = append(p.lines, plainLine{len(text) - len(trimmed), trimmed, number})
	}
	return true
}

func (p *plainParser) fail() *yaml.Node {
	p.failed = true
	return nil
}

func (p *plainParser) newNode(kind yaml.Kind, line int) *yaml.Node {
	if len(p.nodes) == 0 {
		p.nodes = make([]yaml.Node, 8)
	}
	n := &p.nodes[0]
	p.nodes = p.nodes[1:]
	n.Kind, n.Line = kind, line
	switch kind {
	case yaml.MappingNode:
		n.Tag = "!!map"
	case yaml.SequenceNode:
		n.Tag = "!!seq"
	}
	return n
}

// parseBlock reads the mapping or list whose lines have that indentation.
func (p *plainParser) parseBlock(indent int) *yaml.Node {
	if p.depth++; p.depth > maxDepth {
		return p.fail()
	}
	defer func() { p.depth-- }()
	if isItem(p.lines[p.nextLine].text) {
		return p.parseList(indent)
	}
	n := p.newNode(yaml.MappingNode, p.lines[p.nextLine].number)
	n.Content = make([]*yaml.Node, 0, min(16, 2*(len(p.lines)-p.nextLine)))
	for p.nextLine < len(p.lines) && !p.failed {
		l := p.lines[p.nextLine]
		if l.indent < indent {
			break
		}
		key, rest, ok := p.cutKey(l.text, l.number)
		if l.indent != indent || !ok {
			return p.fail()
		}
		p.nextLine++
		n.Content = append(n.Content, key, p.parseValue(indent, rest, l.number, true))
	}
	return n
}

// parseList reads the items whose lines have that indentation.
func (p *plainParser) parseList(indent int) *yaml.Node {
	n := p.newNode(yaml.SequenceNode, p.lines[p.nextLine].number)
	for p.nextLine < len(p.lines) && !p.failed {
		l := &p.lines[p.nextLine]
		if l.indent < indent || l.indent == indent && !isItem(l.text) {
			break
		}
		item := strings.TrimPrefix(l.text, "- ")
		if l.indent != indent || item == l.text || item[0] == ' ' || isItem(item) {
			return p.fail()
		}
		if _, _, _, ok := cutKey(item); ok { // a mapping that begins on the item's line
			l.indent, l.text = indent+2, item
			n.Content = append(n.Content, p.parseBlock(indent+2))
			continue
		}
		p.nextLine++
		n.Content = append(n.Content, p.parseValue(indent, item, l.number, false))
	}
	return n
}

func isItem(text string) bool { return text == "-" || strings.HasPrefix(text, "- ") }

// parseValue reads what follows a key or a dash with that indentation: the rest of the line or, below a key, a block.
func (p *plainParser) parseValue(indent int, rest string, line int, key bool) *yaml.Node {
	more := p.nextLine < len(p.lines)
	if rest == "" {
		switch {
		case more && p.lines[p.nextLine].indent > indent:
			return p.parseBlock(p.lines[p.nextLine].indent)
		case more && p.lines[p.nextLine].indent == indent && key && isItem(p.lines[p.nextLine].text):
			return p.parseList(indent)
		}
		n := p.newNode(yaml.ScalarNode, line)
		n.Tag = "!!null"
		return n
	}
	if more && p.lines[p.nextLine].indent > indent { // a scalar of several lines
		return p.fail()
	}
	f := plainFlow{p, rest, line}
	n := f.parseNode(false)
	if f.rest != "" {
		return p.fail()
	}
	return n
}

// cutKey returns the node of a line's key, and the rest of the line.
func (p *plainParser) cutKey(text string, line int) (n *yaml.Node, rest string, ok bool) {
	key, style, rest, ok := cutKey(text)
	if !ok {
		return nil, "", false
	}
	if style == 0 {
		return p.newScalar(key, line), rest, true
	}
	n = p.newNode(yaml.ScalarNode, line)
	n.Value, n.Tag, n.Style = key, "!!str", style
	return n, rest, true
}

// cutKey splits "key: rest" or "key:". Keys are simple words, or quoted without escapes.
func cutKey(text string) (key string, style yaml.Style, rest string, ok bool) {
	const longest = 100
	i := 0
	switch c := text[0]; {
	case c == '"' || c == '\'':
		style = yaml.SingleQuotedStyle
		if c == '"' {
			style = yaml.DoubleQuotedStyle
		}
		end := strings.IndexByte(text[1:], c) + 1
		if key = text[1:max(end, 1)]; end == 0 || c == '"' && strings.IndexByte(key, '\\') >= 0 {
			return "", 0, "", false
		}
		i = end + 1
	case isLetter(c) || c == '$':
		for i = 1; i < len(text) && isKeyByte(text[i]); i++ {
		}
		key = text[:i]
	}
	if i == 0 || i > longest || i == len(text) || text[i] != ':' {
		return "", 0, "", false
	}
	if i+1 == len(text) {
		return key, style, "", true
	}
	if text[i+1] != ' ' {
		return "", 0, "", false
	}
	return key, style, strings.TrimLeft(text[i+1:], " "), true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isKeyByte(c byte) bool {
	return isLetter(c) || isDigit(c) || c == '_' || c == '-' || c == '.' || c == '/'
}

// isPlainByte reports whether c may stand anywhere within an unquoted scalar, in block and in flow.
func isPlainByte(c byte) bool {
	return isKeyByte(c) || c == ' ' || c == '@' || c == '+' || c == '=' || c == '(' || c == ')' || c == ';' ||
		c == '<' || c == '>' || c == '$' || c == '^' || c == '~'
}

// newScalar makes a node of unquoted text. The library resolves text that may have another type.
func (p *plainParser) newScalar(text string, line int) *yaml.Node {
	n := p.newNode(yaml.ScalarNode, line)
	n.Value = text
	if isLetter(text[0]) {
		switch text {
		case "true", "True", "TRUE", "false", "False", "FALSE":
			n.Tag = "!!bool"
		case "null", "Null", "NULL":
			n.Tag = "!!null"
		default:
			n.Tag = "!!str"
		}
	}
	return n
}
