package images

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/releases"
)

const (
	maxScanned = 64 << 20 // bytes of a release's files
	dockerHub  = "docker.io"
)

// Reference names an image by digest.
type Reference struct {
	Registry   string // HOST or HOST:PORT
	Repository string
	Digest     releases.Digest
}

// String returns the reference as in a manifest.
func (r Reference) String() string { return r.Registry + "/" + r.Repository + "@" + string(r.Digest) }

// root returns the descriptor of the reference's manifest, whose size is not known.
func (r Reference) root() Descriptor {
	return Descriptor{Digest: r.Digest, Size: unknownSize, kind: kindManifest}
}

// An image reference by digest, its registry and its repository apart (the grammar of the distribution project).
var referencePattern = sync.OnceValue(func() *regexp.Regexp {
	const part = `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*`
	return regexp.MustCompile(`(?:\b([A-Za-z0-9.-]+\.[A-Za-z0-9.-]+(?::[0-9]+)?|[A-Za-z0-9.-]+:[0-9]+|localhost)/)?` +
		`(` + part + `(?:/` + part + `)*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@(sha256:[0-9a-f]{64})\b`)
})

// Find returns the images that the files in a release's folder name by digest, sorted, each once: wherever a reference
// stands in the text, and in the images of kustomizations. What kustomize renders from these files names no others,
// since a digest is never made up.
func Find(fsys fs.FS, dir string) ([]Reference, error) {
	var all []Reference
	left := maxScanned
	err := fs.WalkDir(fsys, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		if left -= len(text); left < 0 {
			return fmt.Errorf("the release has more than %d MiB of files", maxScanned>>20)
		}
		for _, m := range referencePattern().FindAllSubmatch(text, -1) {
			all = append(all, newReference(string(m[1]), string(m[2]), string(m[3])))
		}
		switch path.Base(name) {
		case "kustomization.yaml", "kustomization.yml", "Kustomization":
			all = append(all, kustomized(text)...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Reference) int {
		return cmp.Or(cmp.Compare(a.Registry, b.Registry), cmp.Compare(a.Repository, b.Repository),
			cmp.Compare(a.Digest, b.Digest))
	})
	return slices.Compact(all), nil
}

// kustomized returns what the images field of a kustomization sets. One that can't be read has none: the renderer says
// what is wrong with it.
func kustomized(text []byte) (all []Reference) {
	var k struct {
		Images []struct {
			Name    string `yaml:"name"`
			NewName string `yaml:"newName"`
			Digest  string `yaml:"digest"`
		} `yaml:"images"`
	}
	if yaml.Unmarshal(text, &k) != nil {
		return nil
	}
	for _, i := range k.Images {
		m := referencePattern().FindStringSubmatch(cmp.Or(i.NewName, i.Name) + "@" + i.Digest)
		if m != nil {
			all = append(all, newReference(m[1], m[2], m[3]))
		}
	}
	return all
}

// newReference completes a name as Docker does: without a registry, it is at Docker Hub.
func newReference(registry, repository, digest string) Reference {
	registry = CanonicalRegistry(cmp.Or(registry, dockerHub))
	if registry == dockerHub && path.Base(repository) == repository {
		repository = "library/" + repository
	}
	return Reference{registry, repository, releases.Digest(digest)}
}

// CanonicalRegistry returns the one name of a registry: Docker Hub has several.
func CanonicalRegistry(host string) string {
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return dockerHub
	}
	return host
}
