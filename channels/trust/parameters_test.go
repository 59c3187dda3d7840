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
	// However it is spelt, and on whatever way.
	const image = "targets: [{select: {kind: Deployment}, fieldPaths: [spec.template.spec.containers.0.image]}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"no name":     {"replacements:\n- source: {kind: ConfigMap, fieldPath: data.x}\n  " + image, "ends in an image"},
		"no kind":     {"replacements:\n- source: {fieldPath: data.x}\n  " + image, "ends in an image"},
		"name prefix": {"replacements:\n- source: {name: app-sluice-values, fieldPath: data.x}\n  " + image, "ends in an image"},
		"in brackets": {"replacements:\n- source: {kind: ConfigMap, fieldPath: \"data.[x]\"}\n  " + image, "ends in an image"},
		"all values":  {"replacements:\n- source: {kind: ConfigMap, fieldPath: data}\n  " + image, "ends in an image"},
		"a var": {"vars: [{name: X, objref: {apiVersion: v1, kind: ConfigMap, name: sluice-values}, " +
			"fieldref: {fieldpath: data.x}}]\n", "ends wherever $(X) stands"},
		"two hops": {"replacements:\n- source: {kind: ConfigMap, fieldPath: data.x}\n" +
			"  targets: [{select: {kind: ConfigMap, name: app}, fieldPaths: [data.other]}]\n" +
			"- source: {kind: ConfigMap, name: pre-app, fieldPath: data.other}\n  " + image, "ends in an image"},
		"two hops, the last one first": {"replacements:\n- source: {kind: Pod, fieldPath: \"a.[name=b].c\"}\n  " + image +
			"- source: {kind: ConfigMap, fieldPath: data.x}\n" +
			"  targets: [{select: {name: pod}, fieldPaths: [a.0.c]}]\n", "ends in an image"},
		"another ConfigMap": {"replacements:\n- source: {kind: ConfigMap, name: app, fieldPath: data.y}\n  " + image, ""},
		"another kind":      {"replacements:\n- source: {kind: Secret, fieldPath: data.x}\n  " + image, ""},
		"another hop": {"replacements:\n- source: {kind: ConfigMap, fieldPath: data.x}\n" +
			"  targets: [{select: {kind: ConfigMap, name: app}, fieldPaths: [data.other]}]\n" +
			"- source: {kind: ConfigMap, name: web, fieldPath: data.other}\n  " + image, ""},
		"a circle": {"replacements:\n- source: {kind: ConfigMap, fieldPath: data.x}\n" +
			"  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.x]}]\n", ""},
		"too many": {"replacements:\n" + strings.Repeat("- source: {kind: Pod}\n  "+image, 1001),
			"more than 1000 replacements"},
	} {
		files := fstest.MapFS{"releases/1.0.0/kustomization.yaml": file(c.text)}
		faults := trust.CheckParameters(files, "releases/1.0.0", map[string]releases.Parameter{"x": open})
		if len(faults) > 1 || (len(faults) == 0) != (c.want == "") ||
			len(faults) == 1 && !strings.Contains(faults[0].Message, c.want) {
			t.Errorf("%s: %v, want %q", name, faults, c.want)
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
