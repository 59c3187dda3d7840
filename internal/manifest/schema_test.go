package manifest_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/manifest"
)

func TestSchema(t *testing.T) {
	type document struct {
		Kind  string         `yaml:"kind" required:"true" enum:"A,B" doc:"what it is"`
		Name  string         `yaml:"name" required:"true"`
		Count *int           `yaml:"count" minimum:"1" maximum:"9"`
		Tags  []string       `yaml:"tags" enum:"x,y"`
		For   time.Duration  `yaml:"for"`
		At    time.Time      `yaml:"at"`
		Word  colourWord     `yaml:"word"`
		Free  map[string]any `yaml:"free"`
		No    string         `yaml:"-"`
	}
	got, err := manifest.Schema[document]("document", "an example",
		map[reflect.Type]string{reflect.TypeFor[colourWord](): "^[a-z]+$"})
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(got, &schema); err != nil {
		t.Fatal(err)
	}
	properties := schema["properties"].(map[string]any)
	delete(properties["for"].(map[string]any), "pattern")
	want := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "document", "description": "an example",
		"type": "object", "additionalProperties": false, "required": []any{"kind", "name"},
		"properties": map[string]any{
			"kind":  map[string]any{"type": "string", "enum": []any{"A", "B"}, "description": "what it is"},
			"name":  map[string]any{"type": "string", "minLength": 1.0},
			"count": map[string]any{"type": "integer", "minimum": 1.0, "maximum": 9.0},
			"tags": map[string]any{"type": "array",
				"items": map[string]any{"type": "string", "enum": []any{"x", "y"}}},
			"for":  map[string]any{"type": "string", "examples": []any{"30m", "24h", "7d"}},
			"at":   map[string]any{"type": "string", "format": "date-time"},
			"word": map[string]any{"type": "string", "pattern": "^[a-z]+$"},
			"free": map[string]any{"type": "object", "additionalProperties": map[string]any{}},
		},
	}
	if diff := cmp.Diff(want, schema); diff != "" {
		t.Error(diff)
	}
}
