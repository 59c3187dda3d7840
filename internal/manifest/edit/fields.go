package edit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Field is a key with its value.
type Field struct {
	Key   string
	Value any
}

// Fields is a mapping with an order.
type Fields []Field

// MarshalJSON writes an object with the fields in order.
func (f Fields) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, field := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(field.Key)
		if err != nil {
			return nil, err
		}
		value, err := marshalJSON(field.Value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshalJSON is json.Marshal without escapes of <, > and &.
func marshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// formatFlow formats a value as JSON, which is YAML's flow style too: in one line or, if lines is true, in several,
// indented.
func formatFlow(v any, lines bool, indent string) (string, error) {
	text, err := marshalJSON(v)
	if err != nil {
		return "", err
	}
	if !lines {
		return string(text), nil
	}
	var b bytes.Buffer
	err = json.Indent(&b, text, indent, "  ")
	return b.String(), err
}

// formatBlock formats a value as YAML in block style, without indentation. The value goes through JSON, so that a
// program's values and a file's are formatted alike.
func formatBlock(v any) (string, error) {
	text, err := marshalJSON(v)
	if err != nil {
		return "", err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return "", fmt.Errorf("write as YAML: %w", err)
	}
	simplifyStyle(&node)
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return "", fmt.Errorf("write as YAML: %w", err)
	}
	return b.String(), nil
}

// simplifyStyle removes JSON's brackets and quotes, except where a reader might take the text for another type, such as
// on and off.
func simplifyStyle(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	if n.ShortTag() == "!!str" {
		n.Style = stringStyle(n.Value)
	}
	for _, c := range n.Content {
		simplifyStyle(c)
	}
}

// stringStyle returns the style that yaml.Marshal, which knows the words of older readers, would use for s.
func stringStyle(s string) yaml.Style {
	text, err := yaml.Marshal(s)
	switch {
	case err != nil:
		return yaml.DoubleQuotedStyle
	case strings.Contains(s, "\n"):
		return yaml.LiteralStyle
	case text[0] == '"' || text[0] == '\'':
		return yaml.DoubleQuotedStyle
	}
	return 0
}

// formatIndented formats fields in block style, each line indented.
func formatIndented(f Fields, indent string) (string, error) {
	text, err := formatBlock(f)
	if err != nil || indent == "" {
		return text, err
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(indent)
		}
		b.WriteString(line)
	}
	return b.String(), nil
}
