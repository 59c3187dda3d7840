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
	for _, entry := range live.GetManagedFields() {
		if entry.Manager != fieldManager || entry.Operation != metav1.ManagedFieldsOperationApply ||
			entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		var owned map[string]any
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &owned) != nil {
			return ""
		}
		values, err := json.Marshal([]any{owned, project(live.Object, owned)}) // keys are sorted
		if err != nil {
			return ""
		}
		return contentHash(values)
	}
	return ""
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
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == fieldManager && entry.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}
