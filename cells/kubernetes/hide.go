package kubernetes

import (
	"encoding/base64"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// What stands for a value of a Secret.
const (
	hidden       = "(hidden)"
	hiddenBefore = "(hidden, before)"
	hiddenAfter  = "(hidden, after)"
)

// lastApplied is the annotation in which kubectl keeps a whole object, values of Secrets too.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// HideSecrets returns two states of one manifest, nil for none, with the values of a Secret replaced by words that say
// whether they differ. Manifests of other kinds are returned as they are.
func HideSecrets(before, after []byte) (was, is []byte) {
	a, b := readSecret(before), readSecret(after)
	if a == nil && b == nil {
		return before, after
	}
	hideBoth(a, b)
	return toYAML(a, before), toYAML(b, after)
}

// readSecret returns a Secret; nil: the text is none.
func readSecret(text []byte) map[string]any {
	o, err := readManifest(text)
	if text == nil || err != nil || !isSecret(o.Object) {
		return nil
	}
	return o.Object
}

func isSecret(o map[string]any) bool { return o["kind"] == "Secret" && o["apiVersion"] == "v1" }

// hideSecrets returns two states of an object as YAML, nil for none, without the values of a Secret.
func hideSecrets(before, after map[string]any) (was, is []byte) {
	if isSecret(before) || isSecret(after) {
		hideBoth(before, after)
	}
	return toYAML(before, nil), toYAML(after, nil)
}

func toYAML(o map[string]any, otherwise []byte) []byte {
	if o == nil {
		return otherwise
	}
	text, err := yaml.Marshal(o)
	if err != nil { // never: it was read from JSON
		return nil
	}
	return text
}

// hideBoth replaces the values of a Secret, in both of its states.
func hideBoth(before, after map[string]any) {
	was, is := secretData(before), secretData(after)
	for name, value := range was {
		other, both := is[name]
		if both && !reflect.DeepEqual(value, other) {
			was[name], is[name] = hiddenBefore, hiddenAfter
			continue
		}
		was[name] = hidden
		if both {
			is[name] = hidden
		}
	}
	for name := range is {
		if _, both := was[name]; !both {
			is[name] = hidden
		}
	}
}

// secretData returns the data of a Secret, with stringData merged into them as the API server does.
func secretData(o map[string]any) map[string]any {
	if o == nil {
		return nil
	}
	if annotations, ok, _ := unstructured.NestedFieldNoCopy(o, "metadata", "annotations"); ok {
		if all, ok := annotations.(map[string]any); ok && all[lastApplied] != nil {
			all[lastApplied] = hidden
		}
	}
	data, _ := o["data"].(map[string]any)
	if data == nil {
		data = map[string]any{}
	}
	texts, _ := o["stringData"].(map[string]any)
	for name, value := range texts {
		if text, ok := value.(string); ok {
			value = base64.StdEncoding.EncodeToString([]byte(text))
		}
		data[name] = value
	}
	delete(o, "stringData")
	delete(o, "data")
	if len(data) > 0 {
		o["data"] = data
	}
	return data
}
