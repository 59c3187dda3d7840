package render

import (
	"encoding/json"
	"maps"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/resmap"

	"github.com/sluice-cd/sluice/releases"
)

// A parameter of type string stays a string, whatever it looks like. kustomize's replacements copy only its text: in a
// field that they create, 0123 would become the number 83, and 2026-01-01 a date. So the release is built again with
// such values between marks, which no file of it has, and what is between marks there is a string here. The first build
// decides all else, such as the hash in a generated name.

// buildWithValues builds the release with the values of a cell.
func buildWithValues(files releases.Files, dir string, values map[string]any) (resmap.ResMap, error) {
	mark := findMark(files)
	marked := maps.Clone(values)
	for name, v := range values {
		if s, ok := v.(string); ok && isRetyped(s) {
			marked[name] = mark + s + mark
		}
	}
	var twin releases.Files
	if !maps.Equal(marked, values) {
		twin = maps.Clone(files)
		if err := overlayValues(twin, marked); err != nil {
			return nil, err
		}
	}
	if err := overlayValues(files, values); err != nil {
		return nil, err
	}
	if err := refuseAliasBombs(files); err != nil {
		return nil, err
	}
	built, err := buildManifests(files, dir)
	if twin == nil {
		return built, err
	}
	other, twinErr := buildManifests(twin, dir)
	switch {
	case twinErr != nil: // a number was expected, say; the text is what kustomize made of it then
		return built, err
	case err != nil: // an unmarked value could not be built: .inf is no number in JSON
		built = other
	case built.Size() != other.Size():
		return built, nil
	}
	for i, r := range built.Resources() {
		keepStrings(r.YNode(), other.Resources()[i].YNode(), mark)
	}
	return built, nil
}

// isRetyped reports whether YAML reads the text, without quotes, as anything but this string.
func isRetyped(s string) bool {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(s), &doc) != nil || len(doc.Content) == 0 {
		return true
	}
	n := doc.Content[0]
	return n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || n.Value != s
}

// findMark returns a character for private use that no file has.
func findMark(files releases.Files) string {
	for r := '\uE000'; ; r++ {
		mark, found := string(r), false
		for _, f := range files {
			found = found || strings.Contains(string(f.Data), mark)
		}
		if !found || r == '\uF8FF' {
			return mark
		}
	}
}

// keepStrings makes each scalar of n a string whose twin is marked as a whole.
func keepStrings(n, twin *yaml.Node, mark string) {
	if n.Kind != twin.Kind || len(n.Content) != len(twin.Content) {
		return
	}
	for i := range n.Content {
		keepStrings(n.Content[i], twin.Content[i], mark)
	}
	if n.Kind != yaml.ScalarNode || len(twin.Value) < 2*len(mark) {
		return
	}
	text, begins := strings.CutPrefix(twin.Value, mark)
	text, ends := strings.CutSuffix(text, mark)
	if !begins || !ends || strings.Contains(text, mark) || isPlaceholderFor(twin, text) {
		n.Value = strings.ReplaceAll(n.Value, mark, "")
		return
	}
	n.Value, n.Tag, n.Style = text, "!!str", yaml.DoubleQuotedStyle
}

// isPlaceholderFor reports whether the manifest has a number or a boolean in the field, and the text is one in its only
// form: then the field keeps its type, as kustomize means it.
func isPlaceholderFor(field *yaml.Node, text string) bool {
	switch field.Tag {
	case "!!int", "!!float":
		return json.Valid([]byte(text)) && !strings.ContainsAny(text, "eE\"[{tfn")
	case "!!bool":
		return text == "true" || text == "false"
	}
	return false
}
