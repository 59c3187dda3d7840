package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// readImage returns the image of a layout for this machine's architecture, after its digests and sizes were checked.
func readImage(t *testing.T, dir string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(manifest.Manifests); n != 1 || !manifest.Manifests[0].MediaType.IsIndex() ||
		manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v1.2.3-rc.1" {
		t.Errorf("index.json has %d entries: %+v", n, manifest.Manifests)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	image, err := findImage(index, target{"linux", runtime.GOARCH})
	if err != nil || image == nil {
		t.Fatal(image, err)
	}
	return image
}

// readFiles returns the entries of the image's root by name, and the content of its files.
func readFiles(t *testing.T, image v1.Image) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	headers, contents := map[string]*tar.Header{}, map[string][]byte{}
	flat := mutate.Extract(image)
	defer flat.Close()
	for r := tar.NewReader(flat); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
		if contents[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func checkImage(t *testing.T, dir, binary string) {
	image := readImage(t, dir)
	config := configOf(t, image)
	if c := config.Config; c.User != "65532:65532" || c.Entrypoint[0] != "/usr/bin/sluice" ||
		c.Labels["org.opencontainers.image.version"] != "v1.2.3-rc.1" ||
		c.Labels["org.opencontainers.image.revision"] == "" {
		t.Errorf("the image runs %+v", c)
	}
	if !config.Created.Equal(tagged) {
		t.Errorf("created %s, and the commit is of %s", config.Created, tagged)
	}
	headers, contents := readFiles(t, image)
	built, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(contents["usr/bin/sluice"], built) || headers["usr/bin/sluice"].Mode != 0o755 {
		t.Error("the image has another binary")
	}
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(contents[caFile]) ||
		strings.Count(string(contents[caFile]), "BEGIN CERTIFICATE") < 100 {
		t.Errorf("certificates: %d bytes", len(contents[caFile]))
	}
	if !strings.Contains(string(contents["etc/passwd"]), "\nsluice:x:65532:65532:") {
		t.Errorf("/etc/passwd is %s", contents["etc/passwd"])
	}
	state := headers[stateDir+"/"]
	if state == nil {
		state = headers[stateDir]
	}
	if state == nil || state.Uid != 65532 || state.Mode != 0o700 {
		t.Errorf("the folder for the state is %+v", state)
	}
	for name, h := range headers {
		if !h.ModTime.Equal(tagged) || h.Mode&0o022 != 0 && name != "tmp" && name != "tmp/" {
			t.Errorf("%s has time %s, mode %o", name, h.ModTime, h.Mode)
		}
	}
}

// On a base, what that has stays, but for who runs what.
func TestBase(t *testing.T) {
	t.Parallel()
	b := binary{program: wholeProgram, target: target{"linux", runtime.GOARCH},
		path: filepath.Join(t.TempDir(), "sluice"), version: "v1.2.3-rc.1", time: tagged}
	if err := os.WriteFile(b.path, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	layer, err := buildLayer([]tarEntry{{name: "usr/bin/git", mode: 0o755, content: []byte("#!/bin/sh\n")}}, b)
	if err != nil {
		t.Fatal(err)
	}
	base, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	if err != nil {
		t.Fatal(err)
	}
	base, err = mutate.ConfigFile(base, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH,
		Config: v1.Config{User: "root", Entrypoint: []string{"git"}}, RootFS: configOf(t, base).RootFS})
	if err != nil {
		t.Fatal(err)
	}
	r := release{base: filepath.Join(t.TempDir(), "base"), out: t.TempDir()}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: base})
	if _, err := layout.Write(r.base, index); err != nil {
		t.Fatal(err)
	}
	if err := r.writeImage([]binary{b}, b.path); err != nil {
		t.Fatal(err)
	}
	image := readImage(t, filepath.Join(r.out, "sluice-v1.2.3-rc.1.oci"))
	headers, _ := readFiles(t, image)
	if headers["usr/bin/git"] == nil || headers["usr/bin/sluice"] == nil {
		t.Errorf("the image has git %v, sluice %v", headers["usr/bin/git"], headers["usr/bin/sluice"])
	}
	if c := configOf(t, image).Config; c.User != "65532:65532" || c.Entrypoint[0] != "/usr/bin/sluice" {
		t.Errorf("the image runs %+v", c)
	}
	b.target.arch = "s390x"
	err = r.writeImage([]binary{b}, b.path)
	if err == nil || !strings.Contains(err.Error(), "no image for this platform") {
		t.Errorf("on a base without the platform: %v", err)
	}
}

func configOf(t *testing.T, image v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}
