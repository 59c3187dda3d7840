package releases

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// builtins are kustomize's own plugins that run nothing, and load nothing but what their fields path and paths name.
var builtins = []string{
	"AnnotationsTransformer", "ImageTagTransformer", "LabelTransformer", "NamespaceTransformer",
	"PatchJson6902Transformer", "PatchStrategicMergeTransformer", "PatchTransformer", "PrefixTransformer",
	"ReplicaCountTransformer", "SuffixTransformer",
}

// plugin checks an entry of generators, transformers or validators: a file of built-in plugins.
func (s *scanner) plugin(where, entry string) {
	if strings.Contains(entry, "\n") || strings.HasPrefix(entry, "{") {
		s.fault(manifest.Forbidden, where, "put the plugin's configuration into a file of its own")
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
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	kind, _ := doc.Value["kind"].(string)
	switch {
	case doc.Value["apiVersion"] != "builtin":
		fault(manifest.Forbidden, "apiVersion", "only kustomize's built-in plugins may be used (apiVersion: builtin): any other would run a program")
	case !slices.Contains(builtins, kind):
		fault(manifest.Forbidden, "kind",
			"plugin %q may not be used; those that may: %s", kind, strings.Join(builtins, ", "))
	}
	if meta, _ := doc.Value["metadata"].(map[string]any); meta != nil && meta["annotations"] != nil {
		fault(manifest.Forbidden, "metadata.annotations", "a plugin's configuration can't have annotations: they can make it a function that runs a program")
	}
	for key := range doc.Value {
		if k := strings.ToLower(key); k == "path" || k == "paths" { // kustomize reads them in any case
			fault(manifest.Forbidden, key, "%s is not followed: put the patch into the plugin's configuration", key)
		}
	}
	return faults
}
