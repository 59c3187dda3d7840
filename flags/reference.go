package flags

import (
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

const refKey = "$ref"

// references are the $evaluators of a flag set: rules that flags share, by name.
type references map[string]*reference

type reference struct {
	rule     jsondoc.Node
	resolved measured
	state    int // of its resolution: none, begun, done
	broken   bool
}

const (
	begun = iota + 1
	done
)

// measured is a value without references, and how huge it is written out. Nodes are shared, so that it is small in memory
// even where written out it would not be.
type measured struct {
	node               jsondoc.Node
	nodes, deep, bytes int // bytes: at most so many
}

// huge is what a value counts as that is larger: sums of it overflow nowhere.
const huge = 1 << 30

func (r *SetReader) evaluators(n jsondoc.Node) {
	all, ok := r.members(n, "$evaluators")
	if !ok {
		return
	}
	for _, m := range all {
		if _, ok := m.Value.(jsondoc.Members); !ok {
			r.Fault(jsondoc.WrongType, m.Line,
				"evaluator %.60q must be a rule, a mapping, not %s", m.Key, jsondoc.Describe(m.Value))
			r.shared[m.Key] = &reference{state: done, broken: true}
			continue
		}
		r.shared[m.Key] = &reference{rule: m.Node}
	}
	for _, m := range all {
		r.refer(m.Key, m.Line, nil)
	}
}

// resolve gives a flag's rule without references. ok is false if that is not possible, which was said.
func (r *SetReader) resolve(n jsondoc.Node) (jsondoc.Node, bool) {
	m, refers := measure(n)
	ok := true
	if refers {
		m, ok = r.expand(n, nil)
	}
	switch {
	case !ok:
		return jsondoc.Node{}, false
	case m.nodes > r.bounds.nodes:
		r.Fault(jsondoc.TooLarge, n.Line,
			"the rule has more than %d nodes, references resolved: make it smaller", r.bounds.nodes)
		return jsondoc.Node{}, false
	case m.deep > r.bounds.depth:
		r.Fault(jsondoc.TooLarge, n.Line,
			"the rule nests deeper than %d levels, references resolved: make it flatter", r.bounds.depth)
		return jsondoc.Node{}, false
	}
	return m.node, r.take(n.Line, m.bytes)
}

// refer gives the rule that is called name. through has the evaluators on the way to it.
func (r *SetReader) refer(name string, line int, through []string) (measured, bool) {
	ref := r.shared[name]
	switch {
	case ref == nil:
		r.Fault(jsondoc.UnknownReference, line,
			"there is no evaluator %.60q: $evaluators of the same file must have it", name)
		return measured{}, false
	case ref.state == begun:
		circle := slices.Concat(through[slices.Index(through, name):], []string{name})
		r.Fault(jsondoc.Conflict, line,
			"evaluators refer to each other in a circle: %s", jsondoc.Clip(strings.Join(circle, ", ")))
		return measured{}, false
	case ref.state == 0:
		ref.state = begun
		var ok bool
		ref.resolved, ok = r.expand(ref.rule, append(through, name))
		ref.state, ref.broken = done, !ok
	}
	return ref.resolved, !ref.broken
}

// measure tells how huge n is, and whether there are references in it.
func measure(n jsondoc.Node) (m measured, refers bool) {
	m = measured{node: n, nodes: 1, bytes: width(n.Value)}
	add := func(child jsondoc.Node) {
		if !child.IsCollection() {
			m.nodes, m.bytes = m.nodes+1, min(m.bytes+width(child.Value), huge)
			return
		}
		size, more := measure(child)
		m.nodes, m.deep, m.bytes, refers = m.nodes+size.nodes, max(m.deep, size.deep), min(m.bytes+size.bytes, huge), refers || more
	}
	switch v := n.Value.(type) {
	case jsondoc.Members:
		refers = v.Get(refKey) != nil
		for i := range v {
			m.bytes += width(v[i].Key)
			add(v[i].Node)
		}
		m.deep++
	case []jsondoc.Node:
		for i := range v {
			add(v[i])
		}
		m.deep++
	}
	return m, refers
}

// expand gives n with what it refers to in place. through has the evaluators on the way to it.
func (r *SetReader) expand(n jsondoc.Node, through []string) (measured, bool) {
	m, ok := measured{nodes: 1, bytes: width(n.Value)}, true
	add := func(child jsondoc.Node) jsondoc.Node {
		x, fine := r.expand(child, through)
		ok = ok && fine
		m.nodes, m.deep, m.bytes = min(m.nodes+x.nodes, huge), max(m.deep, x.deep), min(m.bytes+x.bytes, huge)
		return x.node
	}
	switch v := n.Value.(type) {
	case jsondoc.Members:
		if ref := v.Get(refKey); ref != nil {
			name, text := ref.Value.(string)
			if !text || len(v) > 1 {
				r.Fault(jsondoc.WrongValue, ref.Line, "%s must stand alone, and name an evaluator", refKey)
				return measured{}, false
			}
			return r.refer(name, ref.Line, through)
		}
		own := slices.Clone(v)
		for i := range own {
			m.bytes += width(v[i].Key)
			own[i].Node = add(v[i].Node)
		}
		n.Value = own
		m.deep++
	case []jsondoc.Node:
		own := make([]jsondoc.Node, len(v))
		for i := range own {
			own[i] = add(v[i])
		}
		n.Value = own
		m.deep++
	}
	m.node = n
	return m, ok
}

// width gives how many bytes a value takes that is written out, at most: of a collection, what is around its parts.
func width(v any) int {
	const longest = 25 // of a number and a comma
	s, ok := v.(string)
	if !ok {
		return longest
	}
	n := len(s) + len(`"":,`)
	for i := range len(s) {
		switch c := s[i]; {
		case c > '~': // U+2028 is three bytes, and six
			n++
		case c < ' ' || c == '"' || c == '\\':
			n += len(`\u0000`) - 1
		}
	}
	return n
}
