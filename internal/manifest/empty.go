package manifest

import (
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// RefuseEmpty returns a fault for each field of the document that is there without a value: null, "" or []. Decode
// reads such a field as absent, which is seldom what its author meant: an empty list of approvers would let everybody
// approve. A mapping without entries says what it means, and so does a field with the tag empty:"absent". Required
// fields are Decode's to refuse. Fields of the allowed names may be empty: an earlier version wrote them so.
func (d *Doc[T]) RefuseEmpty(allowed ...string) []Fault {
	if d.root == nil {
		return nil
	}
	r := emptyRefuser{Checker: jsondoc.Checker{File: d.File}, left: maxEntries, allowed: allowed}
	r.check(decodePlanOf(reflect.TypeFor[T]()), d.root, "", maxDepth)
	return r.Faults
}

type emptyRefuser struct {
	jsondoc.Checker
	allowed []string
	left    int // nodes that it may still visit: aliases may lead to the same ones again and again
}

func (r *emptyRefuser) check(p *decodePlan, n *yaml.Node, where string, depth int) {
	if r.left--; depth == 0 || r.left < 0 {
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch p.kind {
	case readPointer:
		r.check(p.elem, n, where, depth)
	case readStruct:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			at, known := p.byName[n.Content[i].Value]
			if !known {
				continue
			}
			f := &p.fields[at]
			switch {
			case f.emptyIsAbsent, slices.Contains(r.allowed, f.name):
			case f.required:
				r.check(f.plan, n.Content[i+1], joinPath(where, f.name), depth-1)
			default:
				r.checkField(f.plan, n.Content[i], n.Content[i+1], joinPath(where, f.name), depth)
			}
		}
	case readMap:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content) && p.elem.kind != readAny; i += 2 {
			if value := n.Content[i+1]; value.Kind == yaml.ScalarNode && value.ShortTag() == "!!str" {
				continue // a label may be ""
			}
			r.checkField(p.elem, n.Content[i], n.Content[i+1], where+"["+n.Content[i].Value+"]", depth)
		}
	case readSlice:
		for i := 0; n.Kind == yaml.SequenceNode && i < len(n.Content); i++ {
			r.check(p.elem, n.Content[i], where+"["+strconv.Itoa(i)+"]", depth-1)
		}
	}
}

// checkField checks the value n of the field that key begins.
func (r *emptyRefuser) checkField(p *decodePlan, key, n *yaml.Node, at string, depth int) {
	value := n
	if n.Kind == yaml.AliasNode {
		value = n.Alias
	}
	empty := value.Kind == yaml.ScalarNode && (value.ShortTag() == "!!null" || value.Value == "") ||
		value.Kind == yaml.SequenceNode && len(value.Content) == 0
	if empty {
		r.Fault(Missing, key.Line, "%s is empty: give it a value, or leave it out", jsondoc.Clip(at))
		return
	}
	r.check(p, n, at, depth-1)
}

func joinPath(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
