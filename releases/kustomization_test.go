package releases

import (
	"encoding/json"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"sigs.k8s.io/kustomize/api/types"
)

// podinfoRelease is a typical release: podinfo's base with an overlay and a component.
func podinfoRelease() fstest.MapFS {
	m := fstest.MapFS{}
	for name, content := range map[string]string{
		"kustomization.yaml": `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: podinfo
resources:
  - hpa.yaml
  - deployment.yaml
  - ./service.yaml
images:
  - {name: ghcr.io/stefanprodan/podinfo, newTag: 6.7.0}
configMapGenerator:
  - name: config
    literals: ["url=https://example.com/x", a=b]
    files: [logo@2x.png, "key=deployment.yaml"]
    envs: [app.env]
replacements:
  - source: {kind: ConfigMap, name: sluice, fieldPath: data.domain}
    targets:
      - select: {kind: Deployment}
        fieldPaths: [spec.template.spec.containers.0.image]
labels:
  - pairs: {app: podinfo}
    includeSelectors: true
`,
		"hpa.yaml": "kind: HorizontalPodAutoscaler\n", "deployment.yaml": "kind: Deployment\n",
		"service.yaml": "kind: Service\n",
		"logo@2x.png":  "png", "app.env": "A=b\n", "sub.yaml": "kind: Service\n",
		"overlays/small/kustomization.yml": `resources:
- ../..
components: [../../components/tls]
patches:
- path: patch.yaml
- target: {kind: Deployment}
  patch: |-
    - op: add
      path: /x
      value: https://example.com
patchesStrategicMerge:
- |-
  kind: Deployment
  metadata: {name: podinfo}
- patch.yaml
transformers: [prefix.yaml, value.yaml, ../../plugins/namespace]
openapi: {path: schema.json}
crds: [schema.json]
configurations: [config.yaml]
generatorOptions: {disableNameSuffixHash: true}
`,
		"overlays/small/patch.yaml":                   "kind: Deployment\n",
		"overlays/small/prefix.yaml":                  "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: p}\nprefix: a-\n---\napiVersion: builtin\nkind: SuffixTransformer\nmetadata: {name: s}\nsuffix: -b\n",
		"overlays/small/value.yaml":                   "apiVersion: builtin\nkind: ValueAddTransformer\nmetadata: {name: v}\nvalue: prod\ntargets: [{fieldPath: metadata/namespace}]\n",
		"plugins/namespace/kustomization.yaml":        "resources: [../../overlays/small/prefix.yaml, deeper]\n",
		"plugins/namespace/deeper/kustomization.yaml": "resources: [ns.yaml]\n",
		"plugins/namespace/deeper/ns.yaml":            "apiVersion: builtin\nkind: NamespaceTransformer\nmetadata: {name: n, namespace: prod}\n",
		"overlays/small/schema.json":                  "{}", "overlays/small/config.yaml": "namePrefix: []\n",
		"components/tls/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [cert.yaml]\n",
		"components/tls/cert.yaml":          "kind: Certificate\n",
	} {
		m[path.Join("releases/1.0.0", name)] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

func TestScanPassesOrdinaryBases(t *testing.T) {
	if faults := ScanKustomization(podinfoRelease(), "releases/1.0.0"); len(faults) > 0 {
		t.Error(faults)
	}
}

// Fault 30: an entry that reaches outside the release or runs a program is refused, with file and line.
func TestScanRefuses(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"https", "resources:\n- https://example.com/base.yaml\n", `2: "https://example.com/base.yaml" is a URL`},
		{"http in capitals", "resources: ['HTTP://example.com/base.yaml']\n", "1: "},
		{"space before", "resources: [' https://example.com/base.yaml']\n", "1: "},
		{"repository with ref", "resources: ['https://github.com/o/r//base?ref=v1']\n", "1: "},
		{"GitHub without scheme", "resources: [github.com/o/r/base]\n", "may name a remote repository"},
		{"GitHub in capitals", "resources: [GitHub.com/o/r/base]\n", "may name a remote repository"},
		{"a folder named github.com", "resources: [github.com/o/r]\n", "may name a remote repository"},
		{"SCP form", "resources: ['git@example.com:o/r.git']\n", "may name a remote repository"},
		{"user without colon", "resources: ['user@example.com/o/r']\n", "may name a remote repository"},
		{"git::", "resources: ['git::https://example.com/o/r']\n", "is a URL"},
		{"ssh", "components: ['ssh://git@example.com/o/r']\n", "may name a remote repository"},
		{"file", "bases: ['file:///etc/x']\n", "is a URL"},
		{"unknown host, no scheme", "resources: [example.com/o/r//base]\n", "no such file or folder in the release"},
		{"query", "resources: ['sub?ref=main']\n", "may name a remote repository"},
		{"absolute", "resources: [/etc/passwd]\n", "is an absolute path"},
		{"escape", "resources: [../2.0.0]\n", "leads out of the release"},
		{"escape and return", "resources: [../1.0.0/sub.yaml]\n", "leads out of the release"},
		{"missing", "resources: [none.yaml]\n", "there is no such file or folder"},
		{"folder without kustomization", "resources: [components]\n", "has no kustomization.yaml"},
		{"remote patch", "patches:\n- path: https://example.com/p.yaml\n",
			"2: \"https://example.com/p.yaml\" is a URL"},
		{"remote JSON patch", "patchesJson6902: [{path: 'https://example.com/p.yaml'}]\n", "is a URL"},
		{"remote merge patch", "patchesStrategicMerge: ['https://example.com/p.yaml']\n", "is a URL"},
		{"remote replacement", "replacements: [{path: 'https://example.com/r.yaml'}]\n", "is a URL"},
		{"remote ConfigMap", "configMapGenerator: [{name: a, files: ['k=https://example.com/f']}]\n", "is a URL"},
		{"remote env", "configMapGenerator: [{name: a, env: 'https://example.com/f'}]\n", "is a URL"},
		{"remote envs of a Secret", "secretGenerator: [{name: a, envs: ['https://example.com/f']}]\n", "is a URL"},
		{"file of the machine", "secretGenerator: [{name: a, files: [k=/etc/shadow]}]\n", "is an absolute path"},
		{"remote CRD", "crds: ['https://example.com/c']\n", "is a URL"},
		{"remote configuration", "configurations: ['https://example.com/c']\n", "is a URL"},
		{"openapi from outside", "openapi:\n  path: https://example.com/o.json\n", "2: "},
		{"openapi above", "openapi: {path: ../../o.json}\n", "leads out of the release"},
		{"helm", "helmCharts:\n- name: x\n  repo: https://example.com\n", "1: helmCharts runs helm"},
		{"helm globals", "helmGlobals: {chartHome: x}\n", "helmGlobals runs helm"},
		{"helm, old", "helmChartInflationGenerator: [{chartName: x}]\n", "runs helm"},
		{"another case", "Resources: ['https://example.com/x']\n",
			`unknown field "Resources"; did you mean "resources"?`},
		{"another case within", "patches: [{Path: 'https://example.com/x'}]\n", `unknown field "Path"`},
		{"unknown field", "runner: x\n", `unknown field "runner"`},
		{"merge key", "x: &a {resources: ['https://example.com/x']}\n<<: *a\n", "merge keys"},
		{"alias", "resources: &r ['https://example.com/x']\n", "is a URL"},
		{"two documents", "resources: []\n---\nresources: []\n", "more than one document"},
		{"duplicate", "resources: []\nresources: []\n", `2: "resources" is there twice`},
		{"not YAML", "resources: [\n", "is not YAML"},
		{"exec plugin", "generators: [exec.yaml]\n", "exec.yaml:2: only kustomize's built-in plugins may be used"},
		{"container function", "transformers: [function.yaml]\n",
			"function.yaml:5: a plugin's configuration can't have annotations"},
		{"second of a file", "validators: [second.yaml]\n",
			"second.yaml:6: only kustomize's built-in plugins may be used"},
		{"hidden behind a separator", "validators: [hidden.yaml]\n", "hidden.yaml"},
		{"helm as a plugin", "generators: [helm.yaml]\n",
			`helm.yaml:2: plugin "HelmChartInflationGenerator" is not allowed`},
		{"plugin that loads", "transformers: [loads.yaml]\n", "loads.yaml:4: Path is not followed"},
		{"plugin inline", "generators: ['{apiVersion: x}']\n", "into a file of its own"},
		{"plugins of a folder", "generators: [components/tls]\n",
			"only kustomize's built-in plugins may be used"},
		{"a folder of plugins that are patched", "transformers: [plugins/patched]\n",
			"plugins/patched/kustomization.yaml:2: a folder of plugins has resources alone: patches"},
		{"a folder of generated plugins", "generators: [plugins/nested]\n",
			"plugins/generated/kustomization.yaml:1: a folder of plugins has resources alone: configMapGenerator"},
		{"a folder of an exec plugin", "validators: [plugins/exec]\n", "exec.yaml:2: only kustomize's built-in plugins"},
		{"a circle of plugins", "transformers: [plugins/circle]\n", "8 folders of plugins deep, or a circle"},
		{"no such folder of plugins", "transformers: [plugins/none]\n", "no such file or folder in the release"},
		{"remote plugin", "generators: ['https://example.com/g']\n", "is a URL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			faults := ScanKustomization(hostileRelease(test.in), "releases/1.0.0")
			if len(faults) == 0 {
				t.Fatal("passed")
			}
			inMemory := filesIn(hostileRelease(test.in)).ScanKustomizations()
			for i := range inMemory {
				inMemory[i].File = path.Join("releases/1.0.0", inMemory[i].File)
			}
			if !slices.Equal(inMemory, faults) {
				t.Errorf("in memory, %v", inMemory)
			}
			var all strings.Builder
			for _, f := range faults {
				if f.Line == 0 || !strings.HasPrefix(f.File, "releases/1.0.0/") {
					t.Errorf("without file and line: %s", f)
				}
				all.WriteString(strings.TrimPrefix(f.String(), "releases/1.0.0/") + "\n")
			}
			if !strings.Contains(all.String(), test.want) {
				t.Errorf("%s\nwant %s", all.String(), test.want)
			}
		})
	}
}

