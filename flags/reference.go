package flags

import (
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

const refKey = "$ref"

// references are the $evaluators of a flag set, by name: rules that flags share.
type references map[string]*reference

type reference struct {
	rule     jsondoc.Node
	resolved sizedNode
	state    int // of the resolution: 0, resolving or resolved
	broken   bool
}

const (
	resolving = iota + 1
	resolved
)

// sizedNode is a value without references, with the size of the value written out. Nodes are shared: memory use stays
// small even if the written form would not.
type sizedNode struct {
	node                jsondoc.Node
	nodes, depth, bytes int // bytes is an upper bound
}

// maxSize caps sizes, so that sums never overflow.
const maxSize = 1 << 30

func (r *SetReader) readEvaluators(n jsondoc.Node) {
	all, ok := r.mappingMembers(n, "$evaluators")
	if !ok {
		return
	}
	for _, m := range all {
		if _, ok := m.Value.(jsondoc.Members); !ok {
			r.Fault(jsondoc.WrongType, m.Line,
				"evaluator %.60q must be a rule, a mapping, not %s", m.Key, jsondoc.Describe(m.Value))
			r.evaluators[m.Key] = &reference{state: resolved, broken: true}
			continue
		}
		r.evaluators[m.Key] = &reference{rule: m.Node}
	}
	for _, m := range all {
		r.resolveEvaluator(m.Key, m.Line, nil)
	}
}

// resolveReferences returns a flag's rule without references. ok is false after a fault.
func (r *SetReader) resolveReferences(n jsondoc.Node) (jsondoc.Node, bool) {
	m, refers := measureNode(n)
	ok := true
	if refers {
		m, ok = r.expandReferences(n, nil)
	}
	switch {
	case !ok:
		return jsondoc.Node{}, false
	case m.nodes > r.bounds.nodes:
		r.Fault(jsondoc.TooLarge, n.Line,
			"the rule has more than %d nodes, references resolved: make it smaller", r.bounds.nodes)
		return jsondoc.Node{}, false
	case m.depth > r.bounds.depth:
		r.Fault(jsondoc.TooLarge, n.Line,
			"the rule nests deeper than %d levels, references resolved: make it flatter", r.bounds.depth)
		return jsondoc.Node{}, false
	}
	return m.node, r.reserveBytes(n.Line, m.bytes)
}

// resolveEvaluator returns the rule of an evaluator. through lists the evaluators on the way there.
func (r *SetReader) resolveEvaluator(name string, line int, through []string) (sizedNode, bool) {
	ref := r.evaluators[name]
	switch {
	case ref == nil:
		r.Fault(jsondoc.UnknownReference, line,
			"there is no evaluator %.60q: $evaluators of the same file must have it", name)
		return sizedNode{}, false
	case ref.state == resolving:
		circle := slices.Concat(through[slices.Index(through, name):], []string{name})
		r.Fault(jsondoc.Conflict, line,
			"evaluators refer to each other in a circle: %s", jsondoc.Clip(strings.Join(circle, ", ")))
		return sizedNode{}, false
	case ref.state == 0:
		ref.state = resolving
		var ok bool
		ref.resolved, ok = r.expandReferences(ref.rule, append(through, name))
		ref.state, ref.broken = resolved, !ok
	}
	return ref.resolved, !ref.broken
}

// measureNode returns the size of n and reports whether n contains references.
func measureNode(n jsondoc.Node) (m sizedNode, refers bool) {
	m = sizedNode{node: n, nodes: 1, bytes: encodedSize(n.Value)}
	add := func(child jsondoc.Node) {
		if !child.IsCollection() {
			m.nodes, m.bytes = m.nodes+1, min(m.bytes+encodedSize(child.Value), maxSize)
			return
		}
		size, more := measureNode(child)
		m.nodes, m.depth, m.bytes = m.nodes+size.nodes, max(m.depth, size.depth), min(m.bytes+size.bytes, maxSize)
		refers = refers || more
	}
	switch v := n.Value.(type) {
	case jsondoc.Members:
		refers = v.Get(refKey) != nil
		for i := range v {
			m.bytes += encodedSize(v[i].Key)
			add(v[i].Node)
		}
		m.depth++
	case []jsondoc.Node:
		for i := range v {
			add(v[i])
		}
		m.depth++
	}
	return m, refers
}

// expandReferences returns n with references replaced by rules. through lists the evaluators on the way there.
func (r *SetReader) expandReferences(n jsondoc.Node, through []string) (sizedNode, bool) {
	m, ok := sizedNode{nodes: 1, bytes: encodedSize(n.Value)}, true
	add := func(child jsondoc.Node) jsondoc.Node {
		x, fine := r.expandReferences(child, through)
		ok = ok && fine
		m.nodes, m.depth, m.bytes = min(m.nodes+x.nodes, maxSize), max(m.depth, x.depth), min(m.bytes+x.bytes, maxSize)
		return x.node
	}
	switch v := n.Value.(type) {
	case jsondoc.Members:
		if ref := v.Get(refKey); ref != nil {
			name, text := ref.Value.(string)
			if !text || len(v) > 1 {
				r.Fault(jsondoc.WrongValue, ref.Line, "%s must stand alone, and name an evaluator", refKey)
				return sizedNode{}, false
			}
			return r.resolveEvaluator(name, ref.Line, through)
		}
		own := slices.Clone(v)
		for i := range own {
			m.bytes += encodedSize(v[i].Key)
			own[i].Node = add(v[i].Node)
		}
		n.Value = own
		m.depth++
	case []jsondoc.Node:
		own := make([]jsondoc.Node, len(v))
		for i := range own {
			own[i] = add(v[i])
		}
		n.Value = own
		m.depth++
	}
	m.node = n
	return m, ok
}

// encodedSize returns an upper bound of a value's encoded size in bytes; for a collection, of the brackets alone.
func encodedSize(v any) int {
	const longest = 25 // the longest number and a comma
	s, ok := v.(string)
	if !ok {
		return longest
	}
	n := len(s) + len(`"":,`)
	for i := range len(s) {
		switch c := s[i]; {
		case c > '~': // U+2028 takes three bytes, and six escaped
			n++
		case c < ' ' || c == '"' || c == '\\':
			n += len(`\u0000`) - 1
		}
	}
	return n
}
