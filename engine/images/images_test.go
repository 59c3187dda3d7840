package images_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sluice-cd/sluice/engine/images"
	"github.com/sluice-cd/sluice/releases"
)

// upstream is a registry whose answers a test changes.
type upstream struct {
	*httptest.Server
	host string

	mu     sync.Mutex
	asked  map[string]int // GETs by path
	answer func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	u := &upstream{asked: map[string]int{}}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		if r.Method == http.MethodGet {
			u.asked[r.URL.Path]++
		}
		answer := u.answer
		u.mu.Unlock()
		if answer == nil || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		answer(w, r, next)
	}))
	t.Cleanup(u.Close)
	u.host = strings.TrimPrefix(u.URL, "http://")
	return u
}

func (u *upstream) set(answer func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// push pushes an image of a few layers and returns it.
func (u *upstream) push(t *testing.T, repository string, size, layers int64) v1.Image {
	t.Helper()
	image, err := random.Image(size, layers)
	must(t, err)
	ref, err := name.ParseReference(u.host + "/" + repository + ":latest")
	must(t, err)
	must(t, remote.Write(ref, image))
	return image
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// release is a release whose one manifest names references.
const release = releases.Digest("sha256:1111111111111111111111111111111111111111111111111111111111111111")

// other is one that names options.other.
const other = releases.Digest("sha256:2222222222222222222222222222222222222222222222222222222222222222")

// offered is a client that was offered the releases.
var offered = images.Client{Offered: slices.Values([]releases.Digest{release, other})}

type options struct {
	dir       string
	quota     int64
	config    string
	heads     func() (current, former []releases.Digest)
	reference string
	other     string
}

func newService(t *testing.T, u *upstream, o options) *images.Service {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	if o.config == "" {
		o.config = fmt.Sprintf(`{"auths": {%q: {}}}`, u.host)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	must(t, os.WriteFile(file, []byte(o.config), 0o600))
	registries, err := images.OpenRegistries(file)
	must(t, err)
	files := func(reference string) fs.FS {
		return fstest.MapFS{"releases/1/deploy.yaml": {Data: []byte("image: " + reference + "\n")}}
	}
	s, err := images.New(images.Options{Dir: o.dir, Quota: o.quota, Registries: registries, Heads: o.heads,
		Files: func(d releases.Digest) (fs.FS, string, error) {
			switch {
			case d == release:
				return files(o.reference), "releases/1", nil
			case d == other && o.other != "":
				return files(o.other), "releases/1", nil
			}
			return nil, "", fs.ErrNotExist
		}})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) releases.Digest {
	t.Helper()
	h, err := of.Digest()
	must(t, err)
	return releases.Digest(h.String())
}

// pull reads content whole.
func pull(s *images.Service, repository string, digest releases.Digest, manifest bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := s.Open(ctx, offered,
		images.Wanted{Repository: repository, Digest: digest, Manifest: manifest})
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(c)
	return text, errors.Join(err, c.Close())
}

func layersOf(t *testing.T, image v1.Image) (digests []releases.Digest) {
	t.Helper()
	m, err := image.Manifest()
	must(t, err)
	for _, l := range append(m.Layers, m.Config) {
		digests = append(digests, releases.Digest(l.Digest.String()))
	}
	return digests
}

func reference(u *upstream, repository string, digest releases.Digest) string {
	return u.host + "/" + repository + "@" + string(digest)
}

func TestFind(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	files := fstest.MapFS{
		"releases/1/deploy.yaml": {Data: []byte("image: registry.example:5000/team/app:1.2@sha256:" + a + "\n" +
			"args: ['--sidecar=ghcr.io/x/y@sha256:" + b + "']\nother: nginx@sha256:" + a + "\nbad: x@sha256:abc\n")},
		"releases/1/overlay/kustomization.yaml": {Data: []byte("images:\n- {name: app, newName: quay.io/t/app, digest: 'sha256:" +
			b + "'}\n- {name: bitnami/redis, digest: 'sha256:" + a + "'}\n- {name: tagged, newTag: v1}\n")},
		"releases/1/broken/kustomization.yaml": {Data: []byte("images: [\n")},
		"releases/2/deploy.yaml":               {Data: []byte("image: other@sha256:" + a)},
	}
	found, err := images.Find(files, "releases/1")
	must(t, err)
	var got []string
	for _, r := range found {
		got = append(got, r.String())
	}
	want := []string{"docker.io/bitnami/redis@sha256:" + a, "docker.io/library/nginx@sha256:" + a,
		"ghcr.io/x/y@sha256:" + b, "quay.io/t/app@sha256:" + b, "registry.example:5000/team/app@sha256:" + a}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEachDigestLeavesTheRegistryOnce(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "team/app", 300_000, 3)
	root := digestOf(t, image)
	shared := t.TempDir()
	o := options{dir: shared, reference: reference(u, "team/app", root)}
	replicas := []*images.Service{newService(t, u, o), newService(t, u, o)}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			s := replicas[i%2]
			if _, err := pull(s, "team/app", root, true); err != nil {
				t.Error(err)
			}
			for _, d := range layersOf(t, image) {
				text, err := pull(s, "team/app", d, false)
				if err != nil || releases.DigestBytes(text) != d {
					t.Errorf("%s: %d bytes, %v", d, len(text), err)
				}
			}
		})
	}
	group.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	for path, n := range u.asked {
		if n > 1 && path != "/v2/" { // the version is asked for when signing in
			t.Errorf("%s was fetched %d times", path, n)
		}
	}
	if len(u.asked) < 5 {
		t.Errorf("only %v was fetched", u.asked)
	}
}

