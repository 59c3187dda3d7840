package images

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/sluice-cd/sluice/releases"
)

const (
	unknownSize  = -1
	maxBlob      = 64 << 30 // bytes
	maxNamed     = 4096     // entries of one manifest
	ociIndex     = "application/vnd.oci.image.index.v1+json"
	ociManifest  = "application/vnd.oci.image.manifest.v1+json"
	dockerList   = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerSchema = "application/vnd.docker.distribution.manifest.v2+json"
)

// kind tells manifests and blobs apart.
type kind int

const (
	kindBlob kind = iota
	kindManifest
)

// Descriptor is what a manifest says of content that it names.
type Descriptor struct {
	Digest    releases.Digest
	Size      int64 // unknownSize: of a manifest that a release names
	MediaType string
	kind      kind
}

func (d Descriptor) isManifest() bool { return d.kind == kindManifest }

// limit returns how many bytes the content may have.
func (d Descriptor) limit() int64 {
	switch {
	case d.Size >= 0:
		return d.Size
	case d.isManifest():
		return maxManifest
	}
	return maxBlob
}

// manifest is an image manifest or an index, of OCI or Docker.
type manifest struct {
	SchemaVersion int     `json:"schemaVersion"`
	MediaType     string  `json:"mediaType"`
	Manifests     []named `json:"manifests"`
	Config        *named  `json:"config"`
	Layers        []named `json:"layers"`
	Blobs         []named `json:"blobs"` // of OCI's former artifact manifest
}

type named struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// parseManifest reads a manifest. Its media type is set, since OCI's may be left out.
func parseManifest(text []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("the manifest is not JSON: %w", err)
	}
	if n := len(m.Manifests) + len(m.Layers) + len(m.Blobs); n > maxNamed {
		return nil, fmt.Errorf("the manifest names %d things, and at most %d are followed", n, maxNamed)
	}
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("the manifest has schema version %d, and only 2 is known", m.SchemaVersion)
	}
	isIndex := len(m.Manifests) > 0 || m.MediaType == ociIndex || m.MediaType == dockerList
	if isIndex && (m.Config != nil || len(m.Layers) > 0) {
		return nil, fmt.Errorf("the manifest is an index and an image at once")
	}
	if isIndex {
		m.MediaType = cmp.Or(m.MediaType, ociIndex)
	}
	m.MediaType = cmp.Or(m.MediaType, ociManifest)
	return &m, nil
}

// children returns what the manifest names. What has another digest than SHA-256, or an impossible size, can't be
// pulled. Layers that are to be fetched from elsewhere (urls) are asked of the registry all the same.
func (m *manifest) children() []Descriptor {
	var all []Descriptor
	add := func(n named, k kind) {
		digest, err := releases.ParseDigest(n.Digest)
		limit := int64(maxBlob)
		if k == kindManifest {
			limit = maxManifest
		}
		if err == nil && n.Size >= 0 && n.Size <= limit {
			all = append(all, Descriptor{digest, n.Size, n.MediaType, k})
		}
	}
	for _, n := range m.Manifests {
		add(n, kindManifest)
	}
	if m.Config != nil {
		add(*m.Config, kindBlob)
	}
	for _, n := range m.Layers {
		add(n, kindBlob)
	}
	for _, n := range m.Blobs {
		add(n, kindBlob)
	}
	return all
}
