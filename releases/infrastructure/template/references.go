package template

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// substitution matches what Fn::Sub replaces; ${!…} stays as text.
var substitution = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$\{\s*([^!}\s][^}]*?)\s*\}`) })

// checkReferences checks that what the template refers to is there.
func (c *checker) checkReferences() {
	for _, section := range []string{"Resources", "Outputs", "Conditions"} {
		c.checkCalls(field(c.root, section))
	}
	for _, r := range c.sorted() {
		for _, name := range items(field(r.node, "DependsOn")) {
			if text, ok := literal(name); ok && c.resources[text] == nil && !c.transformed {
				c.fault(manifest.UnknownReference, name, "%s depends on %.100q, which the template does not have", r.name,
					text)
			}
		}
		c.checkCondition(field(r.node, "Condition"))
	}
	for _, output := range pairs(field(c.root, "Outputs")) {
		c.checkCondition(field(output, "Condition"))
	}
}

func (c *checker) checkCondition(n *yaml.Node) {
	if name, ok := literal(n); ok && field(field(c.root, "Conditions"), name) == nil && !c.transformed {
		c.fault(manifest.UnknownReference, n, "there is no condition %.100q", name)
	}
}

// checkCalls checks the functions that a node and everything below call.
func (c *checker) checkCalls(n *yaml.Node) {
	if n == nil {
		return
	}
	name, argument := intrinsic(n)
	switch name {
	case "Ref":
		if text, ok := literal(argument); ok {
			c.checkName(argument, text, nil)
		}
		return
	case "Condition":
		c.checkCondition(argument)
		return
	case "Fn::GetAtt":
		c.checkGetAtt(argument)
		return
	case "Fn::Sub":
		c.checkSub(argument)
	case "Fn::If":
		if argument.Kind == yaml.SequenceNode && len(argument.Content) == 3 {
			c.checkCondition(argument.Content[0])
		} else {
			c.fault(manifest.WrongValue, argument, "Fn::If takes a condition and two values")
		}
	case "Fn::FindInMap":
		if argument.Kind == yaml.SequenceNode && len(argument.Content) > 0 {
			if text, ok := literal(argument.Content[0]); ok && field(field(c.root, "Mappings"), text) == nil &&
				!c.transformed {
				c.fault(manifest.UnknownReference, argument.Content[0], "there is no mapping %.100q", text)
			}
		}
	}
	for _, child := range n.Content {
		c.checkCalls(child)
	}
}

func (c *checker) checkSub(argument *yaml.Node) {
	text, local := argument, (*yaml.Node)(nil)
	if argument.Kind == yaml.SequenceNode && len(argument.Content) == 2 {
		text, local = argument.Content[0], argument.Content[1]
	}
	value, ok := literal(text)
	if !ok {
		c.fault(manifest.WrongType, argument, "Fn::Sub takes a text, or a list of a text and a map")
		return
	}
	for _, m := range substitution().FindAllStringSubmatch(value, -1) {
		if name, attribute, isAttribute := strings.Cut(m[1], "."); isAttribute {
			c.checkAttribute(text, name, attribute)
		} else {
			c.checkName(text, m[1], local)
		}
	}
}

func (c *checker) checkGetAtt(argument *yaml.Node) {
	if argument.Kind == yaml.SequenceNode && len(argument.Content) == 2 {
		name, ok := literal(argument.Content[0])
		attribute, computed := literal(argument.Content[1])
		if !computed {
			attribute = ""
		}
		if ok {
			c.checkAttribute(argument, name, attribute)
		}
		return
	}
	text, _ := literal(argument)
	name, attribute, ok := strings.Cut(text, ".")
	if !ok {
		c.fault(manifest.WrongValue, argument, "Fn::GetAtt takes a resource and an attribute, such as Role.Arn")
		return
	}
	c.checkAttribute(argument, name, attribute)
}

// checkName checks the name of a parameter, a resource or a pseudo parameter, or of what local defines.
func (c *checker) checkName(at *yaml.Node, name string, local *yaml.Node) {
	pseudo := []string{"AWS::AccountId", "AWS::NotificationARNs", "AWS::NoValue", "AWS::Partition", "AWS::Region",
		"AWS::StackId", "AWS::StackName", "AWS::URLSuffix"}
	if c.parameters[name] == nil && c.resources[name] == nil && field(local, name) == nil &&
		!slices.Contains(pseudo, name) && !c.transformed {
		c.fault(manifest.UnknownReference, at, "the template has neither a parameter nor a resource %.100q", name)
	}
}

// checkAttribute checks a resource's attribute; an empty attribute is computed.
func (c *checker) checkAttribute(at *yaml.Node, name, attribute string) {
	r := c.resources[name]
	if r == nil {
		if !c.transformed {
			c.fault(manifest.UnknownReference, at, "the template has no resource %.100q", name)
		}
		return
	}
	known, ok := schema().Resources[r.kind]
	if !ok || attribute == "" || slices.Contains(known.Attributes, attribute) {
		return
	}
	if _, isProperty := known.Properties[attribute]; !isProperty {
		c.fault(manifest.UnknownReference, at, "%s, of %s, has no attribute %.100q", name, r.kind, attribute)
	}
}