// I1: what no release names is not served, however it is asked for.
func TestOnlyWhatReleasesNameIsServed(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image, other := u.push(t, "team/app", 1000, 1), u.push(t, "team/secret", 1000, 1)
	root := digestOf(t, image)
	s := newService(t, u, options{reference: reference(u, "team/app", root)})
	layer := layersOf(t, image)[0]
	for name, w := range map[string]images.Wanted{
		"another image's manifest": {Repository: "team/secret", Digest: digestOf(t, other), Manifest: true},
		"another image's layer":    {Repository: "team/secret", Digest: layersOf(t, other)[0]},
		"by another repository":    {Repository: "team/secret", Digest: layer},
		"of another registry":      {Registry: "registry.example", Repository: "team/app", Digest: layer},
		"a layer as a manifest":    {Repository: "team/app", Digest: layer, Manifest: true},
		"a manifest as a layer":    {Repository: "team/app", Digest: root},
		"unknown":                  {Repository: "team/app", Digest: releases.DigestBytes([]byte("x"))},
	} {
		_, err := s.Open(t.Context(), offered, w)
		if !errors.Is(err, images.ErrNotNamed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unoffered := releases.Digest("sha256:" + strings.Repeat("3", 64))
	_, err := s.Open(t.Context(), images.Client{Offered: slices.Values([]releases.Digest{unoffered})},
		images.Wanted{Repository: "team/app", Digest: layer})
	if !errors.Is(err, images.ErrNotNamed) {
		t.Errorf("a release that was not offered: %v", err)
	}
}

// I2: whatever the registry does, content that ends is right.
func TestRegistryMisbehaves(t *testing.T) {
	t.Parallel()
	const size = 400_000
	// part returns an answer that sends some bytes of a blob's answer and then hangs up.
	part := func(n int) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			record := httptest.NewRecorder()
			next.ServeHTTP(record, r)
			for k, v := range record.Header() {
				w.Header()[k] = v
			}
			w.Header().Set("Content-Length", fmt.Sprint(record.Body.Len()))
			w.WriteHeader(record.Code)
			_, _ = w.Write(record.Body.Bytes()[:min(n, record.Body.Len())])
			if n < record.Body.Len() {
				panic(http.ErrAbortHandler)
			}
		}
	}
	change := func(edit func(body []byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			record := httptest.NewRecorder()
			next.ServeHTTP(record, r)
			body := edit(record.Body.Bytes())
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body)
		}
	}
	// once gives an answer to the first request only.
	once := func(first func(http.ResponseWriter, *http.Request, http.Handler)) func(http.ResponseWriter, *http.Request,
		http.Handler) {
		var n sync.Map
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if _, seen := n.LoadOrStore(r.URL.Path, true); seen {
				next.ServeHTTP(w, r)
				return
			}
			first(w, r, next)
		}
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(code)
		}
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request, http.Handler)
		fails  string // part of the error; empty: it comes out right
	}{
		"breaks off and goes on": {answer: part(100_000)},
		"ignores ranges": {answer: func() func(http.ResponseWriter, *http.Request, http.Handler) {
			breaks := once(part(150_000))
			return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				r.Header.Del("Range")
				breaks(w, r, next)
			}
		}()},
		"is busy once":     {answer: once(status(http.StatusTooManyRequests))},
		"fails once":       {answer: once(status(http.StatusInternalServerError))},
		"signs out once":   {answer: once(status(http.StatusUnauthorized))},
		"does not have it": {answer: status(http.StatusNotFound), fails: "404"},
		"refuses":          {answer: status(http.StatusForbidden), fails: "403"},
		"lies about a byte": {answer: change(func(b []byte) []byte {
			b = bytes.Clone(b)
			b[7] ^= 1
			return b
		}), fails: "digest"},
		"sends less": {answer: change(func(b []byte) []byte { return b[:len(b)-1] }), fails: "length"},
		"sends more": {answer: change(func(b []byte) []byte { return append(bytes.Clone(b), 0) }), fails: "length"},
		"compresses": {answer: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Content-Encoding", "gzip")
			next.ServeHTTP(w, r)
		}, fails: "compressed"},
		"redirects for ever": {answer: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, fails: "redirects"},
		"redirects to another host": {answer: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, "http://127.0.0.9:1/internal", http.StatusFound)
		}, fails: "127.0.0.9:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			image := u.push(t, "app", size, 1)
			root, layer := digestOf(t, image), layersOf(t, image)[0]
			s := newService(t, u, options{reference: reference(u, "app", root)})
			if _, err := pull(s, "app", root, true); err != nil {
				t.Fatal(err)
			}
			u.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.Contains(r.URL.Path, "/blobs/") {
					test.answer(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
			text, err := pull(s, "app", layer, false)
			switch {
			case test.fails == "" && (err != nil || releases.DigestBytes(text) != layer):
				t.Errorf("%d bytes, %v", len(text), err)
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
				t.Errorf("%d bytes, %v: want %q", len(text), err, test.fails)
			}
			if test.fails == "" {
				return
			}
			u.set(nil) // afterwards it works again
			if text, err := pull(s, "app", layer, false); err != nil || releases.DigestBytes(text) != layer {
				t.Errorf("later: %d bytes, %v", len(text), err)
			}
		})
	}
}

