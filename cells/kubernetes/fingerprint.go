package kubernetes

import (
	"encoding/json"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fieldManager owns the fields that the agent applies.
const fieldManager = "sluice"

// fingerprint returns a hash of the fields of a live object that the agent owns, with their values; "" if it owns none.
// It changes when somebody changes one of them, removes one or takes one over, and by nothing else: the values are
// those that the API server has, with its defaults and its spelling.
func fingerprint(live *unstructured.Unstructured) string {
	owned, ok := ownedFields(live)
	if !ok {
		return ""
	}
	values, err := json.Marshal([]any{owned, project(live.Object, owned)}) // keys are sorted
	if err != nil {
		return ""
	}
	return contentHash(values)
}

// ownedFields returns the set of fields of a live object that the agent applied. It reads them where they are:
// client-go would make typed values of the fields of all managers, at each look.
func ownedFields(live *unstructured.Unstructured) (owned map[string]any, ok bool) {
	managers, _, _ := unstructured.NestedFieldNoCopy(live.Object, "metadata", "managedFields")
	entries, _ := managers.([]any)
	for _, entry := range entries {
		fields, _ := entry.(map[string]any)
		if fields["manager"] != fieldManager || fields["operation"] != string(metav1.ManagedFieldsOperationApply) ||
			fields["subresource"] != nil {
			continue
		}
		if owned, ok = fields["fieldsV1"].(map[string]any); ok {
			return owned, true
		}
	}
	return nil, false
}

// project returns the part of a value that a set of fields names, in the notation of metadata.managedFields: f:NAME is
// a field, k:KEYS an element of a list by its keys, v:VALUE an element by its value, i:N one by its index.
func project(value any, owned map[string]any) any {
	if len(owned) == 0 {
		return value
	}
	part := map[string]any{}
	for name, below := range owned {
		kind, rest, ok := strings.Cut(name, ":")
		if !ok { // ".": the value itself is owned, not what is in it
			continue
		}
		nested, _ := below.(map[string]any)
		switch kind {
		case "f":
			if fields, ok := value.(map[string]any); ok {
				if v, there := fields[rest]; there {
					part[name] = project(v, nested)
				}
			}
		case "k", "v":
			if element, there := findElement(value, kind, rest); there {
				part[name] = project(element, nested)
			}
		}
	}
	return part
}

// findElement finds an element of a list by its keys or by its value, which are JSON.
func findElement(list any, kind, text string) (any, bool) {
	elements, ok := list.([]any)
	if !ok {
		return nil, false
	}
	var want any
	if json.Unmarshal([]byte(text), &want) != nil {
		return nil, false
	}
	want = floats(want)
	for _, element := range elements {
		if kind == "v" {
			if reflect.DeepEqual(floats(element), want) {
				return element, true
			}
			continue
		}
		keys, _ := want.(map[string]any)
		fields, ok := element.(map[string]any)
		if ok && hasKeys(fields, keys) {
			return element, true
		}
	}
	return nil, false
}

func hasKeys(fields, keys map[string]any) bool {
	for name, want := range keys {
		if !reflect.DeepEqual(floats(fields[name]), want) {
			return false
		}
	}
	return len(keys) > 0
}

// floats returns a whole number as a float64, as JSON has it.
func floats(value any) any {
	if n, ok := value.(int64); ok {
		return float64(n)
	}
	return value
}

// isOwner reports whether the agent has applied to the object.
func isOwner(live *unstructured.Unstructured) bool {
	_, ok := ownedFields(live)
	return ok
}
