// Package bases cuts releases from kustomize folders of other projects as they are, and compares what sluice renders
// from the releases with what kustomize makes of the folders.
//
// The folders come with Go modules, which the Go toolchain downloads and keeps: only their names, versions and sums are
// here. All are under the Apache License 2.0.
package bases

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// project is a module, with its folders.
type project struct {
	module, sum string
	folders     []string // that render to exactly what kustomize makes of them
	secrets     []string // that have a Secret with a value that anybody can read, so that no release is cut of them
}

var projects = []project{
	{
		"sigs.k8s.io/kustomize/v3@v3.3.1", "h1:UOhJqkRINRODnKq24DoDAr4gxk2z2p9iFJWDT3OLBx8=",
		[]string{"examples/helloWorld", "examples/ldap/base", "examples/ldap/overlays/production",
			"examples/ldap/overlays/staging", "examples/multibases", "examples/multibases/base",
			"examples/multibases/dev", "examples/multibases/production", "examples/multibases/staging",
			"examples/wordpress/wordpress"},
		[]string{"examples/transformerconfigs/crd", "examples/wordpress", "examples/wordpress/mysql"},
	},
	{
		"github.com/stefanprodan/podinfo@v1.8.1-0.20250910200901-e86405a8674e",
		"h1:ikpMMm5HbQT/1DehrPM+Lpwk3WAw/1Hg540eR+jsXus=",
		[]string{"kustomize", "deploy/bases/backend", "deploy/bases/cache", "deploy/bases/frontend",
			"deploy/overlays/dev", "deploy/overlays/production", "deploy/overlays/staging"}, nil,
	},
	{
		"sigs.k8s.io/metrics-server@v0.9.0", "h1:nlqqZ2H0Xfko8eJC/1qaNVVT17hu4rxndkOi22KTZ4w=",
		[]string{"manifests/base", "manifests/overlays/release", "manifests/overlays/release-ha",
			"manifests/overlays/release-ha-1.21+", "manifests/overlays/test", "manifests/overlays/test-ha"}, nil,
	},
	{
		"sigs.k8s.io/kwok@v0.8.0", "h1:OTIOTwgROqPMovcTwxICx2eYQ4AwLpSx5EpjbDKF4SQ=",
		[]string{"kustomize/crd", "kustomize/kwok", "kustomize/rbac", "kustomize/stage/fast",
			"kustomize/stage/pod/general", "kustomize/metrics/usage"}, nil,
	},
	{
		"github.com/fluxcd/source-controller@v1.7.0", "h1:/fBgS4CSmT5Jj/fjQDF92y+pC3gst1GJjgNSzY8Ff9I=",
		[]string{"config/crd", "config/manager", "config/rbac"}, nil,
	},
}

// What people have is rendered as kustomize renders it, whole projects with bases, overlays and components among them.
func TestRealBases(t *testing.T) {
	t.Parallel()
	s := newSluice(t)
	rows := 0
	for _, p := range projects {
		dir := download(t, p)
		for _, folder := range p.folders {
			rows++
			version, from := fmt.Sprintf("1.0.%d", rows), filepath.Join(dir, folder)
			built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), from)
			if err != nil {
				t.Fatalf("%s, %s: kustomize itself: %v", p.module, folder, err)
			}
			want, err := built.AsYaml()
			if err != nil {
				t.Fatal(err)
			}
			if _, said, err := s.run("release", "cut", version, "--from", from, "--repo", s.repo); err != nil {
				t.Errorf("%s, %s: cut: %v: %s", p.module, folder, err, said)
				continue
			}
			got, said, err := s.run("render", version, "--repo", s.repo)
			if err != nil {
				t.Errorf("%s, %s: render: %v: %s", p.module, folder, err, said)
			} else if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s, %s: differs from kustomize:\n%s", p.module, folder, diff)
			}
		}
		for _, folder := range p.secrets {
			_, said, err := s.run("release", "cut", "2.0.0", "--from", filepath.Join(dir, folder), "--repo", s.repo)
			if err == nil || !strings.Contains(said, "is not encrypted") {
				t.Errorf("%s, %s: cut: %v: %s", p.module, folder, err, said)
			}
		}
	}
	if rows < 27 {
		t.Errorf("only %d folders were compared", rows)
	}
}

// download returns the folder of a project's module, whose bytes are as they were when its row was written.
func download(t *testing.T, p project) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", p.module)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	var found struct{ Dir, Sum string }
	if err := errors.Join(err, json.Unmarshal(out, &found)); err != nil {
		t.Fatalf("download %s: %v: %s", p.module, err, out)
	}
	if found.Sum != p.sum {
		t.Fatalf("%s has the sum %s, not %s", p.module, found.Sum, p.sum)
	}
	return found.Dir
}

// sluice is the binary, with a repository.
type sluice struct {
	binary, repo string
	env          []string
}

func newSluice(t *testing.T) sluice {
	t.Helper()
	dir := t.TempDir()
	s := sluice{binary: filepath.Join(dir, "sluice"), repo: filepath.Join(dir, "releases.git"),
		env: append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "GIT_AUTHOR_NAME=Kim",
			"GIT_AUTHOR_EMAIL=kim@example.com", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@example.com")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.binary, "github.com/sluice-cd/sluice/cmd/sluice")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build sluice: %v: %s", err, out)
	}
	if _, said, err := s.run("init", "--bare", s.repo); err != nil {
		t.Fatalf("init: %v: %s", err, said)
	}
	return s
}

func (s sluice) run(args ...string) (out, said string, err error) {
	cmd := exec.Command(s.binary, args...) //nolint:noctx // it ends by itself
	cmd.Env = s.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	return string(text), stderr.String(), err
}