func TestManifestsAreBounded(t *testing.T) {
	t.Parallel()
	entry := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":7,"digest":"sha256:` + strings.Repeat("a", 64) + `"}`
	many := strings.TrimSuffix(strings.Repeat(entry+",", 10_000), ",")
	for name, text := range map[string]string{
		"an index of 10,000": `{"schemaVersion":2,"manifests":[` + many + `]}`,
		"5 MiB":              `{"schemaVersion":2,"x":"` + strings.Repeat("x", 5<<20) + `"}`,
		"no JSON":            "hello",
		"schema 1":           `{"schemaVersion":1}`,
		"both kinds at once": `{"schemaVersion":2,"manifests":[` + entry + `],"config":` + entry + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			digest := releases.DigestBytes([]byte(text))
			u.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.Contains(r.URL.Path, "/manifests/") {
					_, _ = io.WriteString(w, text)
					return
				}
				next.ServeHTTP(w, r)
			})
			s := newService(t, u, options{reference: reference(u, "app", digest)})
			if _, err := pull(s, "app", digest, true); err == nil {
				t.Error("it was served")
			}
		})
	}
}

func TestContentOutlivesTheRegistry(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "app", 200_000, 2)
	root := digestOf(t, image)
	o := options{dir: t.TempDir(), reference: reference(u, "app", root),
		heads: func() (current, former []releases.Digest) { return []releases.Digest{release}, nil }}
	s := newService(t, u, o)
	eventually(t, func() bool { w, ok := s.Warming(release); return ok && w.Complete() && w.Images == 1 })
	u.Close()
	for _, s := range []*images.Service{s, newService(t, u, o)} { // and after a restart
		for _, d := range layersOf(t, image) {
			if text, err := pull(s, "app", d, false); err != nil || releases.DigestBytes(text) != d {
				t.Errorf("%d bytes, %v", len(text), err)
			}
		}
	}
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to hold within three minutes")
		}
	}
}

