package kubernetes_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-cd/sluice/cells"
)

// conversion is the webhook of a definition whose versions write the same size differently: spec.size is 3 in v1, and
// the text "3 units" in v2.
type conversion struct{ calls atomic.Int64 }

func (c *conversion) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	c.calls.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	var review struct {
		Request struct {
			UID     string           `json:"uid"`
			Desired string           `json:"desiredAPIVersion"`
			Objects []map[string]any `json:"objects"`
		} `json:"request"`
	}
	if err != nil || json.Unmarshal(body, &review) != nil {
		http.Error(rw, "no review", http.StatusBadRequest)
		return
	}
	for _, o := range review.Request.Objects {
		o["apiVersion"] = review.Request.Desired
		spec, _ := o["spec"].(map[string]any)
		switch size := spec["size"].(type) {
		case float64:
			spec["size"] = fmt.Sprintf("%v units", size)
		case string:
			var n int
			_, _ = fmt.Sscanf(size, "%d units", &n)
			spec["size"] = n
		}
	}
	_ = json.NewEncoder(rw).Encode(map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
		"response": map[string]any{"uid": review.Request.UID, "convertedObjects": review.Request.Objects,
			"result": map[string]any{"status": "Success"}}})
}

// A definition whose versions are converted, so that what is stored is not what was applied, makes no drift; what
// people change in the other version does. A release may go on to that version.
func TestConversionChangesFields(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	hook := &conversion{}
	certificate, authority := loopbackCertificate(t)
	server := httptest.NewUnstartedServer(hook)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	definition := fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.convert.example.com}
spec:
  group: convert.example.com
  scope: Namespaced
  names: {kind: Box, plural: boxes, singular: box}
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {url: %q, caBundle: %s}}
  versions:
    - {name: v1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {spec: {
        type: object, properties: {size: {type: integer}}}}}}}
    - {name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {
        type: object, properties: {size: {type: string}}}}}}}
`, server.URL, base64.StdEncoding.EncodeToString(authority))
	box := func(version, size string) string {
		return fmt.Sprintf("apiVersion: convert.example.com/%s\nkind: Box\nmetadata: {name: one}\nspec: {size: %s}\n",
			version, size)
	}
	size := func() string {
		return w.kubectl(t, "get", "boxes.v2.convert.example.com", "one", "-o", "jsonpath={.spec.size}")
	}
	first := release("1.0.0", documents(definition, box("v1", "3")))
	w.install(t, first)
	if got := size(); got != "3 units" || hook.calls.Load() == 0 {
		t.Errorf("stored is %q, after %d conversions", got, hook.calls.Load())
	}
	w.settle(t, first)
	w.kubectl(t, "patch", "boxes.v2.convert.example.com", "one", "--type", "merge", "-p", `{"spec":{"size":"9 units"}}`)
	w.healUntil(t, first, "what was changed by the other version is healed", func() error {
		if got := size(); got != "3 units" {
			return errors.New(got)
		}
		return nil
	})
	second := release("1.1.0", documents(definition, box("v2", "5 units")))
	w.install(t, second)
	if got := size(); got != "5 units" {
		t.Errorf("after the release went on to v2: %q", got)
	}
}

// An object that Kubernetes can't store is refused before anything is written; one that it just can goes in.
func TestLargeObjects(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	var large []string
	for i := range 13 {
		large = append(large, fmt.Sprintf("k%d: %s", i, strings.Repeat("x", 100_000)))
	}
	binary := func(lines []string) string {
		return "apiVersion: convert.example.org/v1\nkind: Blob\nmetadata: {name: large}\nspec:\n  " +
			strings.Join(lines, "\n  ") + "\n"
	}
	definition := `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: blobs.convert.example.org}
spec:
  group: convert.example.org
  scope: Namespaced
  names: {kind: Blob, plural: blobs, singular: blob}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object,
    x-kubernetes-preserve-unknown-fields: true}}}]
`
	w.install(t, release("1.0.0", documents(definition, binary(large), configMap("a", "1"))))
	err := w.target.Apply(t.Context(), release("1.1.0", documents(definition, configMap("a", "2"),
		binary(append(large, "more: "+strings.Repeat("y", 300_000))))))
	if cells.CauseOf(err) != cells.CauseRelease || !strings.Contains(err.Error(), "Kubernetes stores") {
		t.Errorf("1.6 MB: %v (%s)", err, cells.CauseOf(err))
	}
	if got := w.values(t)["a"]; got != "1" {
		t.Errorf("a has %s: something was written", got)
	}
	// A ConfigMap has a limit of its own, which the API server says.
	tooLarge := configMap("b", strings.Repeat("x", 1<<20+1))
	if err := w.target.Apply(t.Context(), release("1.2.0", documents(definition, binary(large), configMap("a", "1"),
		tooLarge))); cells.CauseOf(err) != cells.CauseRelease || !strings.Contains(err.Error(), "ConfigMap") {
		t.Errorf("a ConfigMap of 1 MiB: %v (%s)", err, cells.CauseOf(err))
	}
}
