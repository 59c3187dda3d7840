package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	imageUser = 65532 // not root, and no user of the machine
	caFile    = "etc/ssl/certs/ca-certificates.crt"
	stateDir  = "var/lib/sluice"
)

// writeImage writes the OCI image layout PROGRAM-VERSION.oci: an index of an image for each of the binaries.
func (r release) writeImage(binaries []binary, licences string) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range binaries {
		image, err := r.buildImage(b, licences)
		if err != nil {
			return fmt.Errorf("build the image for %s/%s: %w", b.target.os, b.target.arch, err)
		}
		platform := v1.Platform{OS: b.target.os, Architecture: b.target.arch}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image,
			Descriptor: v1.Descriptor{Platform: &platform}})
	}
	version := binaries[0].version
	path, err := layout.Write(filepath.Join(r.out, binaries[0].program+"-"+version+".oci"),
		mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	name := map[string]string{"org.opencontainers.image.ref.name": version}
	return path.AppendIndex(index, layout.WithAnnotations(name))
}

func (r release) buildImage(b binary, licences string) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if r.base != "" {
		index, err := layout.ImageIndexFromPath(r.base)
		if err != nil {
			return nil, err
		}
		if image, err = findImage(index, b.target); err != nil {
			return nil, err
		} else if image == nil {
			return nil, fmt.Errorf("%s has no image for this platform", r.base)
		}
	}
	created := v1.Time{Time: b.time.UTC()}
	entries, err := programEntries(b, licences)
	if err != nil {
		return nil, err
	}
	for _, content := range []struct {
		what    string
		entries []tarEntry
	}{{"users, certificates, folders", rootEntries()}, {b.program + " " + b.version, entries}} {
		layer, err := buildLayer(content.entries, b)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayer,
			History: v1.History{Created: created, CreatedBy: content.what}})
		if err != nil {
			return nil, err
		}
	}
	old, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config := old.DeepCopy()
	config.OS, config.Architecture, config.Created = b.target.os, b.target.arch, created
	config.Config = v1.Config{
		User: fmt.Sprintf("%d:%d", imageUser, imageUser), Entrypoint: []string{"/usr/bin/sluice"},
		WorkingDir: "/" + stateDir,
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/" + caFile,
			"HOME=/" + stateDir, "SLUICE_DATA=/" + stateDir},
		Labels: map[string]string{
			"org.opencontainers.image.title": b.program, "org.opencontainers.image.version": b.version,
			"org.opencontainers.image.revision": b.commit, "org.opencontainers.image.source": homepage,
			"org.opencontainers.image.licenses": "Apache-2.0", "org.opencontainers.image.created": b.stamp(),
		},
	}
	return mutate.ConfigFile(image, config)
}

// findImage returns the image for a platform; nil: there is none.
func findImage(index v1.ImageIndex, t target) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		switch {
		case d.MediaType.IsIndex():
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if image, err := findImage(inner, t); image != nil || err != nil {
				return image, err
			}
		case d.MediaType.IsImage():
			image, err := index.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			config, err := image.ConfigFile()
			if err != nil {
				return nil, err
			}
			if config.OS == t.os && config.Architecture == t.arch {
				return image, nil
			}
		}
	}
	return nil, nil
}

// tarEntry is a file, or a folder if the name ends with a slash.
type tarEntry struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

func rootEntries() []tarEntry {
	passwd := fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\nsluice:x:%[1]d:%[1]d::/%[2]s:/sbin/nologin\n", imageUser,
		stateDir)
	group := fmt.Sprintf("root:x:0:\nsluice:x:%d:\n", imageUser)
	return []tarEntry{
		{name: "etc/passwd", mode: 0o644, content: []byte(passwd)},
		{name: "etc/group", mode: 0o644, content: []byte(group)},
		{name: caFile, mode: 0o644, content: certificates()},
		{name: "tmp/", mode: 0o1777},
		{name: stateDir + "/", mode: 0o700, owner: imageUser},
	}
}

// certificates returns Mozilla's roots that are trusted without conditions: a PEM file can't say conditions.
func certificates() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer never fails
		}
	}
	return out.Bytes()
}

// programEntries returns the program's files. Both programs are /usr/bin/sluice: manifests start agents by the image's
// entry point, owners run sluice cell in the pod, and an agent that replaces itself takes that file of the image.
func programEntries(b binary, licences string) ([]tarEntry, error) {
	program, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(licences)
	return []tarEntry{{name: "usr/bin/sluice", mode: 0o755, content: program},
		{name: "usr/share/doc/sluice/third-party-licences", mode: 0o644, content: text}}, err
}

// buildLayer returns a layer whose files have the commit's time.
func buildLayer(entries []tarEntry, b binary) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)),
			ModTime: b.time, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if e.name[len(e.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	}, tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithMediaType(types.OCILayer))
}
