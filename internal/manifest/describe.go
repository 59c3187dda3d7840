package manifest

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// addUnknownField adds a fault for a key that is no field of p, with the field that was most likely meant.
func (d *decoder) addUnknownField(p *decodePlan, key *yaml.Node) {
	if d.Stopped() {
		return
	}
	switch near := nearest(key.Value, p.fields); {
	case key.Kind != yaml.ScalarNode:
		d.fault(WrongType, key, "a field's name must be text")
	case key.Value == "<<":
		d.fault(Syntax, key, "merge keys (<<) are not read: write the fields out")
	case near != "":
		d.fault(UnknownField, key, "unknown field %q; did you mean %q?", jsondoc.Clip(key.Value), near)
	default:
		names := make([]string, len(p.fields))
		for i := range p.fields {
			names[i] = p.fields[i].name
		}
		d.fault(UnknownField, key,
			"unknown field %q; there are: %s", jsondoc.Clip(key.Value), strings.Join(names, ", "))
	}
}

// describeNode names a node for people.
func describeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return fmt.Sprintf("the text %q", jsondoc.Clip(n.Value))
	case "!!int", "!!float":
		return "the number " + jsondoc.Clip(n.Value)
	case "!!bool":
		return jsondoc.Clip(n.Value)
	}
	return fmt.Sprintf("%q", jsondoc.Clip(n.Value))
}

func (p *decodePlan) describeType() string {
	switch p.kind {
	case readBool:
		return "true or false"
	case readInt:
		return "a whole number"
	case readUint:
		return "a whole number of at least 0"
	case readFloat:
		return "a number"
	case readDuration:
		return "a length of time"
	case readTime:
		return "an instant"
	}
	return "text"
}

// nearest returns the field that a misspelt name most likely means, "" if none is similar.
func nearest(name string, fields []field) string {
	if len(name) > 40 {
		return ""
	}
	best, at := "", 0
	for i := range fields {
		dist := editDistance(strings.ToLower(name), strings.ToLower(fields[i].name))
		if dist <= max(1, (len(name)+1)/3) && (best == "" || dist < at) {
			best, at = fields[i].name, dist
		}
	}
	return best
}

// editDistance is the Levenshtein distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
