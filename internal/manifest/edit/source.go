package edit

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// source is a document's text and its nodes.
type source struct {
	text  string
	lines []string   // with their line breaks
	root  *yaml.Node // nil: the document is empty
}

func parseSource(text []byte) (*source, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("edit: correct the file first: %w", err)
	}
	s := &source{text: string(text), lines: strings.SplitAfter(string(text), "\n")}
	if len(doc.Content) > 0 {
		s.root = doc.Content[0]
	}
	return s, nil
}

// setField returns candidate texts in which the field below n is set, the most natural first; none if the layout allows
// no edit.
func (s *source) setField(n *yaml.Node, path []string, value any) ([]string, error) {
	if n.Kind != yaml.MappingNode {
		return nil, ErrLayout
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != path[0] {
			continue
		}
		key, current := n.Content[i], n.Content[i+1]
		if len(path) > 1 && current.Kind == yaml.MappingNode && len(current.Content) > 0 {
			return s.setField(current, path[1:], value)
		}
		f := nestFields(path, value)
		return s.replaceValue(n, key, current, f[0])
	}
	return s.insertField(n, nestFields(path, value))
}

// replaceValue returns candidate texts with a key's value replaced.
func (s *source) replaceValue(in, key, current *yaml.Node, f Field) ([]string, error) {
	flowing := in.Style&yaml.FlowStyle != 0
	short := current.Kind == yaml.ScalarNode && current.Line == key.Line &&
		current.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if flowing || short || current.Style&yaml.FlowStyle != 0 && isScalar(f.Value) {
		if isScalar(f.Value) || flowing {
			begin := s.byteOffset(current.Line, current.Column)
			end, ok := s.valueEnd(begin, current)
			if !ok {
				return nil, ErrLayout
			}
			text, err := s.formatInline(in, key, f.Value)
			if err != nil {
				return nil, err
			}
			if begin == end { // key: with nothing after it
				text = " " + text
			}
			return []string{s.text[:begin] + text + s.text[end:]}, nil
		}
	}
	// The key's lines are replaced, up to the next node.
	lines, err := formatIndented(Fields{f}, strings.Repeat(" ", key.Column-1))
	if err != nil {
		return nil, err
	}
	before := s.lines[key.Line-1]
	if strings.TrimLeft(before[:s.byteColumn(key)], " ") != "" { // the key follows the dash of a list item
		return nil, ErrLayout
	}
	return []string{strings.Join(s.lines[:key.Line-1], "") + lines +
		strings.Join(s.lines[s.endLineOf(key, current, key.Column):], "")}, nil
}

// formatInline formats a value for the place after its key: as YAML outside of brackets, as JSON inside.
func (s *source) formatInline(in, key *yaml.Node, v any) (string, error) {
	if in.Style&yaml.FlowStyle == 0 {
		text, err := formatBlock(v)
		return strings.TrimRight(text, "\n"), err
	}
	return formatFlow(v, key.Line != in.Line, s.lineIndent(key.Line))
}

// lineIndent returns the spaces that a line begins with.
func (s *source) lineIndent(line int) string {
	text := s.lines[line-1]
	return text[:len(text)-len(strings.TrimLeft(text, " \t"))]
}

// insertField returns candidate texts with one more field in a mapping.
func (s *source) insertField(n *yaml.Node, f Fields) ([]string, error) {
	if n.Style&yaml.FlowStyle == 0 {
		lines, err := formatIndented(f, strings.Repeat(" ", n.Column-1))
		if err != nil {
			return nil, err
		}
		at := s.endLineOf(n, n, n.Column-1)
		return []string{ensureNewline(strings.Join(s.lines[:at], "")) + lines + strings.Join(s.lines[at:], "")}, nil
	}
	begin := s.byteOffset(n.Line, n.Column) + 1 // after the bracket
	if end, ok := s.valueEnd(begin-1, n); ok && len(n.Content) == 0 && s.root.Style&yaml.FlowStyle != 0 &&
		n.Line != s.root.Line {
		text, err := formatFlow(f, true, s.lineIndent(n.Line))
		return []string{s.text[:begin-1] + text + s.text[end:]}, err
	}
	if len(n.Content) == 0 || n.Content[0].Line == n.Line {
		text, err := formatFlow(f, false, "")
		if err != nil {
			return nil, err
		}
		text = text[1 : len(text)-1] // without the brackets
		if len(n.Content) > 0 {
			text += ", "
		}
		return []string{s.text[:begin] + text + s.text[begin:]}, nil
	}
	indent := s.lineIndent(n.Content[0].Line)
	text, err := formatFlow(f[0].Value, true, indent)
	if err != nil {
		return nil, err
	}
	key, err := formatFlow(f[0].Key, false, "")
	if err != nil {
		return nil, err
	}
	// After the last field, as people add a field; where that is impossible, before the first.
	last := n.Content[len(n.Content)-1]
	at := s.byteOffset(last.Line, last.Column)
	first := strings.Join(s.lines[:n.Content[0].Line-1], "")
	texts := []string{first + indent + key + ": " + text + ",\n" + s.text[len(first):]}
	if end, ok := s.valueEnd(at, last); ok {
		texts = slices.Insert(texts, 0, s.text[:end]+",\n"+indent+key+": "+text+s.text[end:])
	}
	return texts, nil
}

