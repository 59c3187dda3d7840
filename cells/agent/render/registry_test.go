package render

import (
	"strings"
	"testing"
)

// A cell pulls images from a registry of its own, by a parameter that it owns: see docs/formats.md. Without a value the
// images are the vendor's; a port and a path in the value are taken as they are.
func TestOwnRegistry(t *testing.T) {
	for value, want := range map[string]string{"": "registry.example", "cell:5000/vendor": "cell:5000/vendor"} {
		r, a := newRenderer(t, map[string]string{
			"release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n" +
				"parameters: {registry: {type: string, owner: cell, default: registry.example}}\n",
			"kustomization.yaml": `resources: [server.yaml, backup.yaml, sluice-values.yaml]
images:
  - {name: shop, newName: registry.example/team/shop, newTag: "2.0"}
replacements:
  - source: {kind: ConfigMap, name: sluice-values, fieldPath: data.registry}
    targets:
      - select: {kind: Deployment}
        fieldPaths: [spec.template.spec.containers.*.image, spec.template.spec.initContainers.*.image]
        options: {delimiter: /, index: 0}
      - select: {kind: CronJob}
        fieldPaths: [spec.jobTemplate.spec.template.spec.containers.*.image]
        options: {delimiter: /, index: 0}
`,
			"server.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      initContainers: [{name: migrate, image: "registry.example/team/migrate@sha256:` + strings.Repeat("a", 64) + `"}]
      containers: [{name: server, image: shop}, {name: side, image: "registry.example/side:1"}]
`,
			"backup.yaml": `apiVersion: batch/v1
kind: CronJob
metadata: {name: backup}
spec:
  schedule: "@daily"
  jobTemplate:
    spec: {template: {spec: {restartPolicy: Never, containers: [{name: x, image: "registry.example/b:1"}]}}}
`,
			"sluice-values.yaml": `apiVersion: v1
kind: ConfigMap
metadata:
  name: sluice-values
  annotations: {config.kubernetes.io/local-config: "true"}
data: {registry: registry.example}
`,
		})
		if value != "" {
			r.ownValues = map[string]any{"registry": value}
		}
		m, err := r.Render(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		all := string(m.Files[ManifestsFile])
		for _, image := range []string{"/team/shop:2.0\n", "/side:1\n", "/b:1\n",
			"/team/migrate@sha256:" + strings.Repeat("a", 64) + "\n"} {
			if !strings.Contains(all, "image: "+want+image) {
				t.Errorf("registry %q: no image %s%s in\n%s", value, want, image, all)
			}
		}
	}
}