// filesIn returns the files of a folder as Unpack would.
func filesIn(m fstest.MapFS) Files {
	files := Files{}
	for name, f := range m {
		files[strings.TrimPrefix(name, "releases/1.0.0/")] = File{f.Data, 0o644}
	}
	return files
}

func hostileRelease(kustomization string) fstest.MapFS {
	m := podinfoRelease()
	for name, content := range map[string]string{
		"kustomization.yaml":      kustomization,
		"github.com/o/r/foo.yaml": "kind: Service\n", "github.com/o/r/kustomization.yaml": "resources: [foo.yaml]\n",
		"exec.yaml":                            "# runs\napiVersion: someteam.example.com/v1\nkind: ChartInflator\nmetadata: {name: x}\n",
		"function.yaml":                        "apiVersion: builtin\nkind: PrefixTransformer\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: ./x}\n",
		"second.yaml":                          "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: x}\n\n---\napiVersion: evil/v1\nkind: X\n",
		"hidden.yaml":                          "apiVersion: builtin\nkind: PrefixTransformer\n--- {apiVersion: evil/v1, kind: X}\n",
		"helm.yaml":                            "apiVersion: builtin\nkind: HelmChartInflationGenerator\nmetadata: {name: x}\n",
		"plugins/patched/kustomization.yaml":   "resources: [../../overlays/small/prefix.yaml]\npatches: [{path: x.yaml}]\n",
		"plugins/patched/x.yaml":               "kind: PrefixTransformer\n",
		"plugins/nested/kustomization.yaml":    "resources: [../generated]\n",
		"plugins/generated/kustomization.yaml": "configMapGenerator: [{name: x}]\n",
		"plugins/exec/kustomization.yaml":      "resources: [../../exec.yaml]\n",
		"plugins/circle/kustomization.yaml":    "resources: [../circle]\n",
		"loads.yaml":                           "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: x}\nPath: https://example.com/x\n",
	} {
		m[path.Join("releases/1.0.0", name)] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

func TestScanRefusesTwoFilesInAFolder(t *testing.T) {
	m := podinfoRelease()
	m["releases/1.0.0/Kustomization"] = &fstest.MapFile{Data: []byte("resources: []\n")}
	if faults := ScanKustomization(m, "releases/1.0.0"); len(faults) != 1 ||
		!strings.Contains(faults[0].Message, "kustomize accepts only one") {
		t.Error(faults)
	}
}

// The scan must know every field that kustomize knows: a new version of kustomize with more fields fails this test,
// until someone has decided what the new field loads.
func TestScanKnowsEveryFieldOfKustomize(t *testing.T) {
	var compare func(ours, theirs reflect.Type)
	names := func(typ reflect.Type, tag string) map[string]bool {
		found := map[string]bool{}
		var add func(reflect.Type)
		add = func(typ reflect.Type) {
			for i := range typ.NumField() {
				f := typ.Field(i)
				name, options, _ := strings.Cut(f.Tag.Get(tag), ",")
				switch {
				case f.Anonymous && (name == "" || strings.Contains(options, "inline")):
					add(f.Type)
				case f.IsExported() && name != "" && name != "-":
					found[name] = true
				}
			}
		}
		add(typ)
		return found
	}
	compare = func(ours, theirs reflect.Type) {
		mine, their := names(ours, "yaml"), names(theirs, "json")
		for name := range their {
			if !mine[name] {
				t.Errorf("%s.%s is not known", theirs.Name(), name)
			}
		}
		for name := range mine {
			if !their[name] {
				t.Errorf("%s.%s is no more", theirs.Name(), name)
			}
		}
	}
	compare(reflect.TypeFor[kustomization](), reflect.TypeFor[types.Kustomization]())
	compare(reflect.TypeFor[kustomizePatch](), reflect.TypeFor[types.Patch]())
	compare(reflect.TypeFor[generator](), reflect.TypeFor[types.SecretArgs]())
	// types.ReplacementField has its path without a tag, beside an inlined Replacement.
	for name := range names(reflect.TypeFor[types.Replacement](), "json") {
		if !names(reflect.TypeFor[replacement](), "yaml")[name] {
			t.Errorf("Replacement.%s is not known", name)
		}
	}
}

// If the scan accepts a file, kustomize's own parser finds nothing in it that leads outside.
func FuzzScan(f *testing.F) {
	for _, in := range []string{
		"resources: [sub.yaml]\n", "Resources: ['https://example.com']\n",
		"resources: &a [sub.yaml]\ncomponents: [components/tls]\n",
		"patches: [{path: sub.yaml}]\n", "{\"resources\": [\"sub.yaml\"]}",
		"resources:\n- \"https\\x3a//example.com\"\n", "openapi: {path: sub.yaml}\n",
		"configMapGenerator: [{name: a, files: [k=sub.yaml]}]\n", "? resources\n: [github.com/o/r]\n",
		"resources: [!!str sub.yaml]\n",
	} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		m := hostileRelease(in)
		if len(ScanKustomization(m, "releases/1.0.0")) > 0 {
			return
		}
		var k types.Kustomization
		if k.Unmarshal([]byte(in)) != nil {
			return
		}
		// The fields that kustomize read, by its own names; it still reads some deprecated fields.
		normal, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Resources, Components, Bases, CRDs                   []string
			Configurations, Generators, Transformers, Validators []string
			Patches, PatchesJSON6902                             []struct{ Path string }
			OpenAPI                                              struct{ Path string }
			HelmCharts, HelmChartInflationGenerator              []any
		}
		if err := json.Unmarshal(normal, &read); err != nil {
			t.Fatal(err)
		}
		entries := slices.Concat(read.Resources, read.Components, read.Bases, read.CRDs, read.Configurations,
			read.Generators, read.Transformers, read.Validators)
		for _, p := range slices.Concat(read.Patches, read.PatchesJSON6902) {
			entries = append(entries, p.Path)
		}
		for _, e := range append(entries, read.OpenAPI.Path) {
			p := path.Join("releases/1.0.0", e)
			if _, err := fs.Stat(m, p); e != "" &&
				(err != nil || !strings.HasPrefix(p, "releases/1.0.0") || strings.Contains(e, "://")) {
				t.Errorf("%q passed", e)
			}
		}
		if len(read.HelmCharts) > 0 || len(read.HelmChartInflationGenerator) > 0 {
			t.Error("helm passed")
		}
	})
}
