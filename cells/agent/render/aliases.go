package render

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/releases"
)

// maxExpandedNodes bounds the nodes of a document with its aliases expanded.
const maxExpandedNodes = 1_000_000

// refuseAliasBombs returns an error, with file and line, for YAML whose aliases expand to too many nodes (fault 29). It
// is called before kustomize expands them. Invalid YAML is left to kustomize, which reports it.
func refuseAliasBombs(files releases.Files) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name].Data
		switch path.Ext(name) {
		case ".yaml", ".yml", ".json", "":
		default:
			continue
		}
		if bytes.IndexByte(data, '&') < 0 || bytes.IndexByte(data, '*') < 0 {
			continue // an alias needs an anchor
		}
		documents := yaml.NewDecoder(bytes.NewReader(data))
		for {
			var node yaml.Node
			if documents.Decode(&node) != nil {
				break // the end, or invalid YAML
			}
			if line := (expansion{}).overflow(&node); line > 0 {
				return fmt.Errorf("%s:%d: its aliases expand to more than %d nodes", name, line, maxExpandedNodes)
			}
		}
	}
	return nil
}

// expansion holds the expanded size of each visited node; 0 while it is being counted.
type expansion map[*yaml.Node]int

// overflow returns the line at which a document exceeds maxExpandedNodes; 0 if the document stays below.
func (e expansion) overflow(n *yaml.Node) int {
	if size, known := e[n]; known {
		if size == 0 {
			return n.Line // the node contains itself
		}
		return 0
	}
	e[n] = 0
	size := 1
	children := n.Content
	if n.Kind == yaml.AliasNode {
		children = []*yaml.Node{n.Alias}
	}
	for _, c := range children {
		if line := e.overflow(c); line > 0 {
			return line
		}
		if size += e[c]; size > maxExpandedNodes {
			return n.Line
		}
	}
	e[n] = size
	return 0
}
