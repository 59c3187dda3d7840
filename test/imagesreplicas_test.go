package test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/swarm"
)

// Two replicas serve the images of a release to ten cells at once. If they share the folder for images, each digest
// leaves the registry once; with a folder each, it leaves it once for each of them, and never more often.
func TestImagesOfTwoReplicas(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		shared bool
		times  int
	}{"a shared folder": {true, 1}, "a folder each": {false, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := startCountingRegistry(t)
			digest := pushImage(t, u.host+"/team/app")
			f := makeFleet(t, 10, 0, 2, "apiVersion: sluice/v1\nkind: Channel\n")
			config := f.path("config.json")
			if err := os.WriteFile(config, fmt.Appendf(nil, `{"auths": {%q: {}}}`, u.host), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, r := range f.replicas {
				r.args = append(r.args, "--registries", config)
				if test.shared {
					r.args = append(r.args, "--images-dir", f.path("images"))
				}
			}
			f.startReplicas()
			f.startAllCells(swarm.Options{})
			files := swarm.ReleaseFiles("1.0.0", 2)
			files["releases/1.0.0/images.txt"] = u.host + "/team/app@" + digest + "\n"
			if _, err := f.repo.Commit(t.Context(), "cut 1.0.0", files); err != nil {
				t.Fatal(err)
			}
			f.pullFromAll("team/app", digest, u.layers(t, "team/app", digest))
			f.awaitAllOn("1.0.0")
			for path, n := range u.blobs() {
				if n < 1 || n > test.times {
					t.Errorf("%s left the registry %d times, at most %d are right", path, n, test.times)
				}
			}
			if got := len(u.blobs()); got != 4 { // three layers and the configuration
				t.Errorf("%d blobs left the registry: %v", got, u.blobs())
			}
		})
	}
}

// pullFromAll pulls an image's blobs as every cell from every replica, at once.
func (f *fleet) pullFromAll(repository, digest string, blobs []string) {
	f.t.Helper()
	var group sync.WaitGroup
	for replica, address := range f.plane.Addresses {
		plane := swarm.ControlPlane{Addresses: []string{address}, Pins: f.plane.Pins}
		dialer, err := swarm.NewDialer(plane, f.members)
		if err != nil {
			f.t.Fatal(err)
		}
		for i := range f.members {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: dialer.StrangerConfig(i, "http/1.1")}}
			group.Go(func() {
				defer client.CloseIdleConnections()
				for _, path := range append([]string{"manifests/" + digest}, prefixed("blobs/", blobs)...) {
					address := "https://" + address + "/v2/" + repository + "/" + path
					if err := pullOnceOffered(f.t.Context(), client, address); err != nil {
						f.t.Errorf("replica %d, cell %d: %v", replica, i, err)
					}
				}
			})
		}
	}
	group.Wait()
}

func prefixed(prefix string, all []string) (with []string) {
	for _, one := range all {
		with = append(with, prefix+one)
	}
	return with
}

// pullOnceOffered pulls content whose release a replica may not have read yet.
func pullOnceOffered(ctx context.Context, client *http.Client, address string) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // read to its end
		switch {
		case err != nil:
			return err
		case answer.StatusCode == http.StatusOK && strings.HasSuffix(address, string(releases.DigestBytes(text))):
			return nil
		case answer.StatusCode == http.StatusOK || time.Now().After(deadline):
			return fmt.Errorf("%s: %s, %d bytes: %.200s", address, answer.Status, len(text), text)
		}
	}
}

// countingRegistry counts what is fetched.
type countingRegistry struct {
	host string

	mu   sync.Mutex
	gets map[string]int // by path
}

func startCountingRegistry(t *testing.T) *countingRegistry {
	t.Helper()
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	u := &countingRegistry{gets: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			u.mu.Lock()
			u.gets[r.URL.Path]++
			u.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	u.host = strings.TrimPrefix(server.URL, "http://")
	return u
}

// blobs returns how often each blob was fetched.
func (u *countingRegistry) blobs() map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := map[string]int{}
	for path, n := range u.gets {
		if strings.Contains(path, "/blobs/") {
			all[path] = n
		}
	}
	return all
}

// count returns how often paths with a part were fetched.
func (u *countingRegistry) count(part string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for path, times := range u.gets {
		if strings.Contains(path, part) {
			n += times
		}
	}
	return n
}

// layers returns the digests of an image's layers and configuration.
func (u *countingRegistry) layers(t *testing.T, repository, digest string) (all []string) {
	t.Helper()
	reference, err := name.NewDigest(u.host+"/"+repository+"@"+digest, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(reference)
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range append(m.Layers, m.Config) {
		all = append(all, l.Digest.String())
	}
	return all
}
