package manifest

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
)

// schemaDialect is the draft of JSON Schema that Schema writes.
const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

// durationPattern matches what parseDuration reads, except negative durations.
const durationPattern = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*|[0-9]+d)$`

// Schema returns the JSON Schema (draft 2020-12) of the documents that Decode reads into a T, made of the same tags, so
// that editors complete and check the documents. patterns has the regular expressions of types with UnmarshalText.
func Schema[T any](title, description string, patterns map[reflect.Type]string) ([]byte, error) {
	s := schemaBuilder{patterns}.schemaOf(decodePlanOf(reflect.TypeFor[T]()))
	s["$schema"], s["title"], s["description"] = schemaDialect, title, description
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

type schemaBuilder struct{ patterns map[reflect.Type]string }

func (s schemaBuilder) schemaOf(p *decodePlan) map[string]any {
	switch p.kind {
	case readText:
		if pattern := s.patterns[p.typ]; pattern != "" {
			return map[string]any{"type": "string", "pattern": pattern}
		}
		return map[string]any{"type": "string"}
	case readString:
		return map[string]any{"type": "string"}
	case readBool:
		return map[string]any{"type": "boolean"}
	case readInt:
		return map[string]any{"type": "integer"}
	case readUint:
		return map[string]any{"type": "integer", "minimum": 0}
	case readFloat:
		return map[string]any{"type": "number"}
	case readDuration:
		return map[string]any{"type": "string", "pattern": durationPattern, "examples": []string{"30m", "24h", "7d"}}
	case readTime:
		return map[string]any{"type": "string", "format": "date-time"}
	case readPointer:
		return s.schemaOf(p.elem)
	case readSlice:
		return map[string]any{"type": "array", "items": s.schemaOf(p.elem)}
	case readMap:
		return map[string]any{"type": "object", "additionalProperties": s.schemaOf(p.elem)}
	case readStruct:
		if p.text {
			word := map[string]any{"type": "string"}
			if pattern := s.patterns[p.typ]; pattern != "" {
				word["pattern"] = pattern
			}
			return map[string]any{"anyOf": []any{s.objectSchema(p), word}}
		}
		return s.objectSchema(p)
	}
	return map[string]any{} // any
}

func (s schemaBuilder) objectSchema(p *decodePlan) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range p.fields {
		property := s.schemaOf(f.plan)
		if f.doc != "" {
			property["description"] = f.doc
		}
		constrained := property
		if items, ok := property["items"].(map[string]any); ok {
			constrained = items
		}
		if f.enum != nil {
			constrained["enum"] = f.enum
		}
		if f.minimum != nil {
			constrained["minimum"] = *f.minimum
		}
		if f.maximum != nil {
			constrained["maximum"] = *f.maximum
		}
		if f.required {
			required = append(required, f.name)
			if f.plan.typ.Kind() == reflect.String && f.enum == nil && f.plan.kind == readString {
				property["minLength"] = 1
			}
		}
		properties[f.name] = property
	}
	object := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		slices.Sort(required)
		object["required"] = required
	}
	return object
}
