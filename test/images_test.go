package test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/debian"
)

// A machine pulls its release's images through the cell's agent, by two clients that know nothing of Sluice: Go's and
// skopeo. What the cell was not offered is not there, and a cell that is shut out pulls nothing.
func TestImagesThroughTheAgent(t *testing.T) {
	t.Parallel()
	if err := debian.Program(t.Context(), "skopeo", "skopeo"); err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	host := strings.TrimPrefix(upstream.URL, "http://")
	offered, other := pushImage(t, host+"/team/app"), pushImage(t, host+"/team/other")

	w, local := startImageWorld(t, host)
	w.cutRelease("1.0.0", host+"/team/app@"+offered)
	w.awaitRelease("eu-1", "1.0.0")

	image, err := remote.Image(digestReference(t, local+"/team/app@"+offered))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	if out, err := skopeo(t, local+"/team/app@"+offered); err != nil {
		t.Errorf("skopeo: %v\n%s", err, out)
	}
	if _, err := remote.Image(digestReference(t, local+"/team/other@"+other)); err == nil ||
		!strings.Contains(err.Error(), "No release that this cell was offered names this") {
		t.Errorf("an image of no release: %v", err)
	}
	tag, err := name.ParseReference(local+"/team/app:latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(tag); err == nil || !strings.Contains(err.Error(), "by digest only") {
		t.Errorf("a tag: %v", err)
	}
	upstream.Close() // what was fetched stays
	if _, err := skopeo(t, local+"/team/app@"+offered); err != nil {
		t.Errorf("with the registry gone: %v", err)
	}

	w.mustRunSluice("cell", "revoke", "eu-1")
	w.eventually(func() (string, bool) {
		_, err := remote.Image(digestReference(t, local+"/team/app@"+offered))
		return "a revoked cell pulls images", err != nil
	})
}

// A cell that asks for digests that nobody named costs the registry a few requests at first and one a second, though
// its release names many images that nobody has fetched.
func TestMadeUpDigestsAreNotSearchedForEver(t *testing.T) {
	t.Parallel()
	u := startCountingRegistry(t)
	w, local := startImageWorld(t, u.host, "--images-warm-within", "0")
	var note strings.Builder
	for i := range 200 {
		fmt.Fprintf(&note, "%s/team/app@%s ", u.host, releases.DigestBytes(fmt.Append(nil, "lost", i)))
	}
	w.cutRelease("1.0.0", note.String())
	w.awaitRelease("eu-1", "1.0.0")
	begun, before := time.Now(), u.count("/manifests/")
	const asked = 500
	turnedAway := 0
	for i := range asked {
		digest := releases.DigestBytes(fmt.Append(nil, "made up", i))
		answer, err := http.Get("http://" + local + "/v2/team/app/blobs/" + string(digest)) //nolint:noctx // a test's
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusTooManyRequests && answer.Header.Get("Retry-After") != "" {
			turnedAway++
		}
	}
	took := time.Since(begun)
	// What is fetched ahead stops at the first image that is lost, and tries again every 30 s.
	allowed := 64 + int(took/time.Second) + 1 + int(took/(30*time.Second)) + 1
	if n := u.count("/manifests/") - before; n > allowed {
		t.Errorf("%d made-up digests led to %d requests at the registry within %s, and %d were allowed", asked, n, took,
			allowed)
	}
	if turnedAway != asked {
		t.Errorf("%d of %d were turned away to ask again", turnedAway, asked)
	}
}

// startImageWorld starts a world whose control plane serves the images of a registry to its cell eu-1. It returns where
// that cell's machine pulls.
func startImageWorld(t *testing.T, registry string, serve ...string) (w *world, local string) {
	t.Helper()
	w = newWorld(t, nil)
	config := w.path("config.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"auths": {%q: {}}}`, registry), 0o600); err != nil {
		t.Fatal(err)
	}
	w.server.args = append(w.server.args, append(serve, "--cells", freePort(t), "--registries", config)...)
	w.server.start()
	w.eventually(func() (string, bool) {
		return "the control plane is not ready", w.getJSON("/readyz", new([]byte)) == nil
	})
	local = freePort(t)
	w.startAgent("eu-1", "eu-1", "--join", "@"+w.addCell("eu-1", "staging"), "--images-listen", local)
	return w, local
}

// Cells begin with a head once its images are here: the head that waits for them says how much is missing.
func TestHeadWaitsForItsImages(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	release := make(chan struct{})
	upstream := httptest.NewServer(holdBlobs(next, &stuck, release))
	defer upstream.Close()
	host := strings.TrimPrefix(upstream.URL, "http://")
	digest := pushImage(t, host+"/app")
	stuck.Store(true)

	w := newWorld(t, nil)
	config := w.path("config.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"auths": {%q: {}}}`, host), 0o600); err != nil {
		t.Fatal(err)
	}
	w.server.args = append(w.server.args, "--registries", config)
	w.addAgent("eu-1")
	w.addAgent("acme")
	w.startAll()
	w.cutRelease("1.0.0", host+"/app@"+digest)
	w.eventually(func() (string, bool) {
		out, err := w.runSluice("why", "staging", "--server", w.socket())
		return out, err == nil && strings.Contains(out, "1 of 1 images are still being fetched: ")
	})
	if out := w.mustRunSluice("status", "--server", w.socket()); !strings.Contains(out,
		"images: 1 image of channels' heads still to be fetched: ") {
		t.Errorf("status does not say what the head waits for:\n%s", out)
	}
	if metrics := w.metrics(); !strings.Contains(metrics, "\nsluice_images_warming_images 1\n") {
		t.Error("the metrics do not say that an image is being fetched")
	}
	close(release)
	w.awaitRelease("eu-1", "1.0.0")
	if metrics := w.metrics(); !strings.Contains(metrics, "\nsluice_images_warming_images 0\n") ||
		!strings.Contains(metrics, "\nsluice_images_warming_bytes 0\n") {
		t.Error("the metrics say that images are still being fetched")
	}
}

func (w *world) metrics() string {
	w.t.Helper()
	var text []byte
	if err := w.getJSON("/metrics", &text); err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// The control plane is killed in the middle of a fill. What it does after it was started anew is right, and nothing is
// left behind.
func TestKilledInMidFill(t *testing.T) {
	t.Parallel()
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var half atomic.Bool
	begun := make(chan struct{}, 100)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !half.Load() || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		whole := httptest.NewRecorder()
		next.ServeHTTP(whole, r)
		w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
	}))
	defer upstream.Close()
	host := strings.TrimPrefix(upstream.URL, "http://")
	digest := pushImage(t, host+"/app")
	half.Store(true)
	w, local := startImageWorld(t, host)
	w.cutRelease("1.0.0", host+"/app@"+digest)
	<-begun
	w.server.kill()
	half.Store(false)
	w.server.start()
	w.awaitRelease("eu-1", "1.0.0")
	image, err := remote.Image(digestReference(t, local+"/app@"+digest))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(w.path("data", "images", "*.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	out := w.mustRunSluice("status", "--server", w.socket())
	if m := regexp.MustCompile(`images: (\d+) pulls by cells, (\d+) from disk; `).FindStringSubmatch(out); m == nil ||
		m[1] != m[2] || m[1] == "0" {
		t.Errorf("status does not say what was pulled:\n%s", out)
	}
}

// I5: a pull that is under way ends soon after its cell was revoked.
func TestRevokedCellsPullsEnd(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	host := strings.TrimPrefix(upstream.URL, "http://")
	image, err := random.Image(64<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.NewTag(host+"/app:latest", name.Insecure)
	if err == nil {
		err = remote.Write(to, image)
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	w, local := startImageWorld(t, host)
	w.cutRelease("1.0.0", host+"/app@"+digest.String())
	w.awaitRelease("eu-1", "1.0.0")
	answer, err := http.Get("http://" + local + "/v2/app/blobs/" + m.Layers[0].Digest.String()) //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	// No more is read for now: the rest waits in the control plane.
	if _, err := io.CopyN(io.Discard, answer.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	w.mustRunSluice("cell", "revoke", "eu-1")
	revoked := time.Now()
	w.eventually(func() (string, bool) { // the control plane has read it
		_, err := remote.Image(digestReference(t, local+"/app@"+digest.String()))
		return "a revoked cell pulls images", err != nil
	})
	time.Sleep(2 * time.Second) // what is promised
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil || n == m.Layers[0].Size-1<<20 {
		t.Errorf("the pull went on to its end: %d bytes", n)
	}
	t.Logf("the pull ended %s after the cell was revoked, at %d more bytes: %v", time.Since(revoked), n, err)
}

// pushImage pushes an image and returns its digest.
func pushImage(t *testing.T, repository string) string {
	t.Helper()
	image, err := random.Image(300_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.NewTag(repository+":latest", name.Insecure)
	if err == nil {
		err = remote.Write(to, image)
	}
	var digest v1.Hash
	if err == nil {
		digest, err = image.Digest()
	}
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func digestReference(t *testing.T, text string) name.Digest {
	t.Helper()
	reference, err := name.NewDigest(text, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return reference
}

// skopeo copies an image into a folder.
func skopeo(t *testing.T, reference string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
		"docker://"+reference, "dir:"+filepath.Join(t.TempDir(), "image")).CombinedOutput()
	return string(out), err
}

// holdBlobs returns a handler that answers for blobs only after release, if stuck.
func holdBlobs(next http.Handler, stuck *atomic.Bool, release <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stuck.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		next.ServeHTTP(w, r)
	})
}
