package jsondoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// PlainValue returns the node's value in the types of encoding/json.
func (n Node) PlainValue() any {
	switch v := n.Value.(type) {
	case Members:
		m := make(map[string]any, len(v))
		for _, member := range v {
			m[member.Key] = member.PlainValue()
		}
		return m
	case []Node:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i].PlainValue()
		}
		return list
	}
	return n.Value
}

// AppendNode writes a node as JSON in one form: no spaces, keys sorted.
func AppendNode(b []byte, n Node) []byte {
	switch v := n.Value.(type) {
	case Members:
		if len(v) > 1 {
			v = slices.Clone(v)
			slices.SortFunc(v, func(a, b Member) int { return strings.Compare(a.Key, b.Key) })
		}
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(AppendString(b, m.Key), ':')
			b = AppendNode(b, m.Node)
		}
		return append(b, '}')
	case []Node:
		b = append(b, '[')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendNode(b, v[i])
		}
		return append(b, ']')
	}
	return AppendScalar(b, n.Value)
}

// AppendValue writes a value in the form of AppendNode.
func AppendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		b = append(b, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(AppendString(b, key), ':')
			b = AppendValue(b, v[key])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendValue(b, v[i])
		}
		return append(b, ']')
	}
	return AppendScalar(b, v)
}

// AppendScalar writes a bool, number, string or null in the form of AppendNode.
func AppendScalar(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case float64:
		const exact = 1 << 53
		if v == math.Trunc(v) && math.Abs(v) < exact && (v != 0 || !math.Signbit(v)) {
			return strconv.AppendInt(b, int64(v), 10)
		}
		text, err := json.Marshal(v)
		if err != nil { // infinity and NaN, which no reader produces
			return append(b, "null"...)
		}
		return append(b, text...)
	case string:
		return AppendString(b, v)
	}
	return append(b, "null"...)
}

// AppendString writes s as encoding/json does, but leaves <, > and & unescaped.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var text bytes.Buffer
			out := json.NewEncoder(&text)
			out.SetEscapeHTML(false)
			if err := out.Encode(s); err != nil { // a string never fails
				return append(b, `""`...)
			}
			return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// Describe names a value for people.
func Describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return "the number " + string(AppendScalar(nil, v))
	case string:
		return fmt.Sprintf("the text %q", Clip(v))
	case []Node:
		return "a list"
	}
	return "a mapping"
}

// Clip shortens text from a file so that it does not fill a message.
func Clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
