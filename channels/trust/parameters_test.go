package trust_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/releases"
)

// Values travel unsigned, so none may decide what runs.
func TestParametersThatDecideWhatRuns(t *testing.T) {
	open := releases.Parameter{Type: "string"}
	for _, c := range []struct {
		kind, field, want string
		parameter         releases.Parameter
	}{
		{"Deployment", "spec.template.spec.containers.[name=app].image", "ends in an image", open},
		{"CronJob", "spec.jobTemplate.spec.template.spec.containers.0.command.2", "ends in a command", open},
		{"Deployment", "spec.template.spec.containers.0.args", "ends in a command", open},
		{"Deployment", "spec.template.spec.containers.0.env.[name=API_URL].value", "ends in a URL", open},
		{"ConfigMap", "data.webhookUrl", "ends in a URL", open},
		{"ConfigMap", "data.upstream-endpoint", "ends in a URL", open},
		{"ClusterRoleBinding", "metadata.name", "ends in a subject of RBAC", open},
		{"Deployment", "spec.template.spec.serviceAccountName", "ends in a subject of RBAC", open},
		{"", "subjects.0.name", "ends in a subject of RBAC", open},
		{"Deployment", "spec.replicas", "", open},
		{"Ingress", "spec.rules.0.host", "", open},
		{"ConfigMap", "data.imagePullPolicy", "", open},
		{"Deployment", "spec.template.spec.containers.0.image", "",
			releases.Parameter{Type: "string", Enum: []string{"a", "b"}}},
		{"Deployment", "spec.template.spec.containers.0.image", "",
			releases.Parameter{Type: "string", Owner: releases.OwnerCell}},
		{"Deployment", "spec.template.spec.containers.0.command.1", "",
			releases.Parameter{Type: "integer"}},
	} {
		replacement := "source: {kind: ConfigMap, name: sluice-values, fieldPath: data.x}\n" +
			"  targets: [{select: {kind: " + c.kind + "}, fieldPaths: [\"" + c.field + "\"]}]\n"
		for form, files := range map[string]fstest.MapFS{
			"inline": {"releases/1.0.0/base/kustomization.yaml": file("replacements:\n- " + replacement)},
			"a file": {"releases/1.0.0/kustomization.yaml": file("replacements: [{path: r.yaml}]\n"),
				"releases/1.0.0/r.yaml": file(strings.ReplaceAll(replacement, "\n  ", "\n"))},
			"a list": {"releases/1.0.0/kustomization.yaml": file("replacements: [{path: r.yaml}]\n"),
				"releases/1.0.0/r.yaml": file("- " + replacement)},
		} {
			parameters := map[string]releases.Parameter{"x": c.parameter}
			faults := trust.CheckParameters(files, "releases/1.0.0", parameters)
			got := ""
			for _, f := range faults {
				got += f.String()
			}
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("%s %s, %s: %q, want %q", c.kind, c.field, form, got, c.want)
			}
		}
	}
	broken := fstest.MapFS{"releases/1.0.0/kustomization.yaml": file("replacements: {"),
		"releases/1.0.0/base/kustomization.yaml": file("replacements: [{path: ../../../etc/x.yaml}, 7, {source: 3}]\n")}
	all := map[string]releases.Parameter{"x": open}
	if faults := trust.CheckParameters(broken, "releases/1.0.0", all); len(faults) > 0 {
		t.Errorf("what can't be read is the scan's: %v", faults)
	}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }
