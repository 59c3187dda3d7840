package images_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/images"
	"github.com/sluice-cd/sluice/releases"
)

// countManifests returns how many requests for manifests a registry had.
func (u *upstream) countManifests() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for path, times := range u.asked {
		if strings.Contains(path, "/manifests/") {
			n += times
		}
	}
	return n
}

// missing returns references to images that the registry lacks.
func missing(u *upstream, repository string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "image: %s\n", reference(u, repository, releases.DigestBytes([]byte(fmt.Sprint(i)))))
	}
	return b.String()
}

// Digests that a cell makes up cost a registry no more requests than the cell's searches are allowed, whether the
// registry has the release's images or not.
func TestMadeUpDigestsCostTheRegistryLittle(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	const allowed, requests = 64, 10_000
	s := newService(t, u, options{reference: missing(u, "app", 300)})
	left := allowed
	c := images.Client{Offered: offered.Offered, MaySearch: func() bool { left--; return left >= 0 }}
	for i := range requests {
		w := images.Wanted{Repository: "app", Digest: releases.DigestBytes(fmt.Append(nil, "made up", i)), Manifest: i%2 == 0}
		if _, err := s.Open(t.Context(), c, w); !errors.Is(err, images.ErrUnread) {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if n := u.countManifests(); n > allowed {
		t.Errorf("%d requests for made-up digests led to %d at the registry, and %d were allowed", requests, n, allowed)
	}
}

// A client that asks for a layer without its manifest finds it after a few tries, though the release has many images,
// and some of them are gone. Once all manifests are read, made-up digests cost the registry nothing.
func TestSearchesGoOnWhereTheyEnded(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	var text strings.Builder
	var layers []releases.Digest
	for range 40 {
		image := u.push(t, "app", 100, 1)
		layers = append(layers, layersOf(t, image)[0])
		fmt.Fprintf(&text, "image: %s\n", reference(u, "app", digestOf(t, image)))
	}
	s := newService(t, u, options{reference: text.String()})
	for i, layer := range layers {
		var err error
		for range 3 { // 16 manifests each
			if _, err = pull(s, "app", layer, false); !errors.Is(err, images.ErrUnread) {
				break
			}
		}
		if err != nil {
			t.Errorf("layer %d: %v", i, err)
		}
	}
	before := u.countManifests()
	_, err := pull(s, "app", releases.DigestBytes([]byte("made up")), false)
	if !errors.Is(err, images.ErrNotNamed) {
		t.Errorf("made up: %v", err)
	}
	if n := u.countManifests(); n != before || n > 40 {
		t.Errorf("%d requests for manifests, and %d after a made-up digest", before, n)
	}
}

// An image that the registry lost, or does not hand out, hides no other.
func TestLostImageHidesNoOther(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		u := newUpstream(t)
		image := u.push(t, "app", 100, 1)
		root := digestOf(t, image)
		lost := releases.DigestBytes([]byte("lost"))
		u.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.HasSuffix(r.URL.Path, string(lost)) {
				w.WriteHeader(status)
				return
			}
			next.ServeHTTP(w, r)
		})
		both := []string{reference(u, "app", root), reference(u, "app", lost)}
		slices.Sort(both)
		s := newService(t, u, options{reference: both[0] + "\nimage: " + both[1]})
		c, err := s.Open(t.Context(), offered, images.Wanted{Repository: "app", Digest: layersOf(t, image)[0]})
		if err != nil {
			t.Errorf("%d: %v", status, err)
			continue
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		must(t, c.Close())
		var refused *images.UpstreamError
		_, err = pull(s, "app", releases.DigestBytes([]byte("made up")), false)
		if status == http.StatusNotFound && !errors.Is(err, images.ErrNotNamed) ||
			status == http.StatusForbidden && !errors.As(err, &refused) {
			t.Errorf("%d: a made-up digest: %v", status, err)
		}
	}
}
