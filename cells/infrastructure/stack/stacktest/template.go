package stacktest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// template is what counts of a template.
type template struct {
	metadata   string // JSON
	resources  string // to compare
	parameters []declared
	versions   map[string]parameterResource // of Systems Manager, by logical name
	logical    []string                     // names of all resources
	roles      bool                         // whether it makes roles
}

type declared struct {
	name, preset string
	isPreset     bool
	noEcho       bool
}

type parameterResource struct{ name, value string } // as the template has them

func readTemplate(text string) (*template, error) {
	var d struct {
		Metadata   any                  `yaml:"Metadata"`
		Parameters map[string]yaml.Node `yaml:"Parameters"`
		Resources  map[string]struct {
			Type       string               `yaml:"Type"`
			Properties map[string]yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	var whole struct {
		Resources yaml.Node `yaml:"Resources"`
	}
	if yaml.Unmarshal([]byte(text), &d) != nil || yaml.Unmarshal([]byte(text), &whole) != nil || len(d.Resources) == 0 {
		return nil, invalid("Template format error")
	}
	t := &template{versions: map[string]parameterResource{}}
	if d.Metadata != nil {
		data, err := json.Marshal(d.Metadata)
		if err != nil {
			return nil, err
		}
		t.metadata = string(data)
	}
	data, err := yaml.Marshal(&whole.Resources)
	if err != nil {
		return nil, err
	}
	t.resources = string(data)
	for name, node := range d.Parameters {
		var p struct {
			Default *string `yaml:"Default"`
			NoEcho  bool    `yaml:"NoEcho"`
		}
		if err := node.Decode(&p); err != nil {
			return nil, invalid("%v", err)
		}
		one := declared{name: name, isPreset: p.Default != nil, noEcho: p.NoEcho}
		if p.Default != nil {
			one.preset = *p.Default
		}
		t.parameters = append(t.parameters, one)
	}
	for name, r := range d.Resources {
		t.logical = append(t.logical, name)
		t.roles = t.roles || strings.HasPrefix(r.Type, "AWS::IAM::")
		if r.Type == "AWS::SSM::Parameter" {
			t.versions[name] = parameterResource{r.Properties["Name"].Value, r.Properties["Value"].Value}
		}
	}
	slices.Sort(t.logical)
	return t, nil
}

var reference = regexp.MustCompile(`\$\{([^}]+)\}`)

// fill puts parameters into a text of !Sub.
func fill(text string, values map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(r string) string { return values[r[2:len(r)-1]] })
}

// PolicyOf returns what a role of a template may do, whatever the resource.
func PolicyOf(text []byte, role string) (p Policy, err error) {
	var d struct {
		Resources map[string]struct {
			Properties struct {
				Policies []struct {
					PolicyDocument struct {
						Statement []struct {
							Effect string    `yaml:"Effect"`
							Action yaml.Node `yaml:"Action"`
						} `yaml:"Statement"`
					} `yaml:"PolicyDocument"`
				} `yaml:"Policies"`
			} `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &d); err != nil {
		return p, err
	}
	for _, policy := range d.Resources[role].Properties.Policies {
		for _, s := range policy.PolicyDocument.Statement {
			actions := []string{s.Action.Value}
			if s.Action.Kind == yaml.SequenceNode {
				actions = nil
				if err := s.Action.Decode(&actions); err != nil {
					return p, err
				}
			}
			if s.Effect == "Allow" {
				p.Allow = append(p.Allow, actions...)
			} else {
				p.Deny = append(p.Deny, actions...)
			}
		}
	}
	if len(p.Allow) == 0 {
		return p, fmt.Errorf("the template allows %s nothing", role)
	}
	return p, nil
}
