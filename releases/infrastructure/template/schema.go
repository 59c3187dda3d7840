package template

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/manifest"
)

//go:embed spec.json
var specText []byte

// spec is AWS's schema as tools/cfnspec writes it. A property is "!" if it is required, and its type.
type spec struct {
	Names     []string // of all types, sorted
	Resources map[string]struct {
		Properties map[string]string
		Attributes []string
	}
	Types map[string]map[string]string // definitions of objects, by number
}

// schema reads the schema, once.
var schema = sync.OnceValue(func() (s spec) {
	if err := json.Unmarshal(specText, &s); err != nil {
		panic(err) // the text is embedded, and a test reads it
	}
	return s
})

func (c *checker) checkSchema() {
	sections := []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings",
		"Conditions", "Transform", "Hooks", "Resources", "Outputs"}
	if c.transformed {
		sections = append(sections, "Globals") // of the Serverless Application Model
	}
	for key := range pairs(c.root) {
		if !slices.Contains(sections, key.Value) {
			c.fault(manifest.UnknownField, key, "%.100q is no section of a template", key.Value)
		}
	}
	if len(c.resources) == 0 && !c.transformed {
		c.fault(manifest.Missing, c.root, "the template has no Resources")
	}
	attributes := []string{"Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy",
		"UpdateReplacePolicy", "UpdatePolicy", "CreationPolicy"}
	for _, r := range c.sorted() {
		for key := range pairs(r.node) {
			if !slices.Contains(attributes, key.Value) {
				c.fault(manifest.UnknownField, key, "%s: %.100q is no attribute of a resource", r.name, key.Value)
			}
		}
		c.checkResource(r)
	}
}

func (c *checker) checkResource(r *resource) {
	s := schema()
	known, ok := s.Resources[r.kind]
	_, named := slices.BinarySearch(s.Names, r.kind)
	switch {
	case r.kind == "":
		c.fault(manifest.Missing, r.node, "%s has no Type", r.name)
		return
	case !strings.HasPrefix(r.kind, "AWS::"), r.kind == "AWS::CDK::Metadata", c.transformed && !ok:
		return // others' types, and what AWS makes of a macro
	case !named:
		c.fault(manifest.UnknownReference, field(r.node, "Type"), "%s: there is no type %.100q", r.name, r.kind)
		return
	case !ok:
		return // the type exists, and its properties are not in our part of the schema
	}
	if r.properties != nil {
		c.checkProperties(r.properties, known.Properties, r.name)
		return
	}
	empty := &yaml.Node{Kind: yaml.MappingNode, Line: r.node.Line}
	c.checkProperties(empty, known.Properties, r.name)
}

// checkProperties checks an object. where names it.
func (c *checker) checkProperties(n *yaml.Node, known map[string]string, where string) {
	if name, argument := intrinsic(n); name != "" {
		if name == "Fn::If" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 3 {
			c.checkProperties(argument.Content[1], known, where)
			c.checkProperties(argument.Content[2], known, where)
		}
		return
	}
	if n.Kind != yaml.MappingNode {
		c.fault(manifest.WrongType, n, "%s is an object with properties", where)
		return
	}
	for key, value := range pairs(n) {
		if strings.HasPrefix(key.Value, "Fn::") {
			return // a macro brings properties
		}
		kind, ok := known[key.Value]
		if !ok {
			c.fault(manifest.UnknownField, key, "%s has no property %.100q", where, key.Value)
			continue
		}
		c.checkValue(value, strings.TrimPrefix(kind, "!"), where+"."+key.Value)
	}
	for name, kind := range known {
		if strings.HasPrefix(kind, "!") && field(n, name) == nil {
			c.fault(manifest.Missing, n, "%s needs %s", where, name)
		}
	}
}

// checkValue checks a value against a type. CloudFormation takes scalars for each other where the text fits.
func (c *checker) checkValue(n *yaml.Node, kind, where string) {
	if name, argument := intrinsic(n); name != "" {
		if name == "Fn::If" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 3 {
			c.checkValue(argument.Content[1], kind, where)
			c.checkValue(argument.Content[2], kind, where)
		}
		return
	}
	if n.Tag == "!!null" {
		c.fault(manifest.WrongType, n, "%s has no value", where)
		return
	}
	if first, rest, several := strings.Cut(kind, "|"); several {
		c.checkAlternatives(n, first, rest, where)
		return
	}
	switch kind[0] {
	case '[':
		if n.Kind != yaml.SequenceNode {
			c.fault(manifest.WrongType, n, "%s is a list", where)
			return
		}
		for _, element := range n.Content {
			c.checkValue(element, kind[1:], where)
		}
	case '{':
		if n.Kind != yaml.MappingNode {
			c.fault(manifest.WrongType, n, "%s is a map", where)
			return
		}
		for _, value := range pairs(n) {
			c.checkValue(value, kind[1:], where)
		}
	case '#':
		c.checkProperties(n, schema().Types[kind[1:]], where)
	default:
		c.checkPrimitive(n, kind, where)
	}
}

// checkAlternatives accepts a value that fits one of several types. If none fits, what the first says counts.
func (c *checker) checkAlternatives(n *yaml.Node, first, rest, where string) {
	before := len(c.faults)
	c.checkValue(n, first, where)
	said := slices.Clone(c.faults[before:])
	if len(said) == 0 {
		return
	}
	c.faults = c.faults[:before]
	c.checkValue(n, rest, where)
	if len(c.faults) > before {
		c.faults = append(c.faults[:before], said...)
	}
}

func (c *checker) checkPrimitive(n *yaml.Node, kind, where string) {
	switch kind {
	case "json":
		return
	case "tag":
		if n.Kind != yaml.MappingNode || field(n, "Key") == nil {
			c.fault(manifest.WrongType, n, "%s is a list of tags, each with Key and Value", where)
		}
		return
	}
	if n.Kind != yaml.ScalarNode {
		c.fault(manifest.WrongType, n, "%s is of type %s", where, kind)
		return
	}
	fits := true
	switch kind {
	case "boolean":
		fits = strings.EqualFold(n.Value, "true") || strings.EqualFold(n.Value, "false")
	case "integer":
		_, err := strconv.ParseInt(n.Value, 10, 64)
		fits = err == nil
	case "number":
		_, err := strconv.ParseFloat(n.Value, 64)
		fits = err == nil
	}
	if !fits {
		c.fault(manifest.WrongType, n, "%s is of type %s, and %.60q is not", where, kind, n.Value)
	}
}
