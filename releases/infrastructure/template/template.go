// Package template checks the CloudFormation templates of infrastructure updates: types and properties of resources
// against AWS's published schema (spec.json, which tools/cfnspec makes), the targets of references, and our own rules
// about what a template may do in a customer's account.
//
// The package is pure: it asks no AWS, and a template that passes may still be refused by it. Everything may be called
// at once.
package template

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// Sizes of a template that CloudFormation takes, in bytes: in a request, and from a bucket.
const (
	MaxInline = 51_200
	MaxURL    = 1_000_000
)

const (
	maxDepth  = 60
	maxFaults = 200 // of one template
)

// CheckAll returns the faults of all templates of updates.
func CheckAll(fsys fs.FS, updates []infrastructure.Update) (faults []manifest.Fault) {
	for i := range updates {
		u := &updates[i]
		files := u.Templates()
		for j, file := range files {
			data, fault := readTemplate(fsys, file)
			if fault != nil {
				faults = append(faults, *fault)
				continue
			}
			faults = append(faults, Check(file, data, u.Number, j == len(files)-1)...)
		}
	}
	return manifest.Sort(faults)
}

func readTemplate(fsys fs.FS, file string) ([]byte, *manifest.Fault) {
	info, err := fs.Stat(fsys, file)
	if err == nil && info.Size() > MaxURL {
		return nil, &manifest.Fault{File: file, Code: manifest.TooLarge,
			Message: fmt.Sprintf("size: has %d bytes, and CloudFormation takes at most %d", info.Size(), MaxURL)}
	}
	var data []byte
	if err == nil {
		data, err = fs.ReadFile(fsys, file)
	}
	if err != nil {
		return nil, &manifest.Fault{File: file, Code: manifest.Unreadable,
			Message: fmt.Sprintf("can't be read: %v", err)}
	}
	return data, nil
}

// Check returns the faults of the template of an infrastructure update. last: the template is executed last, and so has
// the parameter that says which update the cell has.
func Check(file string, data []byte, number int, last bool) []manifest.Fault {
	c := &checker{file: file}
	if !c.parse(data) {
		return c.faults
	}
	if len(data) > MaxInline {
		c.faults = append(c.faults, manifest.Fault{File: file, Code: manifest.TooLarge, Warning: true,
			Message: fmt.Sprintf("size: has %d bytes, and above %d a template has to be in a bucket", len(data),
				MaxInline)})
	}
	c.checkSchema()
	c.checkReferences()
	c.checkRules(number, last)
	return manifest.Sort(c.faults)
}

// CheckSchema returns what is wrong with a template by AWS's schema and its references alone: our rules are not asked.
func CheckSchema(file string, data []byte) []manifest.Fault {
	c := &checker{file: file}
	if c.parse(data) {
		c.checkSchema()
		c.checkReferences()
	}
	return manifest.Sort(c.faults)
}

// checker is one template while it is checked.
type checker struct {
	file        string
	root        *yaml.Node
	resources   map[string]*resource
	parameters  map[string]*yaml.Node
	transformed bool // AWS changes the template before it reads it, so that names may come from there
	faults      []manifest.Fault
}

// resource is one entry of Resources.
type resource struct {
	name, kind string
	node       *yaml.Node
	properties *yaml.Node // nil: there are none
}

func (c *checker) fault(code manifest.FaultCode, n *yaml.Node, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, manifest.Fault{File: c.file, Line: n.Line, Code: code,
			Message: fmt.Sprintf(format, args...)})
	}
}

// parse reads the document, and the names that it defines. It reports whether there is anything to check.
func (c *checker) parse(data []byte) bool {
	var document yaml.Node
	if len(data) > MaxURL {
		c.faults = append(c.faults, manifest.Fault{File: c.file, Code: manifest.TooLarge,
			Message: fmt.Sprintf("size: has %d bytes, and CloudFormation takes at most %d", len(data), MaxURL)})
		return false
	}
	if err := yaml.Unmarshal(data, &document); err != nil {
		c.faults = append(c.faults, manifest.Fault{File: c.file, Code: manifest.Syntax,
			Message: "is no YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")})
		return false
	}
	if len(document.Content) == 0 || document.Content[0].Kind != yaml.MappingNode {
		c.faults = append(c.faults, manifest.Fault{File: c.file, Code: manifest.WrongType, Line: 1,
			Message: "is no template: it has no Resources"})
		return false
	}
	c.root = document.Content[0]
	if !c.checkNode(c.root, 0) {
		return false
	}
	c.resources, c.parameters = map[string]*resource{}, map[string]*yaml.Node{}
	c.transformed = field(c.root, "Transform") != nil
	for name, n := range pairs(field(c.root, "Parameters")) {
		c.parameters[name.Value] = n
	}
	for name, n := range pairs(field(c.root, "Resources")) {
		if strings.HasPrefix(name.Value, "Fn::") {
			c.transformed = true
			continue
		}
		kind, _ := literal(field(n, "Type"))
		c.resources[name.Value] = &resource{name.Value, kind, n, field(n, "Properties")}
	}
	return true
}

// checkNode refuses what CloudFormation does not read: aliases, merges, keys that are there twice, and great depth.
func (c *checker) checkNode(n *yaml.Node, depth int) bool {
	switch {
	case depth > maxDepth:
		c.fault(manifest.TooLarge, n, "is nested deeper than %d", maxDepth)
		return false
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		c.fault(manifest.Syntax, n, "CloudFormation reads no aliases")
		return false
	}
	whole, seen := true, map[string]bool{}
	if n.Kind == yaml.MappingNode {
		for key := range pairs(n) {
			if seen[key.Value] {
				c.fault(manifest.Duplicate, key, "%.100q is there twice", key.Value)
			}
			seen[key.Value] = true
		}
	}
	for _, child := range n.Content {
		whole = c.checkNode(child, depth+1) && whole
	}
	return whole
}

// sorted returns the resources by line.
func (c *checker) sorted() []*resource {
	all := make([]*resource, 0, len(c.resources))
	for _, r := range c.resources {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *resource) int { return a.node.Line - b.node.Line })
	return all
}
