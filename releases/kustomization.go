package releases

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// kustomizationNames are the file names that kustomize looks for in a folder.
var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// kustomization has every field that kustomize knows, so that the scan reports a misspelt field, which kustomize might
// accept in another case. Fields that load nothing have type any.
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

// ScanKustomization reads every kustomization file of the release in dir and returns what none may do (fault 30): reach
// outside the release by a URL, a repository, an absolute path or "..", or run a program by helm, an exec or a
// container function. It also refuses an entry that names nothing in the release, since kustomize would look for the
// name elsewhere. It only reads, and opens no connection. A renderer must scan first, and must not rely on the scan
// alone.
func ScanKustomization(fsys fs.FS, dir string) []Fault {
	t, faults := walkRelease(fsys, dir, Limits{})
	return manifest.Sort(append(faults, t.scanKustomizations()...))
}

// scanKustomizations is ScanKustomization without the walk's own faults.
func (t *releaseTree) scanKustomizations() []Fault {
	var faults []Fault
	folders := map[string]string{}
	for _, f := range t.files {
		dir, name := path.Split(f.path)
		if !IsKustomization(name) {
			continue
		}
		dir = path.Clean(dir)
		if other := folders[dir]; other != "" {
			faults = append(faults, Fault{File: path.Join(t.dir, f.path), Code: manifest.Conflict,
				Message: "is beside " + other + ": kustomize accepts only one of the two"})
		}
		folders[dir] = name
		faults = append(faults, t.scanKustomization(f)...)
	}
	return faults
}

// hasKustomization reports whether a folder of the tree has a kustomization file.
func (t *releaseTree) hasKustomization(dir string) bool {
	return slices.ContainsFunc(kustomizationNames, func(n string) bool { return t.hasEntry(path.Join(dir, n), false) })
}

func (t *releaseTree) scanKustomization(f file) []Fault {
	name := path.Join(t.dir, f.path)
	data, fault := t.readDocument(f)
	if fault != nil {
		return []Fault{*fault}
	}
	doc, faults := manifest.Decode[kustomization](name, data)
	s := kustomizationScanner{releaseTree: t, doc: doc, dir: path.Dir(f.path)}
	s.checkFields(&doc.Value)
	return append(faults, s.faults...)
}

// readDocument reads a file that is to be parsed.
func (t *releaseTree) readDocument(f file) ([]byte, *Fault) {
	name := path.Join(t.dir, f.path)
	if f.size > manifest.MaxFile {
		return nil, &Fault{File: name, Code: manifest.TooLarge,
			Message: fmt.Sprintf("is larger than %d bytes", manifest.MaxFile)}
	}
	data, err := t.readFile(f)
	if err != nil {
		return nil, &Fault{File: name, Code: manifest.Unreadable, Message: fmt.Sprintf("can't be read: %v", err)}
	}
	return data, nil
}

type kustomizationScanner struct {
	*releaseTree
	doc    *manifest.Doc[kustomization]
	dir    string // the kustomization file's folder in the release
	faults []Fault
	named  []string // the relative paths of its entries
}

// IsKustomization reports whether kustomize reads a file of that name as a folder's kustomization.
func IsKustomization(name string) bool { return slices.Contains(kustomizationNames, path.Base(name)) }

// KustomizationPaths returns the relative paths of the files and folders that a kustomization file names, as they are
// written there.
func KustomizationPaths(data []byte) []string {
	doc, _ := manifest.Decode[kustomization](kustomizationNames[0], data) // the scan of the release tells its faults
	s := kustomizationScanner{releaseTree: &releaseTree{}, doc: doc, dir: "."}
	s.checkFields(&doc.Value)
	slices.Sort(s.named)
	return slices.Compact(s.named)
}

func (s *kustomizationScanner) addFault(code manifest.FaultCode, at, format string, args ...any) {
	s.faults = append(s.faults, s.doc.Fault(code, at, format, args...))
}

