package template

import (
	"iter"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field returns the value of a key of a mapping; nil: there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	for k, v := range pairs(n) {
		if k.Value == key {
			return v
		}
	}
	return nil
}

// pairs yields the keys and values of a mapping; of anything else, nothing.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(k, v *yaml.Node) bool) {
		if n == nil || n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// intrinsic returns the name of the function that a node calls, in its long form, and the argument; empty: it is none.
func intrinsic(n *yaml.Node) (name string, argument *yaml.Node) {
	if n == nil {
		return "", nil
	}
	if short, ok := strings.CutPrefix(n.Tag, "!"); ok && !strings.HasPrefix(short, "!") {
		plain := *n
		plain.Tag = ""
		if short == "Ref" || short == "Condition" {
			return short, &plain
		}
		return "Fn::" + short, &plain
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 {
		if key := n.Content[0].Value; key == "Ref" || strings.HasPrefix(key, "Fn::") {
			return key, n.Content[1]
		}
	}
	return "", nil
}

// literal returns the text of a scalar that no function computes.
func literal(n *yaml.Node) (string, bool) {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", false
	}
	if name, _ := intrinsic(n); name != "" {
		return "", false
	}
	return n.Value, true
}

// items returns what a node may come to: the elements of a list, or itself. Of Fn::If, both branches.
func items(n *yaml.Node) (all []*yaml.Node) {
	if n == nil {
		return nil
	}
	switch name, argument := intrinsic(n); {
	case name == "Fn::If" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 3:
		return append(items(argument.Content[1]), items(argument.Content[2])...)
	case name == "" && n.Kind == yaml.SequenceNode:
		for _, element := range n.Content {
			all = append(all, items(element)...)
		}
		return all
	}
	return []*yaml.Node{n}
}