// A process that died leaves a part and an unlocked lock; a disk damages a file. Both are fetched anew.
func TestWhatADiskHoldsIsChecked(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "app", 200_000, 2)
	root, layers := digestOf(t, image), layersOf(t, image)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, layers[0].Hex()+".part"), make([]byte, 300_000), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, layers[0].Hex()+".lock"), []byte("process 1"), 0o600))
	damaged := make([]byte, 200_000)
	_, _ = rand.Read(damaged)
	must(t, os.WriteFile(filepath.Join(dir, layers[1].Hex()), damaged, 0o600))
	s := newService(t, u, options{dir: dir, reference: reference(u, "app", root)})
	for _, d := range layers {
		if text, err := pull(s, "app", d, false); err != nil || releases.DigestBytes(text) != d {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// A registry's refusal is told before anything is sent, whether there is room on the disk or not.
func TestRefusalComesFirst(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "app", 300_000, 1)
	root, layer := digestOf(t, image), layersOf(t, image)[0]
	for _, quota := range []int64{0, 100_000} {
		s := newService(t, u, options{quota: quota, reference: reference(u, "app", root)})
		u.set(nil)
		if _, err := pull(s, "app", root, true); err != nil {
			t.Fatal(err)
		}
		u.set(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusForbidden) })
		c, err := s.Open(t.Context(), offered, images.Wanted{Repository: "app", Digest: layer})
		var refused *images.UpstreamError
		if !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
			t.Errorf("with a quota of %d: opened %t, %v", quota, c != nil, err)
		}
	}
}

func TestNoRoomOnDisk(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "app", 300_000, 3)
	root, layers := digestOf(t, image), layersOf(t, image)
	dir := t.TempDir()
	s := newService(t, u, options{dir: dir, quota: 5 << 20, reference: reference(u, "app", root)})
	small := newService(t, u, options{quota: 100_000, reference: reference(u, "app", root)})
	for _, d := range layers {
		for _, s := range []*images.Service{s, small} {
			if text, err := pull(s, "app", d, false); err != nil || releases.DigestBytes(text) != d {
				t.Errorf("%d bytes, %v", len(text), err)
			}
		}
	}
	u.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		record := httptest.NewRecorder()
		next.ServeHTTP(record, r)
		body := record.Body.Bytes()
		if strings.Contains(r.URL.Path, "/blobs/") {
			body[len(body)-1] ^= 1
		}
		_, _ = w.Write(body)
	})
	if text, err := pull(small, "app", layers[0], false); err == nil || len(text) >= 300_000-1000 {
		t.Errorf("what passes through is not checked: %d bytes, %v", len(text), err)
	}
}

// A disk that is full in the middle of a fill fails that pull; the next passes through.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "app", 1<<20, 1)
	root, layer := digestOf(t, image), layersOf(t, image)[0]
	s := newService(t, u, options{dir: smallDisk(t, "512k"), reference: reference(u, "app", root)})
	read := make(chan struct{})
	u.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, string(layer)) {
			w = &pausedWriter{w, 256 << 10, read}
		}
		next.ServeHTTP(w, r)
	})
	c, err := s.Open(t.Context(), offered, images.Wanted{Repository: "app", Digest: layer})
	must(t, err)
	close(read)
	if text, err := io.ReadAll(c); err == nil {
		t.Errorf("%d bytes were kept on 512 KiB", len(text))
	}
	must(t, c.Close())
	if text, err := pull(s, "app", layer, false); err != nil || releases.DigestBytes(text) != layer {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// pausedWriter waits, after the first bytes, until they are read.
type pausedWriter struct {
	http.ResponseWriter
	first int
	read  <-chan struct{}
}

func (w *pausedWriter) Write(b []byte) (n int, err error) {
	if first := min(w.first, len(b)); first > 0 {
		if n, err = w.ResponseWriter.Write(b[:first]); err != nil {
			return n, err
		}
		w.first -= n
	}
	if n < len(b) {
		<-w.read
		rest, err := w.ResponseWriter.Write(b[n:])
		return n + rest, err
	}
	return n, nil
}

// smallDisk mounts a tmpfs. root may do that, and CI runs as root in its container.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// Content that was used longest ago goes first, and never what a channel's head names.
func TestEviction(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "app", 1<<20, 12)
	root, layers := digestOf(t, image), layersOf(t, image)[:12]
	dir := t.TempDir()
	o := options{dir: dir, quota: 10 << 20, reference: reference(u, "app", root)}
	s := newService(t, u, o)
	for _, d := range layers {
		if _, err := pull(s, "app", d, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, layers[0].Hex())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the oldest content is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, layers[11].Hex())); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	var used int64
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		used += info.Size()
	}
	if used > 10<<20 {
		t.Errorf("%d bytes are kept", used)
	}
}