func (s *kustomizationScanner) checkFields(k *kustomization) {
	for field, entries := range map[string][]string{"resources": k.Resources, "bases": k.Bases,
		"components": k.Components} {
		for i, e := range entries {
			s.checkFileOrFolder(indexedField(field, i), e)
		}
	}
	for field, entries := range map[string][]string{"crds": k.CRDs, "configurations": k.Configurations} {
		for i, e := range entries {
			s.checkFile(indexedField(field, i), e)
		}
	}
	for field, entries := range map[string][]string{"generators": k.Generators, "transformers": k.Transformers,
		"validators": k.Validators} {
		for i, e := range entries {
			s.checkPlugins(indexedField(field, i), e)
		}
	}
	for field, entries := range map[string][]kustomizePatch{"patches": k.Patches,
		"patchesJson6902": k.PatchesJSON6902} {
		for i, p := range entries {
			s.checkOptionalFile(indexedField(field, i)+".path", p.Path)
		}
	}
	for i, e := range k.PatchesStrategicMerge {
		if !strings.Contains(e, "\n") && !strings.HasPrefix(e, "{") { // otherwise the entry is the patch itself
			s.checkFile(indexedField("patchesStrategicMerge", i), e)
		}
	}
	for i, r := range k.Replacements {
		s.checkOptionalFile(indexedField("replacements", i)+".path", r.Path)
	}
	for field, entries := range map[string][]generator{"configMapGenerator": k.ConfigMapGenerator,
		"secretGenerator": k.SecretGenerator} {
		for i, g := range entries {
			s.checkGenerator(indexedField(field, i), g)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(k.OpenAPI)) {
		if key == "path" {
			s.checkFile("openapi.path", k.OpenAPI[key])
		}
	}
	for field, value := range map[string]any{"helmCharts": k.HelmCharts, "helmGlobals": k.HelmGlobals,
		"helmChartInflationGenerator": k.HelmChartInflationGenerator} {
		if value != nil {
			s.addFault(manifest.Forbidden, field,
				"%s runs helm, and fetches charts: put the rendered manifests into the release", field)
		}
	}
}

func indexedField(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// checkGenerator checks the sources of a ConfigMap or Secret: "path" or "key=path".
func (s *kustomizationScanner) checkGenerator(where string, g generator) {
	for i, e := range g.Files {
		if _, p, ok := strings.Cut(e, "="); ok {
			e = p
		}
		s.checkFile(where+"."+indexedField("files", i), e)
	}
	for i, e := range g.Envs {
		s.checkFile(where+"."+indexedField("envs", i), e)
	}
	s.checkOptionalFile(where+".env", g.Env)
}

func (s *kustomizationScanner) checkOptionalFile(where, entry string) {
	if entry != "" {
		s.checkFile(where, entry)
	}
}

// urlScheme matches a URL's beginning, malformed URLs included.
var urlScheme = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\s*[A-Za-z][A-Za-z0-9+.-]*:`) })

// resolvePath returns the path in the release that an entry names; ok is false, and a fault added, if the entry names
// none.
func (s *kustomizationScanner) resolvePath(where, entry string) (string, bool) {
	switch {
	case urlScheme().MatchString(entry) || strings.Contains(entry, "://"):
		s.addFault(manifest.Forbidden, where, "%q is a URL: a release must contain all it is made of; copy it in",
			entry)
	case path.IsAbs(entry):
		s.addFault(manifest.Forbidden, where, "%q is an absolute path: name files by their path in the release", entry)
	default:
		s.named = append(s.named, entry)
		p := path.Join(s.dir, entry)
		if p != ".." && !strings.HasPrefix(p, "../") {
			return p, true
		}
		s.addFault(manifest.Forbidden, where, "%q leads out of the release: copy what it names in", entry)
	}
	return "", false
}

func (s *kustomizationScanner) checkFile(where, entry string) bool {
	p, ok := s.resolvePath(where, entry)
	if ok && !s.hasEntry(p, false) {
		s.addFault(manifest.UnknownReference, where, "%q: there is no such file in the release", entry)
		return false
	}
	return ok
}

// checkFileOrFolder checks an entry that may name a folder. Even if a folder of that name exists, kustomize takes some
// names for repositories: those with a user before an @, with a query, and all at GitHub.
func (s *kustomizationScanner) checkFileOrFolder(where, entry string) {
	if strings.ContainsAny(entry, "@?") || strings.HasPrefix(strings.ToLower(strings.TrimSpace(entry)), "github.com") {
		s.addFault(manifest.Forbidden, where,
			"%q may name a remote repository: a release must contain all it is made of; copy it in", entry)
		return
	}
	p, ok := s.resolvePath(where, entry)
	switch {
	case !ok || s.hasEntry(p, false):
	case !s.hasEntry(p, true):
		s.addFault(manifest.UnknownReference, where, "%q: there is no such file or folder in the release", entry)
	case !s.hasKustomization(p):
		s.addFault(manifest.UnknownReference, where, "%q: the folder has no kustomization.yaml", entry)
	}
}
