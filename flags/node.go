package flags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// value gives a node as encoding/json would.
func value(n manifest.Node) any {
	switch v := n.Value.(type) {
	case manifest.Members:
		m := make(map[string]any, len(v))
		for _, member := range v {
			m[member.Key] = value(member.Node)
		}
		return m
	case []manifest.Node:
		list := make([]any, len(v))
		for i := range v {
			list[i] = value(v[i])
		}
		return list
	}
	return n.Value
}

// appendNode writes a node as JSON in one form only: no spaces, keys sorted.
func appendNode(b []byte, n manifest.Node) []byte {
	switch v := n.Value.(type) {
	case manifest.Members:
		if len(v) > 1 {
			v = slices.Clone(v)
			slices.SortFunc(v, func(a, b manifest.Member) int { return strings.Compare(a.Key, b.Key) })
		}
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, m.Key), ':')
			b = appendNode(b, m.Node)
		}
		return append(b, '}')
	case []manifest.Node:
		b = append(b, '[')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendNode(b, v[i])
		}
		return append(b, ']')
	}
	return appendScalar(b, n.Value)
}

// appendValue writes a value as appendNode writes a node.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		b = append(b, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, key), ':')
			b = appendValue(b, v[key])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, v[i])
		}
		return append(b, ']')
	}
	return appendScalar(b, v)
}

func appendScalar(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case float64:
		const exact = 1 << 53
		if v == math.Trunc(v) && math.Abs(v) < exact && (v != 0 || !math.Signbit(v)) {
			return strconv.AppendInt(b, int64(v), 10)
		}
		text, err := json.Marshal(v)
		if err != nil { // neither infinite nor NaN can be read
			return append(b, "null"...)
		}
		return append(b, text...)
	case string:
		return appendString(b, v)
	}
	return append(b, "null"...)
}

// appendString writes s as encoding/json does, < and > and & as they are.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var text bytes.Buffer
			out := json.NewEncoder(&text)
			out.SetEscapeHTML(false)
			if err := out.Encode(s); err != nil { // no string fails
				return append(b, `""`...)
			}
			return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// describe says what a value is, for people.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return "the number " + string(appendScalar(nil, v))
	case string:
		return fmt.Sprintf("the text %q", clip(v))
	case []manifest.Node:
		return "a list"
	}
	return "a mapping"
}

// clip keeps what a file says from filling a message.
func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