// After a restart, what cells may go back to stays, though nobody asked for it since and its registry is away.
func TestFormerHeadsStayAfterARestart(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	good, next := u.push(t, "good", 300_000, 2), u.push(t, "next", 1<<20, 12)
	o := options{dir: t.TempDir(), quota: 10 << 20, reference: reference(u, "good", digestOf(t, good)),
		other: reference(u, "next", digestOf(t, next)),
		heads: func() (current, former []releases.Digest) { return []releases.Digest{release}, nil }}
	first := newService(t, u, o)
	eventually(t, func() bool { w, _ := first.Warming(release); return w.Images == 1 && w.Complete() })
	o.heads = func() (current, former []releases.Digest) { return nil, []releases.Digest{release} }
	second := newService(t, u, o)
	has := func(d releases.Digest) bool { _, err := os.Stat(filepath.Join(o.dir, d.Hex())); return err == nil }
	layers := layersOf(t, next)
	eventually(t, func() bool { // once there is room for the last, others were evicted
		for _, d := range layers {
			if _, err := pull(second, "next", d, false); err != nil {
				t.Fatal(err)
			}
		}
		return has(layers[11])
	})
	for _, d := range append(layersOf(t, good), digestOf(t, good)) {
		if !has(d) {
			t.Errorf("%s is gone", d)
		}
	}
}

// A reader that does not read neither stops a fill nor slows it down.
func TestReadersDoNotSlowAFill(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	image := u.push(t, "app", 4<<20, 1)
	root, layer := digestOf(t, image), layersOf(t, image)[0]
	dir := t.TempDir()
	s := newService(t, u, options{dir: dir, reference: reference(u, "app", root)})
	ctx, cancel := context.WithCancel(t.Context())
	slow, err := s.Open(ctx, offered, images.Wanted{Repository: "app", Digest: layer})
	must(t, err)
	cancel() // the client has gone
	must(t, slow.Close())
	eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, layer.Hex())); return err == nil })
}

func TestRegistriesFile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, fault string }{
		"not JSON":                {"{", "not a Docker config.json"},
		"hosts of no registry":    {`{"sluice": {"hosts": {"a.example": ["b.example"]}}}`, "a.example"},
		"a host that is a URL":    {`{"auths": {"a.example": {}}, "sluice": {"hosts": {"a.example": ["https://b"]}}}`, "https://b"},
		"a helper elsewhere":      {`{"credHelpers": {"a.example": "../evil"}}`, "../evil"},
		"a store elsewhere":       {`{"credsStore": "a b"}`, "a b"},
		"a star in the middle":    {`{"auths": {"a.example": {}}, "sluice": {"hosts": {"a.example": ["b*.example"]}}}`, "b*"},
		"a password is not shown": {`{"auths": {"a.example": {"auth": "c2VjcmV0"}}, "sluice": 7}`, "not a Docker config.json"},
	} {
		file := filepath.Join(t.TempDir(), "config.json")
		must(t, os.WriteFile(file, []byte(test.text), 0o600))
		_, err := images.OpenRegistries(file)
		if err == nil || !strings.Contains(err.Error(), test.fault) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that was broken for a while, and is as it was again, is no fault any more.
func TestRegistriesFileIsMended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "config.json")
		must(t, os.WriteFile(file, []byte(`{}`), 0o600))
		r, err := images.OpenRegistries(file)
		must(t, err)
		must(t, os.Rename(file, file+".away"))
		time.Sleep(time.Minute)
		if r.Fault() == nil {
			t.Error("that the file is gone is no fault")
		}
		must(t, os.Rename(file+".away", file))
		time.Sleep(time.Minute)
		if err := r.Fault(); err != nil {
			t.Errorf("it is back: %v", err)
		}
	})
}

// Credentials reach the registry that they are for, and no host that it leads to.
func TestCredentialsStay(t *testing.T) {
	t.Parallel()
	var leaked sync.Map
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			leaked.Store(r.URL.Path, h)
		}
		http.Error(w, "not here", http.StatusNotFound)
	}))
	defer storage.Close()
	u := newUpstream(t)
	image := u.push(t, "app", 1000, 1)
	root := digestOf(t, image)
	var signedIn sync.Map
	u.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if user, password, ok := r.BasicAuth(); !ok || user != "ada" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		signedIn.Store(r.URL.Path, true)
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, storage.URL+"/blob", http.StatusTemporaryRedirect)
			return
		}
		next.ServeHTTP(w, r)
	})
	s := newService(t, u, options{reference: reference(u, "app", root), config: fmt.Sprintf(
		`{"auths": {%q: {"username": "ada", "password": "secret"}}, "sluice": {"hosts": {%q: [%q]}}}`, u.host, u.host,
		strings.TrimPrefix(storage.URL, "http://"))})
	if _, err := pull(s, "app", root, true); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(s, "app", layersOf(t, image)[0], false); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a layer that the storage lacks: %v", err)
	}
	leaked.Range(func(path, header any) bool { t.Errorf("%v got %v", path, header); return true })
}
