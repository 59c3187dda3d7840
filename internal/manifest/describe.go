package manifest

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/jsondoc"
	"github.com/sluice-cd/sluice/internal/words"
)

// addUnknownField adds a fault for a key that is no field of p, with the field that was most likely meant.
func (d *decoder) addUnknownField(p *decodePlan, key *yaml.Node) {
	if d.Stopped() {
		return
	}
	names := make([]string, len(p.fields))
	for i := range p.fields {
		names[i] = p.fields[i].name
	}
	switch near := words.Nearest(key.Value, names); {
	case key.Kind != yaml.ScalarNode:
		d.fault(WrongType, key, "a field's name must be text")
	case key.Value == "<<":
		d.fault(Syntax, key, "merge keys (<<) are not read: write the fields out")
	case near != "":
		d.fault(UnknownField, key, "unknown field %q; did you mean %q?", jsondoc.Clip(key.Value), near)
	default:
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
