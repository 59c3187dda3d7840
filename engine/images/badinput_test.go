package images_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sluice-cd/sluice/engine/images"
	"github.com/sluice-cd/sluice/releases"
)

// serveManifests has a registry answer with made-up manifests, and with one blob of a byte.
func serveManifests(u *upstream, texts ...string) {
	u.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for _, text := range append(texts, oneByte) {
			if strings.HasSuffix(r.URL.Path, string(releases.DigestBytes([]byte(text)))) {
				_, _ = io.WriteString(w, text)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

const oneByte = "x"

func descriptorOf(digest string, size int) string {
	return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":%d,"digest":%q}`, size, digest)
}

func manifestOf(layers ...string) string {
	blob := string(releases.DigestBytes([]byte(oneByte)))
	return `{"schemaVersion":2,"config":` + descriptorOf(blob, 1) + `,"layers":[` + strings.Join(layers, ",") + `]}`
}

func indexOf(manifests ...string) string {
	var all []string
	for _, m := range manifests {
		all = append(all, descriptorOf(string(releases.DigestBytes([]byte(m))), len(m)))
	}
	return `{"schemaVersion":2,"manifests":[` + strings.Join(all, ",") + `]}`
}

// What has a SHA-512 digest is not here, and what stands beside it in the same manifest is.
func TestOtherAlgorithmsAreLeftOut(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := manifestOf(descriptorOf("sha512:"+strings.Repeat("a", 128), 1))
	serveManifests(u, image)
	root := releases.DigestBytes([]byte(image))
	s := newService(t, u, options{reference: reference(u, "app", root)})
	if text, err := pull(s, "app", root, true); err != nil || string(text) != image {
		t.Errorf("%s, %v", text, err)
	}
	text, err := pull(s, "app", releases.DigestBytes([]byte(oneByte)), false)
	if err != nil || string(text) != oneByte {
		t.Errorf("%q, %v", text, err)
	}
}

// Indexes of indexes are followed a few levels down. What is below is not served, and asks the registry for no end of
// manifests.
func TestDeepIndexesAreCutOff(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	texts := []string{manifestOf()}
	for range 10 {
		texts = append(texts, indexOf(texts[len(texts)-1]))
	}
	serveManifests(u, texts...)
	root := releases.DigestBytes([]byte(texts[len(texts)-1]))
	s := newService(t, u, options{reference: reference(u, "app", root)})
	near, far := releases.DigestBytes([]byte(texts[len(texts)-3])), releases.DigestBytes([]byte(texts[0]))
	if _, err := pull(s, "app", near, true); err != nil {
		t.Errorf("two levels down: %v", err)
	}
	for _, w := range []images.Wanted{{Repository: "app", Digest: far, Manifest: true},
		{Repository: "app", Digest: releases.DigestBytes([]byte(oneByte))}} {
		if _, err := s.Open(t.Context(), offered, w); !errors.Is(err, images.ErrNotNamed) {
			t.Errorf("ten levels down: %v", err)
		}
	}
	if n := u.countManifests(); n > 5 {
		t.Errorf("%d manifests were fetched", n)
	}
}

// A fan of manifests that each name a thousand others is cut off after a few requests to the registry.
func TestFansOfManifestsAreCutOff(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	var fans []string
	for i := range 100 {
		var all []string
		for j := range 1000 {
			all = append(all, descriptorOf(string(releases.DigestBytes(fmt.Append(nil, i, "/", j))), 1000))
		}
		fans = append(fans, `{"schemaVersion":2,"manifests":[`+strings.Join(all, ",")+`]}`)
	}
	top := indexOf(fans...)
	serveManifests(u, append(fans, top)...)
	s := newService(t, u, options{reference: reference(u, "app", releases.DigestBytes([]byte(top)))})
	for range 20 {
		_, err := pull(s, "app", releases.DigestBytes([]byte("made up")), false)
		if !errors.Is(err, images.ErrUnread) {
			t.Fatal(err)
		}
	}
	if n := u.countManifests(); n > 20*16 {
		t.Errorf("20 requests led to %d at the registry", n)
	}
}

// Two repositories with one layer: it is fetched once for both, and each is served what it names alone.
func TestTwoRepositoriesWithOneLayer(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "team/app", 100_000, 1)
	tag, err := name.ParseReference(u.host + "/team/copy:latest")
	must(t, err)
	must(t, remote.Write(tag, image))
	root, layer := digestOf(t, image), layersOf(t, image)[0]
	both := reference(u, "team/app", root) + "\nimage: " + reference(u, "team/copy", root)
	s := newService(t, u, options{reference: both})
	for _, repository := range []string{"team/app", "team/copy"} {
		if text, err := pull(s, repository, layer, false); err != nil || releases.DigestBytes(text) != layer {
			t.Errorf("%s: %d bytes, %v", repository, len(text), err)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for path, times := range u.asked {
		if strings.HasSuffix(path, "/blobs/"+string(layer)) {
			n += times
		}
	}
	if n != 1 {
		t.Errorf("the layer was fetched %d times: %v", n, u.asked)
	}
}

// The clock went back: what was used in a time to come is evicted like anything else, and what a fill left is removed.
func TestClockWentBack(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	dir := t.TempDir()
	future := time.Now().AddDate(1, 0, 0)
	old := u.push(t, "app", 1<<20, 6)
	s := newService(t, u, options{dir: dir, quota: 12 << 20, reference: reference(u, "app", digestOf(t, old))})
	for _, d := range layersOf(t, old) {
		if _, err := pull(s, "app", d, false); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		must(t, os.Chtimes(filepath.Join(dir, e.Name()), future, future))
	}
	next := u.push(t, "app", 1<<20, 9)
	s = newService(t, u, options{dir: dir, quota: 12 << 20, reference: reference(u, "app", digestOf(t, next))})
	var newest []releases.Digest
	for _, d := range layersOf(t, next) {
		if text, err := pull(s, "app", d, false); err != nil || releases.DigestBytes(text) != d {
			t.Errorf("%d bytes, %v", len(text), err)
		}
		newest = append(newest, d)
	}
	for i, d := range newest {
		if _, err := os.Stat(filepath.Join(dir, d.Hex())); err != nil {
			t.Errorf("layer %d of the newest image went, and those of the future stay: %v", i, err)
		}
	}
}
