package trial

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/sops"
)

// plainAnnotation, on a Secret, says that what it holds is none: a certificate, say.
const plainAnnotation = "sluice/plain-secret"

// plainSecrets returns the values of Secrets among objects that anybody who has the release can read, as NAME: KEY:
// those that are neither encrypted by SOPS nor set by the cell's owner. texts are the owner's values, or stand-ins.
func plainSecrets(objects []*yaml.Node, texts []string) []string {
	found := map[string]bool{}
	for _, object := range objects {
		var doc struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string `yaml:"kind"`
			Metadata   struct {
				Name        string            `yaml:"name"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"metadata"`
			Data       map[string]any `yaml:"data"`
			StringData map[string]any `yaml:"stringData"`
		}
		_ = object.Decode(&doc) // of an object whose data are of another kind, the rest is read
		if doc.APIVersion != "v1" || doc.Kind != "Secret" || doc.Metadata.Annotations[plainAnnotation] == "allowed" {
			continue
		}
		note := func(name, text string) {
			if !isProtected(text, texts) {
				found[doc.Metadata.Name+": "+name] = true
			}
		}
		for name, value := range doc.Data {
			text := fmt.Sprint(value)
			if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
				text = string(decoded)
			}
			note(name, text)
		}
		for name, value := range doc.StringData {
			note(name, fmt.Sprint(value))
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// isProtected reports whether a value of a Secret is no secret in the release.
func isProtected(text string, owners []string) bool {
	return text == "" || text == "<nil>" || sops.IsEncryptedValue(text) || sops.IsEncrypted([]byte(text)) ||
		slices.ContainsFunc(owners, func(own string) bool { return strings.Contains(text, own) })
}

// ownersTexts returns the values of parameters that the cell's owner sets, as they are in manifests.
func ownersTexts(r *releases.Release, own map[string]any) (texts []string) {
	for name, p := range r.Parameters {
		value := own[name]
		if value == nil {
			value = p.Default
		}
		if text := fmt.Sprint(value); p.Owner == releases.OwnerCell && value != nil && text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}
