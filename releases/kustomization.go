package releases

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/releases/manifest"
)

// kustomizationNames are the names by which kustomize finds its file in a folder.
var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// kustomization is the file as the scan reads it: every field that kustomize knows, so that a misspelt one, which
// kustomize might understand in another case, does not slip past. Fields that load nothing are any.
type kustomization struct {
	APIVersion any `yaml:"apiVersion"`
	Kind       any `yaml:"kind"`
	Metadata   any `yaml:"metadata"`

	Resources             []string          `yaml:"resources"`
	Components            []string          `yaml:"components"`
	Bases                 []string          `yaml:"bases"`
	CRDs                  []string          `yaml:"crds"`
	Configurations        []string          `yaml:"configurations"`
	Generators            []string          `yaml:"generators"`
	Transformers          []string          `yaml:"transformers"`
	Validators            []string          `yaml:"validators"`
	Patches               []kustomizePatch  `yaml:"patches"`
	PatchesJSON6902       []kustomizePatch  `yaml:"patchesJson6902"`
	PatchesStrategicMerge []string          `yaml:"patchesStrategicMerge"`
	Replacements          []replacement     `yaml:"replacements"`
	ConfigMapGenerator    []generator       `yaml:"configMapGenerator"`
	SecretGenerator       []generator       `yaml:"secretGenerator"`
	OpenAPI               map[string]string `yaml:"openapi"`

	HelmGlobals                 any `yaml:"helmGlobals"`
	HelmCharts                  any `yaml:"helmCharts"`
	HelmChartInflationGenerator any `yaml:"helmChartInflationGenerator"`

	NamePrefix        any `yaml:"namePrefix"`
	NameSuffix        any `yaml:"nameSuffix"`
	Namespace         any `yaml:"namespace"`
	CommonLabels      any `yaml:"commonLabels"`
	Labels            any `yaml:"labels"`
	CommonAnnotations any `yaml:"commonAnnotations"`
	Images            any `yaml:"images"`
	ImageTags         any `yaml:"imageTags"`
	Replicas          any `yaml:"replicas"`
	Vars              any `yaml:"vars"`
	SortOptions       any `yaml:"sortOptions"`
	GeneratorOptions  any `yaml:"generatorOptions"`
	BuildMetadata     any `yaml:"buildMetadata"`
}

type kustomizePatch struct {
	Path    string `yaml:"path"`
	Patch   any    `yaml:"patch"`
	Target  any    `yaml:"target"`
	Options any    `yaml:"options"`
}

type replacement struct {
	Path        string `yaml:"path"`
	Source      any    `yaml:"source"`
	SourceValue any    `yaml:"sourceValue"`
	Targets     any    `yaml:"targets"`
}

type generator struct {
	Name      any      `yaml:"name"`
	Namespace any      `yaml:"namespace"`
	Behavior  any      `yaml:"behavior"`
	Type      any      `yaml:"type"`
	Literals  any      `yaml:"literals"`
	Options   any      `yaml:"options"`
	Files     []string `yaml:"files"`
	Envs      []string `yaml:"envs"`
	Env       string   `yaml:"env"`
}

// ScanKustomization reads every kustomization file of the release in dir and says what it must not do (fault 30):
// reach outside the release, by a URL, a repository, an absolute path or "..", or run anything, by helm, an exec or a
// container function. An entry that names nothing in the release is refused too, because kustomize would then look
// for it elsewhere. It reads only, and dials nobody. Whoever renders must scan first, and not rest on the scan alone.
func ScanKustomization(fsys fs.FS, dir string) []Fault {
	t, faults := walk(fsys, dir, Limits{})
	return manifest.Sort(append(faults, t.scan()...))
}

// scan is ScanKustomization without the walk's own faults.
func (t *tree) scan() []Fault {
	var faults []Fault
	folders := map[string]string{}
	for _, f := range t.files {
		dir, name := path.Split(f.path)
		if !slices.Contains(kustomizationNames, name) {
			continue
		}
		dir = path.Clean(dir)
		if other := folders[dir]; other != "" {
			faults = append(faults, Fault{File: path.Join(t.dir, f.path), Message: "stands beside " + other + ": kustomize takes only one of them"})
		}
		folders[dir] = name
		faults = append(faults, t.scanFile(f)...)
	}
	return faults
}

