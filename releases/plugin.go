package releases

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// builtinPlugins are kustomize's own plugins that run no program and load only the files that their fields path and
// paths name.
var builtinPlugins = []string{
	"AnnotationsTransformer", "ImageTagTransformer", "LabelTransformer", "NamespaceTransformer",
	"PatchJson6902Transformer", "PatchStrategicMergeTransformer", "PatchTransformer", "PrefixTransformer",
	"ReplicaCountTransformer", "SuffixTransformer", "ValueAddTransformer",
}

// checkPlugins checks an entry of generators, transformers or validators, which must name a file of built-in plugins,
// or a folder whose kustomization has nothing but such files and folders as resources.
func (s *kustomizationScanner) checkPlugins(where, entry string) {
	if strings.Contains(entry, "\n") || strings.HasPrefix(entry, "{") {
		s.addFault(manifest.Forbidden, where, "put the plugin's configuration into a file of its own")
		return
	}
	before := len(s.faults)
	s.checkFileOrFolder(where, entry)
	if len(s.faults) > before {
		return
	}
	p, _ := s.resolvePath(where, entry)
	if s.hasEntry(p, false) {
		s.checkPluginFile(p)
	} else {
		s.checkPluginFolder(p, 0)
	}
}

// checkPluginFolder checks a folder of plugins. All its other fields could make something else of a plugin: a patch
// could add an annotation that runs a program.
func (s *kustomizationScanner) checkPluginFolder(dir string, depth int) {
	i := slices.IndexFunc(s.files, func(f file) bool {
		return path.Dir(f.path) == dir && IsKustomization(f.path)
	})
	name := path.Join(s.releaseTree.dir, s.files[i].path)
	if depth > maxPluginFolders {
		s.faults = append(s.faults, Fault{File: name, Code: manifest.TooLarge, Line: 1,
			Message: fmt.Sprintf("is more than %d folders of plugins deep, or a circle", maxPluginFolders)})
		return
	}
	data, fault := s.readDocument(s.files[i])
	if fault != nil {
		return // the scan of all kustomizations says it
	}
	k, faults := manifest.Decode[map[string]any](name, data)
	if len(faults) > 0 {
		return
	}
	for _, field := range slices.Sorted(maps.Keys(k.Value)) {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata", "resources"}, field) {
			s.faults = append(s.faults, k.Fault(manifest.Forbidden, field,
				"a folder of plugins has resources alone: %s could make other plugins of them", field))
		}
	}
	entries, _ := k.Value["resources"].([]any)
	for _, e := range entries {
		entry, _ := e.(string)
		switch p := path.Join(dir, entry); {
		case entry != "" && s.hasEntry(p, false):
			s.checkPluginFile(p)
		case entry != "" && s.hasKustomization(p):
			s.checkPluginFolder(p, depth+1)
		}
	}
}

const maxPluginFolders = 8

// checkPluginFile checks a file of the release that holds the configuration of plugins.
func (s *kustomizationScanner) checkPluginFile(p string) {
	i, _ := slices.BinarySearchFunc(s.files, p, func(f file, s string) int { return strings.Compare(f.path, s) })
	data, fault := s.readDocument(s.files[i])
	if fault != nil {
		s.faults = append(s.faults, *fault)
		return
	}
	s.faults = append(s.faults, s.checkPluginDocuments(path.Join(s.releaseTree.dir, p), data)...)
}

// documentSeparator divides the documents of a YAML file. The parser refuses a separator with other text on its line.
var documentSeparator = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^---[ \t\r]*$`) })

func (s *kustomizationScanner) checkPluginDocuments(name string, data []byte) (faults []Fault) {
	line := 0
	start := 0
	ends := append(documentSeparator().FindAllIndex(data, -1), []int{len(data), len(data)})
	for _, end := range ends {
		part := data[start:end[0]]
		if len(bytes.TrimSpace(part)) > 0 {
			for _, f := range s.checkPluginDocument(name, part) {
				f.Line += line
				faults = append(faults, f)
			}
		}
		line += bytes.Count(data[start:end[1]], []byte("\n"))
		start = end[1]
	}
	return faults
}

func (s *kustomizationScanner) checkPluginDocument(name string, data []byte) []Fault {
	doc, faults := manifest.Decode[map[string]any](name, data)
	if len(faults) > 0 {
		return faults
	}
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	kind, _ := doc.Value["kind"].(string)
	switch {
	case doc.Value["apiVersion"] != "builtin":
		fault(manifest.Forbidden, "apiVersion",
			"only kustomize's built-in plugins may be used (apiVersion: builtin): any other would run a program")
	case !slices.Contains(builtinPlugins, kind):
		fault(manifest.Forbidden, "kind",
			"plugin %q is not allowed; allowed plugins: %s", kind, strings.Join(builtinPlugins, ", "))
	}
	if meta, _ := doc.Value["metadata"].(map[string]any); meta != nil && meta["annotations"] != nil {
		fault(manifest.Forbidden, "metadata.annotations",
			"a plugin's configuration can't have annotations: they can make it a function that runs a program")
	}
	for key := range doc.Value {
		// kustomize reads them in any case
		if slices.Contains([]string{"path", "paths", "targetfilepath"}, strings.ToLower(key)) {
			fault(manifest.Forbidden, key, "%s is not followed: put the patch into the plugin's configuration", key)
		}
	}
	return faults
}
