// Command cfnspec reduces AWS's published schema of CloudFormation resources to what sluice infra validate needs: the
// names of all types and, of common ones, properties and attributes. It reads the unpacked npm package
// @aws-cdk/aws-service-spec (Apache-2.0):
//
//	npm pack @aws-cdk/aws-service-spec && tar -xzf aws-cdk-aws-service-spec-*.tgz
//	go run ./tools/cfnspec package releases/infrastructure/template/spec.json
package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// detailed are the services whose types the result has with their properties.
func detailed() []string {
	return []string{"EC2", "EKS", "IAM", "SSM", "Logs", "KMS", "S3", "RDS", "ElasticLoadBalancingV2", "AutoScaling",
		"SecretsManager", "SQS", "SNS", "Lambda", "DynamoDB", "Route53", "CloudWatch", "Events", "ECR", "ECS", "EFS"}
}

type kind struct {
	Type    string            `json:"type"`
	Element *kind             `json:"element"`
	Types   []kind            `json:"types"`
	RawRef  map[string]string `json:"reference"`
}

type property struct {
	Type     kind   `json:"type"`
	Previous []kind `json:"previousTypes"`
	Required bool   `json:"required"`
}

type entity struct {
	ID         string                     `json:"$id"`
	Name       string                     `json:"cloudFormationType"`
	Properties map[string]property        `json:"properties"`
	Attributes map[string]json.RawMessage `json:"attributes"`
}

// resource is a type in the result. A property is "!" if it is required, and its type: see write.
type resource struct {
	Properties map[string]string `json:"properties"`
	Attributes []string          `json:"attributes,omitempty"`
}

type result struct {
	Source, Version, License string
	Names                    []string
	Resources                map[string]resource
	Types                    map[string]map[string]string
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cfnspec PACKAGE-FOLDER FILE")
		os.Exit(2)
	}
	if err := reduce(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func reduce(dir, to string) error {
	var about struct{ Version, License string }
	text, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err == nil {
		err = json.Unmarshal(text, &about)
	}
	if err != nil {
		return fmt.Errorf("read the package: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, "db.json.gz"))
	if err != nil {
		return err
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	var db struct {
		Schema struct {
			Resource       struct{ Entities []entity }
			TypeDefinition struct{ Entities []entity }
		}
	}
	if err := json.NewDecoder(unpacked).Decode(&db); err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	types := map[string]entity{}
	for _, t := range db.Schema.TypeDefinition.Entities {
		types[t.ID] = t
	}
	out := result{Source: "npm @aws-cdk/aws-service-spec", Version: about.Version, License: about.License,
		Resources: map[string]resource{}, Types: map[string]map[string]string{}}
	r := reducer{types, out.Types}
	for _, e := range db.Schema.Resource.Entities {
		out.Names = append(out.Names, e.Name)
		if parts := strings.Split(e.Name, "::"); !slices.Contains(detailed(), parts[1]) {
			continue
		}
		one := resource{Properties: r.properties(e)}
		for name := range e.Attributes {
			one.Attributes = append(one.Attributes, name)
		}
		slices.Sort(one.Attributes)
		out.Resources[e.Name] = one
	}
	slices.Sort(out.Names)
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	lines := strings.NewReplacer(`},"AWS::`, "},\n\"AWS::", `],"Resources"`, "],\n\"Resources\"", `},"Types"`,
		"},\n\"Types\"").Replace(string(data))
	return os.WriteFile(to, []byte(lines+"\n"), 0o644)
}

type reducer struct {
	types map[string]entity
	into  map[string]map[string]string
}

func (r reducer) properties(e entity) map[string]string {
	all := map[string]string{}
	for name, p := range e.Properties {
		kinds := append([]kind{p.Type}, p.Previous...)
		text := r.write(kind{Type: "union", Types: kinds})
		if p.Required {
			text = "!" + text
		}
		all[name] = text
	}
	return all
}

// write writes a type: a primitive's name, "[" and the type of elements, "{" and the type of a map's values, "#" and
// the number of an object's definition, or alternatives separated by "|".
func (r reducer) write(k kind) string {
	switch k.Type {
	case "array":
		return "[" + r.element(k)
	case "map":
		return "{" + r.element(k)
	case "union":
		var all []string
		for _, t := range k.Types {
			if text := r.write(t); !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
		return strings.Join(all, "|")
	case "ref":
		id := k.RawRef["$ref"]
		if _, known := r.into[id]; !known {
			r.into[id] = nil // definitions refer to themselves
			r.into[id] = r.properties(r.types[id])
		}
		return "#" + id
	}
	return k.Type
}

// element writes the type of elements. Alternatives below a list are json, which is anything.
func (r reducer) element(k kind) string {
	if text := r.write(*k.Element); !strings.Contains(text, "|") {
		return text
	}
	return "json"
}
