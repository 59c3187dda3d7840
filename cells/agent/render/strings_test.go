package render

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells/agent/agenttest"
)

// valuesRelease returns a release with a string parameter v and an integer n, whose replacements put them to paths of
// the ConfigMap app. The fields in app are there already.
func valuesRelease(app, targets string) map[string]string {
	return map[string]string{
		"release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\nparameters:\n" +
			"  v: {type: string}\n  n: {type: integer, default: 3}\n",
		"sluice-values.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: sluice-values}\n" +
			"data: {v: x, n: \"1\"}\n",
		"cm.yaml":            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: " + app + "\n",
		"kustomization.yaml": "resources: [cm.yaml, sluice-values.yaml]\nreplacements:\n" + targets,
	}
}

func replace(from, path string) string {
	return "- source: {kind: ConfigMap, name: sluice-values, fieldPath: data." + from + "}\n" +
		"  targets:\n  - {select: {kind: ConfigMap, name: app}, fieldPaths: [" + path + "], options: {create: true}}\n"
}

// A parameter of type string stays a string, whatever it looks like, in fields that replacements create, in fields that
// are there, and after a patch in an overlay; numbers stay numbers.
func TestStringsStayStrings(t *testing.T) {
	for _, v := range []string{"0123", "2026-01-01", "1e3", "true", "null", "~", "", "yes", "0x1F", "1_000", ".5",
		"12:30:45", "3", "-7", "+1", ".inf", "NaN", "0o17", "<<", "=", " x ", "a: b", "[x]", "# no",
		"2026-01-01T00:00:00Z", "plain"} {
		files := valuesRelease(`{there: nobody, quoted: "1", text: hello, other: 1}`, replace("v", "data.made")+
			replace("v", "data.there")+replace("v", "data.quoted")+replace("n", "data.number"))
		overlay := map[string]string{
			"release.yaml": files["release.yaml"] + "profiles: {default: over}\n",
			"over/kustomization.yaml": "resources: [../base]\nnamePrefix: p-\npatches:\n- target: {kind: ConfigMap}\n" +
				"  patch: |-\n    - op: add\n      path: /data/more\n      value: x\n",
		}
		for name, text := range files {
			if name != "release.yaml" {
				overlay["base/"+name] = text
			}
		}
		for _, files := range []map[string]string{files, overlay} {
			r, a := newRenderer(t, files)
			a.Values = map[string]any{"v": v}
			m, err := r.Render(t.Context(), a)
			if err != nil {
				t.Fatalf("%q: %v", v, err)
			}
			var app struct{ Data map[string]any }
			must(t, yaml.Unmarshal(m.Files[ManifestsFile], &app))
			for _, field := range []string{"made", "there", "quoted"} {
				if got, ok := app.Data[field].(string); !ok || got != v {
					t.Errorf("%q: %s is %#v\n%s", v, field, app.Data[field], m.Files[ManifestsFile])
				}
			}
			if app.Data["number"] != 3 {
				t.Errorf("%q: the number is %#v", v, app.Data["number"])
			}
		}
	}
}

// Where the manifest has a number, a string that is one in its only form becomes it, as kustomize means it; another
// text stays a string.
func TestStringsInTypedFields(t *testing.T) {
	for v, want := range map[string]any{"8080": 8080, "0123": "0123", "true": "true"} {
		r, a := newRenderer(t, valuesRelease("{port: 80}", replace("v", "data.port")))
		a.Values = map[string]any{"v": v}
		m, err := r.Render(t.Context(), a)
		must(t, err)
		var app struct{ Data map[string]any }
		must(t, yaml.Unmarshal(m.Files[ManifestsFile], &app))
		if app.Data["port"] != want {
			t.Errorf("%q: %#v, want %#v", v, app.Data["port"], want)
		}
	}
}

// The name of a generated ConfigMap does not depend on how strings are kept.
func TestStringsKeepGeneratedNames(t *testing.T) {
	files := valuesRelease("{a: b}", replace("v", "data.made"))
	files["kustomization.yaml"] = strings.Replace(files["kustomization.yaml"], "[cm.yaml, sluice-values.yaml]",
		"[sluice-values.yaml]\nconfigMapGenerator: [{name: app, literals: [made=x]}]", 1)
	names := map[string]bool{}
	for _, given := range []string{"null", ""} { // without a value, null is what the file has
		if given == "" {
			files["sluice-values.yaml"] = strings.Replace(files["sluice-values.yaml"], "{v: x,", "{v: \"null\",", 1)
		}
		r, a := newRenderer(t, files)
		if given != "" {
			a.Values = map[string]any{"v": given}
		}
		m, err := r.Render(t.Context(), a)
		must(t, err)
		text := string(m.Files[ManifestsFile])
		_, name, _ := strings.Cut(text, "name: app-")
		names[name] = true
		if !strings.Contains(text, `made: "null"`) || len(name) < 5 {
			t.Errorf("rendered %s", text)
		}
	}
	if len(names) != 1 {
		t.Errorf("names %v", names)
	}
}

// Files may have any name that kustomize on a disk takes, whether they are used or not.
func TestFilesOfAnyName(t *testing.T) {
	for _, name := range []string{"notes/read me.md", "größe.txt", "c++.conf", "node (full).json", "a..b.txt",
		"日本/x.txt", "it's.txt", "a_u20_b.txt", "[x].txt", "a*b.txt"} {
		files := agenttest.Release("1.0.0", map[string]string{"base/" + name: "text of " + name + "\n",
			"base/kustomization.yaml": "resources: [app.yaml]\nconfigMapGenerator:\n- name: files\n  files:\n" +
				"  - \"key=" + name + "\"\n", "base/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
			"kustomization.yaml": "resources: [base]\n", "un used/é.md": ""})
		r, a := newRenderer(t, files)
		m, err := r.Render(t.Context(), a)
		if err != nil || !strings.Contains(string(m.Files[ManifestsFile]), "text of "+name) {
			t.Errorf("%s: %v\n%s", name, err, m.Files[ManifestsFile])
		}
	}
	folder := map[string]string{"release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n",
		"kustomization.yaml": "resources: [my base]\n", "my base/kustomization.yaml": "resources: [a pp.yaml]\n",
		"my base/a pp.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"}
	r, a := newRenderer(t, folder)
	if _, err := r.Render(t.Context(), a); err != nil {
		t.Error(err)
	}
}

// A release that renders to nothing is refused, unless it says that this is meant.
func TestEmptyResultIsRefused(t *testing.T) {
	files := map[string]string{"release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n",
		"kustomization.yaml": "resources: []\n",
		"sluice-values.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: sluice-values}\n"}
	for _, kustomization := range []string{"resources: []\n", "resources: [sluice-values.yaml]\n", "namePrefix: p-\n"} {
		files["kustomization.yaml"] = kustomization
		r, a := newRenderer(t, files)
		if _, err := r.Render(t.Context(), a); err == nil {
			t.Errorf("%s: rendered", kustomization)
		}
	}
	files["release.yaml"] += "allowEmpty: true\n"
	files["kustomization.yaml"] = "resources: [sluice-values.yaml]\n"
	r, a := newRenderer(t, files)
	rendered, err := r.Render(t.Context(), a)
	if err != nil || !rendered.Kubernetes.RemoveMost {
		t.Errorf("it means to remove most: %t, %v", rendered.Kubernetes.RemoveMost, err)
	}
}
