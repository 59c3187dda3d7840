package releasecmd

import (
	"fmt"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/manifest/edit"
	"github.com/sluice-cd/sluice/releases"
)

const releaseYAMLName = "release.yaml"

// writeReleaseYAML completes release.yaml, at the root of the files: with the version, the source, what the flags say,
// and the folder of each profile. What a person wrote stays as it is.
func (c *cutOptions) writeReleaseYAML(s *source) error {
	name := s.releaseFile()
	text := s.files[name]
	if name == "" {
		text = []byte("apiVersion: " + releases.APIVersion + "\nkind: Release\n")
	} else {
		delete(s.files, name)
	}
	var is struct {
		Version  any               `yaml:"version"`
		Source   any               `yaml:"source"`
		Features []string          `yaml:"features"`
		Fixes    []string          `yaml:"fixes"`
		Profiles map[string]string `yaml:"profiles"`
	}
	s.files[releaseYAMLName] = text
	if yaml.Unmarshal(text, &is) != nil {
		return nil //nolint:nilerr // the check of the release says it, with the line
	}
	type field struct {
		when  bool
		path  []string
		value any
	}
	var from edit.Fields
	if s.origin.Repository != "" {
		from = append(from, edit.Field{Key: "repository", Value: s.origin.Repository})
	}
	if s.origin.Commit != "" {
		from = append(from, edit.Field{Key: "commit", Value: s.origin.Commit})
	}
	fields := []field{
		{is.Version == nil, []string{"version"}, c.version},
		{is.Source == nil && from != nil, []string{"source"}, from},
		{len(c.features) > 0, []string{"features"}, join(is.Features, c.features)},
		{len(c.fixes) > 0, []string{"fixes"}, join(is.Fixes, c.fixes)},
		{c.forward, []string{"rollback"}, string(releases.ForwardOnly)},
	}
	if s.dir != "." {
		if _, ok := is.Profiles["default"]; !ok {
			fields = append(fields, field{true, []string{"profiles", "default"}, s.dir})
		}
		for profile, dir := range is.Profiles {
			fields = append(fields, field{path.Dir(name) != ".", []string{"profiles", profile}, path.Join(s.dir, dir)})
		}
	}
	for _, f := range fields {
		if !f.when {
			continue
		}
		edited, err := edit.Set(text, f.path, f.value)
		if err != nil {
			return fmt.Errorf("write %s into %s: %w", f.path[0], releaseYAMLName, err)
		}
		text = edited
	}
	s.files[releaseYAMLName] = text
	return nil
}

// join returns the values of both lists, each once.
func join(a, b []string) []string {
	all := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}