// kustomized tells whether a folder of the tree has a kustomization file.
func (t *tree) kustomized(dir string) bool {
	return slices.ContainsFunc(kustomizationNames, func(n string) bool { return t.has(path.Join(dir, n), false) })
}

func (t *tree) scanFile(f file) []Fault {
	name := path.Join(t.dir, f.path)
	data, fault := t.document(f)
	if fault != nil {
		return []Fault{*fault}
	}
	doc, faults := manifest.Decode[kustomization](name, data)
	s := scanner{tree: t, doc: doc, dir: path.Dir(f.path)}
	s.scan(&doc.Value)
	return append(faults, s.faults...)
}

// document reads a file that is to be parsed.
func (t *tree) document(f file) ([]byte, *Fault) {
	name := path.Join(t.dir, f.path)
	if f.size > manifest.MaxFile {
		return nil, &Fault{File: name, Message: fmt.Sprintf("is larger than %d bytes", manifest.MaxFile)}
	}
	data, err := t.read(f)
	if err != nil {
		return nil, &Fault{File: name, Message: fmt.Sprintf("can't be read: %v", err)}
	}
	return data, nil
}

type scanner struct {
	*tree
	doc    *manifest.Doc[kustomization]
	dir    string // of the kustomization file, in the release
	faults []Fault
}

func (s *scanner) fault(at, format string, args ...any) {
	s.faults = append(s.faults, s.doc.Fault(at, format, args...))
}

