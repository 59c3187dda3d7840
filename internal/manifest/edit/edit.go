// Package edit changes one field of a YAML or JSON document, or adds to a list, and leaves all other text unchanged,
// comments and spacing included.
//
// The package is pure, and everything may be called at once. It reads every result again, and returns only a text that
// differs from the document in exactly that place. It refuses a document whose layout it can't edit with ErrLayout, and
// never writes such a document anew.
package edit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrLayout means that the field can't be edited without touching other text. A person has to edit the file.
var ErrLayout = errors.New("the file is laid out in a way that can't be edited: change it by hand")

// Set returns the document with the field at path set to value, which encoding/json can marshal, or to Fields. It adds
// the mappings on the way that are missing. An empty document becomes a document with this field alone.
func Set(text []byte, path []string, value any) ([]byte, error) {
	s, err := parseSource(text)
	if err != nil {
		return nil, err
	}
	if len(path) == 0 {
		return nil, errors.New("edit: no field is named")
	}
	if s.root == nil { // nothing but comments
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

// Remove returns the document without a top-level field that lies on lines of its own, if the document has it.
func Remove(text []byte, key string) ([]byte, error) {
	s, err := parseSource(text)
	if err != nil || s.root == nil {
		return text, err
	}
	if s.root.Kind != yaml.MappingNode {
		return nil, ErrLayout
	}
	for i := 0; i+1 < len(s.root.Content); i += 2 {
		k := s.root.Content[i]
		if k.Value != key {
			continue
		}
		edited := strings.Join(s.lines[:k.Line-1], "") +
			strings.Join(s.lines[s.endLineOf(k, s.root.Content[i+1], k.Column):], "")
		if !removesOnly(text, []byte(edited), key) {
			return nil, ErrLayout
		}
		return []byte(edited), nil
	}
	return text, nil
}

// removesOnly reports whether the lack of the field is the only difference between before and after.
func removesOnly(before, after []byte, key string) bool {
	var old, now map[string]any
	if yaml.Unmarshal(before, &old) != nil || yaml.Unmarshal(after, &now) != nil {
		return false
	}
	delete(old, key)
	want, err1 := json.Marshal(old)
	got, err2 := json.Marshal(now)
	return err1 == nil && err2 == nil && equalJSON(want, got)
}

// Append returns the document with one more entry in the list at path. It adds the list of a top-level field if that is
// missing. entry is one line of YAML, written as it is. Append tries places for the entry, the most natural first, and
// returns the first text that right accepts.
func Append(text []byte, path []string, entry string, right func(edited []byte) bool) ([]byte, error) {
	s, err := parseSource(text)
	if err != nil {
		return nil, err
	}
	if s.root == nil || s.root.Kind != yaml.MappingNode || len(path) == 0 {
		return nil, ErrLayout
	}
	for _, edited := range s.appendCandidates(path, entry) {
		if right([]byte(edited)) {
			return []byte(edited), nil
		}
	}
	return nil, ErrLayout
}

// Format returns a YAML document with those fields.
func Format(f Fields) ([]byte, error) {
	text, err := formatIndented(f, "")
	return []byte(text), err
}

// nestFields wraps a value into the fields of a path.
func nestFields(path []string, value any) Fields {
	if len(path) > 1 {
		value = nestFields(path[1:], value)
	}
	return Fields{{path[0], value}}
}

// changesOnly reports whether the field with that value is the only difference between before and after.
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

// equalJSON compares JSON documents regardless of the order of fields.
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
