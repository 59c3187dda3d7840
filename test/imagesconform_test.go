package test

import (
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refusedByDesign are the pulls that the distribution specification knows and that are not here, since they are by tag:
// docs/images.md lists them.
var refusedByDesign = []string{
	"OCI Conformance Test/read-only/head/manifest-head-by-tag",
	"OCI Conformance Test/read-only/pull/manifest-by-tag",
	"OCI Conformance Test/read-only/tag-list",
}

// The OCI's own suite pulls an image, an index, an index of an index and an empty layer through an agent. All of the
// distribution specification's pull part passes, but for what is refused by design.
func TestPullsConform(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	host := strings.TrimPrefix(upstream.URL, "http://")
	root, manifests, blobs := pushNested(t, host+"/team/app")
	w, local := startImageWorld(t, host)
	w.cutRelease("1.0.0", host+"/team/app@"+root)
	w.awaitRelease("eu-1", "1.0.0")

	got, report := runConformance(t, "OCI_REGISTRY="+local, "OCI_REPO1=team/app", "OCI_RO_DATA_TAGS=latest",
		"OCI_RO_DATA_MANIFESTS="+strings.Join(manifests, " "), "OCI_RO_DATA_BLOBS="+strings.Join(blobs, " "),
		"OCI_RO_DATA_REFERRERS="+manifests[0])
	passed := 0
	for _, test := range slices.Sorted(maps.Keys(got)) {
		for _, status := range got[test] {
			switch wanted := slices.Contains(refusedByDesign, test); {
			case status == "Pass" && !wanted:
				passed++
			case status == "FAIL" && wanted, status == "Disabled" && !wanted:
			default:
				t.Errorf("%s: %s", test, status)
			}
		}
	}
	if want := 2 * (len(manifests) + len(blobs)); passed < want {
		t.Errorf("%d tests passed, which is fewer than HEAD and GET of all content: %d", passed, want)
	}
	for _, test := range refusedByDesign {
		if got[test] == nil {
			t.Errorf("%s is not in the suite any more", test)
		}
	}
	if t.Failed() {
		t.Log(report)
	}
	t.Logf("%d tests passed", passed)
}

// A line of the suite's report, which has a test's name and its status.
var conformanceLine = regexp.MustCompile(`(?m)^ *(OCI Conformance Test/.+): (Pass|FAIL|Skip|Disabled|Error)$`)

// runConformance builds and runs the suite against a registry that takes no uploads. It returns the statuses
// of each test that has no others below, and the printed report, since the suite's files can't be written for such a
// registry: it ends with a fault of its own there.
func runConformance(t *testing.T, environment ...string) (got map[string][]string, report string) {
	t.Helper()
	dir := t.TempDir()
	suite := filepath.Join(dir, "conformance")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "distribution", "-o", suite,
		"github.com/opencontainers/distribution-spec/conformance")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the suite: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), suite)
	run.Env = append(os.Environ(), append(environment, "OCI_VERSION=1.1", "OCI_TLS=disabled", "OCI_RESULTS_DIR="+dir,
		"OCI_LOG=error", "OCI_API_PUSH=false", "OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false",
		"OCI_API_TAGS_DELETE=false", "OCI_API_BLOBS_DIGEST_HEADER=true")...)
	run.Dir = dir
	out, _ := run.CombinedOutput() // it fails for what is refused by design
	got = map[string][]string{}
	for _, m := range conformanceLine.FindAllStringSubmatch(string(out), -1) {
		got[m[1]] = append(got[m[1]], m[2])
	}
	for test := range maps.Clone(got) {
		delete(got, test[:strings.LastIndex(test, "/")]) // it is as its worst test
	}
	return got, string(out)
}

// pushNested pushes an index of an image, of an image with an empty layer, and of an index of two images. It returns
// the digests of all manifests, and of all blobs.
func pushNested(t *testing.T, repository string) (root string, manifests, blobs []string) {
	t.Helper()
	image, err := random.Image(100_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := mutate.AppendLayers(image, static.NewLayer(nil, types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	inner, err := random.Index(1000, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	all := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image}, mutate.IndexAddendum{Add: bare},
		mutate.IndexAddendum{Add: inner})
	to, err := name.NewTag(repository+":latest", name.Insecure)
	if err == nil {
		err = remote.WriteIndex(to, all)
	}
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	add := func(list *[]string, d v1.Hash) {
		if !found[d.String()] {
			found[d.String()] = true
			*list = append(*list, d.String())
		}
	}
	var walk func(v1.ImageIndex)
	walk = func(index v1.ImageIndex) {
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		add(&manifests, digest)
		m, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range m.Manifests {
			add(&manifests, d.Digest)
			if below, err := index.ImageIndex(d.Digest); d.MediaType.IsIndex() && err == nil {
				walk(below)
			} else if below, err := index.Image(d.Digest); err == nil {
				im, err := below.Manifest()
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range append(im.Layers, im.Config) {
					add(&blobs, l.Digest)
				}
			}
		}
	}
	walk(all)
	return manifests[0], manifests, blobs
}
