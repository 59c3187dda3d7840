package releases

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// builtinPlugins are kustomize's own plugins that run no program and load only the files that their fields path and
// paths name.
var builtinPlugins = []string{
	"AnnotationsTransformer", "ImageTagTransformer", "LabelTransformer", "NamespaceTransformer",
	"PatchJson6902Transformer", "PatchStrategicMergeTransformer", "PatchTransformer", "PrefixTransformer",
	"ReplicaCountTransformer", "SuffixTransformer",
}

// checkPluginFile checks an entry of generators, transformers or validators, which must name a file of built-in
// plugins.
func (s *kustomizationScanner) checkPluginFile(where, entry string) {
	if strings.Contains(entry, "\n") || strings.HasPrefix(entry, "{") {
		s.addFault(manifest.Forbidden, where, "put the plugin's configuration into a file of its own")
		return
	}
	if !s.checkFile(where, entry) {
		return
	}
	p, _ := s.resolvePath(where, entry)
	i, _ := slices.BinarySearchFunc(s.files, p, func(f file, s string) int { return strings.Compare(f.path, s) })
	data, fault := s.readDocument(s.files[i])
	if fault != nil {
		s.faults = append(s.faults, *fault)
		return
	}
	s.faults = append(s.faults, s.checkPluginDocuments(path.Join(s.releaseTree.dir, p), data)...)
}

// documentSeparator divides the documents of a YAML file. The parser refuses a separator with other text on its line.
var documentSeparator = regexp.MustCompile(`(?m)^---[ \t\r]*$`)

func (s *kustomizationScanner) checkPluginDocuments(name string, data []byte) (faults []Fault) {
	line := 0
	start := 0
	ends := append(documentSeparator.FindAllIndex(data, -1), []int{len(data), len(data)})
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
		if k := strings.ToLower(key); k == "path" || k == "paths" { // kustomize reads them in any case
			fault(manifest.Forbidden, key, "%s is not followed: put the patch into the plugin's configuration", key)
		}
	}
	return faults
}