func (s *scanner) scan(k *kustomization) {
	for field, entries := range map[string][]string{"resources": k.Resources, "bases": k.Bases, "components": k.Components} {
		for i, e := range entries {
			s.root(at(field, i), e)
		}
	}
	for field, entries := range map[string][]string{"crds": k.CRDs, "configurations": k.Configurations} {
		for i, e := range entries {
			s.file(at(field, i), e)
		}
	}
	for field, entries := range map[string][]string{"generators": k.Generators, "transformers": k.Transformers, "validators": k.Validators} {
		for i, e := range entries {
			s.plugin(at(field, i), e)
		}
	}
	for field, entries := range map[string][]kustomizePatch{"patches": k.Patches, "patchesJson6902": k.PatchesJSON6902} {
		for i, p := range entries {
			s.optional(at(field, i)+".path", p.Path)
		}
	}
	for i, e := range k.PatchesStrategicMerge {
		if !strings.Contains(e, "\n") && !strings.HasPrefix(e, "{") { // else the patch itself
			s.file(at("patchesStrategicMerge", i), e)
		}
	}
	for i, r := range k.Replacements {
		s.optional(at("replacements", i)+".path", r.Path)
	}
	for field, entries := range map[string][]generator{"configMapGenerator": k.ConfigMapGenerator, "secretGenerator": k.SecretGenerator} {
		for i, g := range entries {
			s.sources(at(field, i), g)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(k.OpenAPI)) {
		if key == "path" {
			s.file("openapi.path", k.OpenAPI[key])
		}
	}
	for field, value := range map[string]any{"helmCharts": k.HelmCharts, "helmGlobals": k.HelmGlobals, "helmChartInflationGenerator": k.HelmChartInflationGenerator} {
		if value != nil {
			s.fault(field, "%s runs helm, and fetches charts: put the rendered manifests into the release", field)
		}
	}
}

func at(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// sources checks what a ConfigMap or Secret is generated from: "path" or "key=path".
func (s *scanner) sources(where string, g generator) {
	for i, e := range g.Files {
		if _, p, ok := strings.Cut(e, "="); ok {
			e = p
		}
		s.file(where+"."+at("files", i), e)
	}
	for i, e := range g.Envs {
		s.file(where+"."+at("envs", i), e)
	}
	s.optional(where+".env", g.Env)
}

func (s *scanner) optional(where, entry string) {
	if entry != "" {
		s.file(where, entry)
	}
}

// scheme is what makes a path a URL, also a malformed one.
var scheme = regexp.MustCompile(`^\s*[A-Za-z][A-Za-z0-9+.-]*:`)

// local gives the path in the release that an entry means, or says why it is none.
func (s *scanner) local(where, entry string) (string, bool) {
	switch {
	case scheme.MatchString(entry) || strings.Contains(entry, "://"):
		s.fault(where, "%q is a URL: a release must contain all it is made of; copy it in", entry)
	case path.IsAbs(entry):
		s.fault(where, "%q is an absolute path: name files by their path in the release", entry)
	default:
		p := path.Join(s.dir, entry)
		if p != ".." && !strings.HasPrefix(p, "../") {
			return p, true
		}
		s.fault(where, "%q leads out of the release: copy what it names in", entry)
	}
	return "", false
}

func (s *scanner) file(where, entry string) bool {
	p, ok := s.local(where, entry)
	if ok && !s.has(p, false) {
		s.fault(where, "%q: there is no such file in the release", entry)
		return false
	}
	return ok
}

// root checks an entry that may name a folder. kustomize takes some names for repositories even if a folder
// of that name exists: those with a user before an @, with a query, and all at GitHub.
func (s *scanner) root(where, entry string) {
	if strings.ContainsAny(entry, "@?") || strings.HasPrefix(strings.ToLower(strings.TrimSpace(entry)), "github.com") {
		s.fault(where, "%q may name a remote repository: a release must contain all it is made of; copy it in", entry)
		return
	}
	p, ok := s.local(where, entry)
	switch {
	case !ok || s.has(p, false):
	case !s.has(p, true):
		s.fault(where, "%q: there is no such file or folder in the release", entry)
	case !s.kustomized(p):
		s.fault(where, "%q: the folder has no kustomization.yaml", entry)
	}
}

// builtins are kustomize's own plugins that run nothing, and load nothing but what their fields path and paths name.
var builtins = []string{
	"AnnotationsTransformer", "ImageTagTransformer", "LabelTransformer", "NamespaceTransformer",
	"PatchJson6902Transformer", "PatchStrategicMergeTransformer", "PatchTransformer", "PrefixTransformer",
	"ReplicaCountTransformer", "SuffixTransformer",
}

// plugin checks an entry of generators, transformers or validators: a file of built-in plugins.
func (s *scanner) plugin(where, entry string) {
	if strings.Contains(entry, "\n") || strings.HasPrefix(entry, "{") {
		s.fault(where, "put the plugin's configuration into a file of its own")
		return
	}
	if !s.file(where, entry) {
		return
	}
	p, _ := s.local(where, entry)
	i, _ := slices.BinarySearchFunc(s.files, p, func(f file, s string) int { return strings.Compare(f.path, s) })
	data, fault := s.document(s.files[i])
	if fault != nil {
		s.faults = append(s.faults, *fault)
		return
	}
	s.faults = append(s.faults, s.plugins(path.Join(s.tree.dir, p), data)...)
}

// separator divides the documents of a YAML file. One with anything behind it on its line is left to the parser, which refuses it.
var separator = regexp.MustCompile(`(?m)^---[ \t\r]*$`)

// plugins checks the documents of a plugin file.
func (s *scanner) plugins(name string, data []byte) (faults []Fault) {
	line := 0
	start := 0
	ends := append(separator.FindAllIndex(data, -1), []int{len(data), len(data)})
	for _, end := range ends {
		part := data[start:end[0]]
		if len(bytes.TrimSpace(part)) > 0 {
			for _, f := range s.pluginDocument(name, part) {
				f.Line += line
				faults = append(faults, f)
			}
		}
		line += bytes.Count(data[start:end[1]], []byte("\n"))
		start = end[1]
	}
	return faults
}

func (s *scanner) pluginDocument(name string, data []byte) []Fault {
	doc, faults := manifest.Decode[map[string]any](name, data)
	if len(faults) > 0 {
		return faults
	}
	fault := func(at, format string, args ...any) {
		faults = append(faults, doc.Fault(at, format, args...))
	}
	kind, _ := doc.Value["kind"].(string)
	switch {
	case doc.Value["apiVersion"] != "builtin":
		fault("apiVersion", "only kustomize's built-in plugins may be used (apiVersion: builtin): any other would run a program")
	case !slices.Contains(builtins, kind):
		fault("kind", "plugin %q may not be used; those that may: %s", kind, strings.Join(builtins, ", "))
	}
	if meta, _ := doc.Value["metadata"].(map[string]any); meta != nil && meta["annotations"] != nil {
		fault("metadata.annotations", "a plugin's configuration can't have annotations: they can make it a function that runs a program")
	}
	for key := range doc.Value {
		if k := strings.ToLower(key); k == "path" || k == "paths" { // kustomize reads them in any case
			fault(key, "%s is not followed: put the patch into the plugin's configuration", key)
		}
	}
	return faults
}