// appendCandidates returns texts that have the entry in the list at path, the most natural place first.
func (s *source) appendCandidates(path []string, entry string) []string {
	var list *yaml.Node
	key, within := path[0], s.root
	for i := 0; i+1 < len(within.Content); i += 2 {
		if within.Content[i].Value != key {
			continue
		}
		switch list = within.Content[i+1]; {
		case len(path) > 1 && list.Kind == yaml.MappingNode:
			path = path[1:]
			key, within, list, i = path[0], list, nil, -2
		case list.Kind != yaml.SequenceNode && within != s.root:
			return nil
		case list.Kind != yaml.SequenceNode: // key: with nothing after it
			return []string{s.insertLine(within.Content[i].Line, "  - "+entry)}
		}
	}
	switch {
	case list == nil && within != s.root || len(path) > 1:
		return nil
	case list == nil && s.root.Style&yaml.FlowStyle != 0:
		return []string{s.insertInBracket(s.root, key+": ["+entry+"], ")}
	case list == nil:
		return []string{s.insertLine(len(s.lines), key+":\n  - "+entry)}
	case list.Style&yaml.FlowStyle != 0 && len(list.Content) == 0:
		return []string{s.insertInBracket(list, entry)}
	case list.Style&yaml.FlowStyle != 0:
		return []string{s.insertInBracket(list, entry+", ")}
	}
	item := strings.Repeat(" ", list.Column-1) + "- " + entry
	return []string{s.insertLine(lastLine(list), item), s.insertLine(list.Line-1, item)}
}

// insertLine returns the text with further lines after the first n.
func (s *source) insertLine(n int, text string) string {
	return ensureNewline(strings.Join(s.lines[:n], "")) + text + "\n" + strings.Join(s.lines[n:], "")
}

// insertInBracket returns the text with an insertion after the opening bracket of a list or mapping.
func (s *source) insertInBracket(n *yaml.Node, text string) string {
	at := s.byteOffset(n.Line, n.Column) + 1
	return s.text[:at] + text + s.text[at:]
}

// endLineOf returns the number of lines up to the end of n. Comments and empty lines before the next node belong to
// that node if their indentation is less than indent. n begins at from, its key for instance.
func (s *source) endLineOf(from, n *yaml.Node, indent int) int {
	last := lastLine(n)
	next := s.lineBeforeNext(from, last)
	at := next
	for ; at > last; at-- {
		line := strings.TrimRight(s.lines[at-1], "\r\n")
		if body := strings.TrimLeft(line, " "); body != "" && (body[0] != '#' || len(line)-len(body) >= indent) &&
			body != "---" && body != "..." {
			break
		}
	}
	return at
}

// lineBeforeNext returns the number of lines before the first node after line that is not part of the node at from; all
// lines if there is none.
func (s *source) lineBeforeNext(from *yaml.Node, line int) int {
	first := len(s.lines)
	if s.lines[first-1] == "" { // the empty rest after the last line break
		first--
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Line > line && n.Line > from.Line {
			first = min(first, n.Line-1)
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(s.root)
	return first
}

// lastLine returns the last line on which n or a node inside n begins.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// byteColumn returns the column, in bytes, at which a node begins.
func (s *source) byteColumn(n *yaml.Node) int {
	return s.byteOffset(n.Line, n.Column) - s.byteOffset(n.Line, 1)
}

// byteOffset returns the position, in bytes, of a line and column.
func (s *source) byteOffset(line, column int) int {
	at := 0
	for _, l := range s.lines[:line-1] {
		at += len(l)
	}
	for range column - 1 {
		_, size := utf8.DecodeRuneInString(s.text[at:])
		at += size
	}
	return at
}

// valueEnd returns the end of the value at begin; ok is false where the end is not obvious.
func (s *source) valueEnd(begin int, n *yaml.Node) (end int, ok bool) {
	rest := s.text[begin:]
	switch {
	case n.Anchor != "" || n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0:
		return 0, false
	case n.Kind == yaml.ScalarNode && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		size, ok := quotedLength(rest)
		return begin + size, ok
	case n.Kind == yaml.ScalarNode:
		return begin + len(n.Value), strings.HasPrefix(rest, n.Value)
	case n.Kind == yaml.AliasNode || n.Style&yaml.FlowStyle == 0:
		return 0, false
	}
	depth := 0
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return begin + i + 1, true
			}
		case '"', '\'':
			size, ok := quotedLength(rest[i:])
			if !ok {
				return 0, false
			}
			i += size - 1
		case '#':
			return 0, false
		}
	}
	return 0, false
}

// quotedLength returns the length of the quoted string at the beginning of text, quotes included.
func quotedLength(text string) (size int, ok bool) {
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote && quote == '\'' && strings.HasPrefix(text[i:], "''"):
			i++
		case text[i] == quote:
			return i + 1, true
		}
	}
	return 0, false
}

func isScalar(v any) bool {
	switch v.(type) {
	case string, bool, int, int64, float64, nil:
		return true
	}
	return false
}
