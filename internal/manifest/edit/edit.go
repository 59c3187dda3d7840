// Package edit changes one field of a YAML or JSON document, or adds to a list of it, and leaves all other text as it is, comments
// and spacing included.
//
// It is pure. Whatever it gives was read again and differs from what there was in exactly that place; a document that is
// laid out in a way that it can't edit so is refused with ErrLayout, never mended by writing it anew.
package edit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrLayout: the document is laid out so that the field can't be edited without touching other text. A person has to.
var ErrLayout = errors.New("the file is laid out in a way that can't be edited: change it by hand")

// Set gives the document with the field that path names set to value, which is what encoding/json takes, or Fields. What is
// missing on the way is added. An empty document becomes one with the field alone.
func Set(text []byte, path []string, value any) ([]byte, error) {
	s, err := parseSource(text)
	if err != nil {
		return nil, err
	}
	if len(path) == 0 {
		return nil, errors.New("edit: no field is named")
	}
	if s.root == nil { // comments at the most
		line, err := formatIndented(nestFields(path, value), "")
		return []byte(ensureNewline(string(text)) + line), err
	}
	if s.root.Kind != yaml.MappingNode {
		return nil, ErrLayout
	}
	candidates, err := s.setField(s.root, path, value)
	if err != nil {
		return nil, err
	}
	for _, edited := range candidates {
		if changesOnly(text, []byte(edited), path, value) {
			return []byte(edited), nil
		}
	}
	return nil, ErrLayout
}

// Append gives the document with one entry more in the list of a top-level field, which is added if it is missing. The entry is
// written as it is given, in one line of YAML. Only a text that is right is given: right is told one after the other, the most
// natural first.
func Append(text []byte, key, entry string, right func(edited []byte) bool) ([]byte, error) {
	s, err := parseSource(text)
	if err != nil {
		return nil, err
	}
	if s.root == nil || s.root.Kind != yaml.MappingNode {
		return nil, ErrLayout
	}
	for _, edited := range s.appendCandidates(key, entry) {
		if right([]byte(edited)) {
			return []byte(edited), nil
		}
	}
	return nil, ErrLayout
}

// New gives a YAML document of those fields.
func New(f Fields) ([]byte, error) {
	text, err := formatIndented(f, "")
	return []byte(text), err
}

// nestFields wraps a value into the fields that lead to it.
func nestFields(path []string, value any) Fields {
	if len(path) > 1 {
		value = nestFields(path[1:], value)
	}
	return Fields{{path[0], value}}
}

// changesOnly tells whether after is before with the field set, and no other difference.
func changesOnly(before, after []byte, path []string, value any) bool {
	var old, now any
	if yaml.Unmarshal(before, &old) != nil || yaml.Unmarshal(after, &now) != nil {
		return false
	}
	fields, ok := old.(map[string]any)
	if !ok {
		return false
	}
	for _, key := range path[:len(path)-1] {
		below, ok := fields[key].(map[string]any)
		if !ok && fields[key] != nil {
			return false
		}
		if !ok {
			below = map[string]any{}
			fields[key] = below
		}
		fields = below
	}
	fields[path[len(path)-1]] = value
	want, err1 := json.Marshal(old)
	got, err2 := json.Marshal(now)
	return err1 == nil && err2 == nil && equalJSON(want, got)
}

// equalJSON compares JSON whatever the order of its fields.
func equalJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	a, err1 := json.Marshal(x)
	b, err2 := json.Marshal(y)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

func ensureNewline(text string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}
