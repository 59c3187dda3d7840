package render

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/child"
)

// newRenderer returns a renderer with the release on its disk and no source to fetch from.
func newRenderer(t testing.TB, files map[string]string) (*Renderer, *cells.Assignment) {
	t.Helper()
	dir := t.TempDir()
	self, err := child.Program()
	if err != nil {
		t.Fatal(err)
	}
	tar := agenttest.Pack(t, files)
	a := &cells.Assignment{Epoch: 1, Sequence: 1, Release: "1.0.0", Digest: releases.DigestBytes(tar)}
	kept := filepath.Join(dir, "releases")
	out := &Renderer{
		command: agenttest.RenderCommand(self), dir: filepath.Join(dir, "rendered"), temp: filepath.Join(dir, "work"),
		version: "test", limits: Limits{}.withDefaults(), releases: content.NewCache(kept, emptySource{}, 64<<20),
	}
	for _, d := range []string{kept, out.dir, out.temp} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(kept, a.Digest.Hex()+".tar"), tar, 0o600); err != nil {
		t.Fatal(err)
	}
	return out, a
}

// emptySource has no content.
type emptySource struct{}

func (emptySource) OpenContent(context.Context, content.Kind, releases.Digest, int64) (content.Stream, error) {
	return nil, errors.New("nobody is there")
}

// Fault 30: references outside the release are refused with file and line; nobody is dialled, nothing is executed.
func TestRenderReachesNothingOutside(t *testing.T) {
	dials := make(chan string, 100)
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		dials <- r.URL.String()
	}))
	t.Cleanup(web.Close)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	go func() {
		for {
			c, err := raw.Accept()
			if err != nil {
				return
			}
			dials <- "a connection"
			_ = c.Close()
		}
	}()
	bin, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	for _, program := range []string{"git", "helm", "docker", "sh", "kustomize", "evil"} {
		must(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\necho $0 >>"+ran+"\n"),
			0o755)) //nolint:gosec // a program
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	git := "git://" + raw.Addr().String() + "/x"
	for name, kustomization := range map[string]string{
		"http file":        "resources:\n- " + web.URL + "/base.yaml\n",
		"git over http":    "resources:\n- " + web.URL + "/repo.git//base?ref=main\n",
		"git":              "resources:\n- " + git + "\n",
		"git, ssh form":    "resources:\n- git@127.0.0.1:x/y\n",
		"github":           "resources:\n- github.com/kubernetes-sigs/kustomize/examples/helloWorld?ref=v1\n",
		"base":             "bases:\n- " + git + "\n",
		"component":        "components:\n- " + web.URL + "/c.git\n",
		"patch":            "patches:\n- path: " + web.URL + "/p.yaml\n",
		"generator":        "configMapGenerator:\n- name: x\n  files: [" + web.URL + "/f]\n",
		"openapi":          "openapi:\n  path: " + web.URL + "/schema.json\n",
		"helm":             "helmCharts:\n- {name: x, repo: " + web.URL + "}\n",
		"exec plugin":      "transformers:\n- exec.yaml\n",
		"container plugin": "generators:\n- container.yaml\n",
		"crd":              "crds:\n- " + web.URL + "/crd.json\n",
		"outside":          "resources:\n- ../../../etc\n",
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{
				"release.yaml":       "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n",
				"kustomization.yaml": kustomization,
				"exec.yaml": "apiVersion: x/v1\nkind: Evil\nmetadata:\n  name: x\n  annotations:\n" +
					"    config.kubernetes.io/function: |\n      exec: {path: " + bin + "/evil}\n",
				"container.yaml": "apiVersion: x/v1\nkind: Evil\nmetadata:\n  name: x\n  annotations:\n" +
					"    config.kubernetes.io/function: |\n      container: {image: evil}\n",
			}
			// In this process, with the network and the PATH, the scan alone must hold.
			tar := agenttest.Pack(t, files)
			q := request{Digest: releases.DigestBytes(tar)}
			if _, _, err := q.render(bytes.NewReader(tar)); err == nil ||
				!strings.HasPrefix(err.Error(), "kustomization.yaml:") &&
					!strings.HasPrefix(err.Error(), "exec.yaml:") &&
					!strings.HasPrefix(err.Error(), "container.yaml:") {
				t.Errorf("got %v, want a refusal with file and line", err)
			}
		})
	}
	for name, reach := range map[string]func() error{ // without the scan, the child alone must hold
		"kustomize, http": func() error { return buildInChild(t, "resources:\n- "+web.URL+"/base.yaml\n") },
		"kustomize, git":  func() error { return buildInChild(t, "resources:\n- "+git+"\n") },
	} {
		if err := reach(); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	if len(dials) > 0 {
		t.Errorf("dialled: %s", <-dials)
	}
	if text, err := os.ReadFile(ran); err == nil {
		t.Errorf("executed: %s", text)
	}
}

// buildInChild builds a kustomization in a child without the scan.
func buildInChild(t *testing.T, kustomization string) error {
	t.Helper()
	self, err := child.Program()
	must(t, err)
	said := process.NewTail(1 << 10)
	err = process.Child{
		Args: []string{self, "build"}, Dir: t.TempDir(), Stdin: strings.NewReader(kustomization), Stdout: said,
		Stderr: said,
	}.Run(t.Context())
	t.Logf("%v: %s", err, said.Bytes())
	return err
}

// Fault 29 and others: a release that can't be rendered is an error with a reason, within the limits.
func TestRenderRefuses(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for _, c := range "bcdefghij" {
		bomb += string(c) + ": &" + string(c) + " [" +
			strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ",") + "]\n"
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no release.yaml": {map[string]string{"release.yaml": ""}, "release.yaml"},
		"unknown field": {map[string]string{
			"release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\ncolour: red\n"}, "release.yaml:4: "},
		"no kustomization": {map[string]string{"kustomization.yaml": "resources: [nowhere.yaml]\n"},
			"kustomization.yaml:1: "},
		"broken manifest":       {map[string]string{"base/app.yaml": "kind: ConfigMap\n"}, "kustomize build .: "},
		"YAML bomb":             {map[string]string{"base/app.yaml": bomb}, "base/app.yaml:6: "},
		"self-reference":        {map[string]string{"base/app.yaml": "kind: X\na: &a [*a]\n"}, "base/app.yaml:2: "},
		"bomb in kustomization": {map[string]string{"base/kustomization.yaml": bomb}, "base/kustomization.yaml"},
		"no such profile":       {nil, `no profile "large"`},
	} {
		t.Run(name, func(t *testing.T) {
			r, a := newRenderer(t, agenttest.Release("1.0.0", c.files))
			if c.files == nil {
				a.Profile = "large"
			}
			_, err := r.Render(t.Context(), a)
			var refused *renderError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A render has limits of time, memory and output.
func TestRenderIsBounded(t *testing.T) {
	huge := map[string]string{"base/app.yaml": ""}
	var all strings.Builder
	for range 20_000 {
		all.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a}\ndata: {a: b}\n---\n")
	}
	for name, c := range map[string]struct {
		limits Limits
		files  map[string]string
		want   string
		cause  cells.Cause
	}{
		"time":   {Limits{Time: time.Millisecond}, nil, "not finished after 1ms", cells.CauseCell}, // R49
		"output": {Limits{Output: 300}, nil, "more than 300 bytes of manifests", cells.CauseRelease},
		"memory": {Limits{Memory: 40 << 20}, huge, "limits: 1m0s and 40 MiB", cells.CauseUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			if c.files != nil {
				c.files["base/app.yaml"] = strings.ReplaceAll(all.String(), "generateName: a", "name: a")
			}
			r, a := newRenderer(t, agenttest.Release("1.0.0", c.files))
			r.limits = c.limits.withDefaults()
			_, err := r.Render(t.Context(), a)
			if err == nil || !strings.Contains(err.Error(), c.want) || cells.CauseOf(err) != c.cause {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// R49: a child that the machine keeps from running says nothing of the release; one that breaks by itself may.
func TestR49RendererThatTheMachineStops(t *testing.T) {
	for script, want := range map[string]cells.Cause{
		"echo limit the render: no /proc >&2; exit 71":                                          cells.CauseCell,
		"echo 'runtime: failed to create new OS thread (have 2 already; errno=11)' >&2; exit 2": cells.CauseCell,
		"kill -9 $$": cells.CauseCell,
		"echo 'fatal error: runtime: out of memory' >&2; exit 2": cells.CauseUnknown,
	} {
		r, a := newRenderer(t, agenttest.Release("1.0.0", nil))
		r.command = []string{"/bin/sh", "-c", "cat >/dev/null; " + script}
		_, err := r.Render(t.Context(), a)
		if unavailable := errors.As(err, new(*cells.UnavailableError)); unavailable != (want == cells.CauseCell) ||
			cells.CauseOf(err) != want {
			t.Errorf("%s: %v (%s)", script, err, cells.CauseOf(err))
		}
	}
}

// A rendered assignment is cached, and everything that the result depends on is part of the cache's key.
func TestRenderedOnceIsKept(t *testing.T) {
	r, a := newRenderer(t, agenttest.ReleaseWithFeatures("1.0.0", "classes", "bulk"))
	first, err := r.Render(t.Context(), a)
	must(t, err)
	r.command = []string{"/bin/false"} // no child can run any more
	again, err := r.Render(t.Context(), a)
	must(t, err)
	for name, content := range first.Files {
		if !bytes.Equal(again.Files[name], content) {
			t.Errorf("%s: %q, and then %q", name, content, again.Files[name])
		}
	}
	if want := []string{"bulk", "classes"}; !slices.Equal(first.Features, want) || !slices.Equal(again.Features, want) {
		t.Errorf("features: %v, and then %v", first.Features, again.Features)
	}
	if len(first.Files) != 3 || len(again.Files) != 3 {
		t.Errorf("files: %d, and then %d", len(first.Files), len(again.Files))
	}
	other := *a
	other.Values = map[string]any{"colour": "green"}
	if _, err := r.Render(t.Context(), &other); err == nil {
		t.Error("other values came to the same")
	}
	r.version = "other"
	if _, err := r.Render(t.Context(), a); err == nil {
		t.Error("another renderer came to the same")
	}
}

// Objects that would share a file name get two; characters that file systems dislike are replaced.
func TestFileNames(t *testing.T) {
	for want, parts := range map[string][]string{
		"clusterrole-system_node.yaml": {"ClusterRole", "", "system:node"},
		"configmap-a-b.yaml":           {"ConfigMap", "a", "b"},
		"secret-_.._.._etc.yaml":       {"Secret", "", "/../../etc"},
	} {
		if got := fileName(parts); got != want {
			t.Errorf("%v: %s, want %s", parts, got, want)
		}
	}
	r, a := newRenderer(t, map[string]string{
		"release.yaml":       "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n",
		"kustomization.yaml": "resources: [a.yaml]\n",
		"a.yaml": "apiVersion: one/v1\nkind: Thing\nmetadata: {name: x}\n---\n" +
			"apiVersion: two/v1\nkind: Thing\nmetadata: {name: x}\n",
	})
	made, err := r.Render(t.Context(), a)
	must(t, err)
	for _, name := range []string{"thing-x.yaml", "thing-x-2.yaml", "manifests.yaml"} {
		if len(made.Files[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
}

// However long and alike names are, the render ends, and each object gets a file of its own: the same in each render,
// with a name that file systems take.
func TestLongNamesGetFilesOfTheirOwn(t *testing.T) {
	long := strings.Repeat("a", 240)
	for name, objects := range map[string][][2]string{ // namespace and name
		"alike in the first 200 bytes": {{"", long + "1"}, {"", long + "2"}},
		"alike but for the namespace":  {{long + "1", "x"}, {long + "2", "x"}},
		"alike once characters go":     {{"", "a:b"}, {"", "a_b"}, {"", "a+b"}},
		"long and alike in all":        {{"", long + ":b"}, {"", long + "_b"}},
		"just at the limit":            {{"", long[:190]}, {"", long[:191]}, {"", long[:189]}},
	} {
		manifests := ""
		for i, o := range objects {
			manifests += fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: %q, name: %q}\n"+
				"data: {i: \"%d\"}\n", o[0], o[1], i)
		}
		var names []string
		for range 2 {
			r, a := newRenderer(t, map[string]string{
				"release.yaml":       "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n",
				"kustomization.yaml": "resources: [a.yaml]\n",
				"a.yaml":             manifests,
			})
			made, err := r.Render(t.Context(), a)
			must(t, err)
			if len(made.Files) != len(objects)+1 || len(made.Objects) != len(objects) {
				t.Errorf("%s: %d files, %+v", name, len(made.Files), made.Objects)
			}
			for file := range made.Files {
				if len(file) > 255 {
					t.Errorf("%s: a name of %d bytes", name, len(file))
				}
			}
			now := slices.Sorted(maps.Keys(made.Files))
			if names != nil && !slices.Equal(names, now) {
				t.Errorf("%s: %v, and then %v", name, names, now)
			}
			names = now
		}
	}
}

// The child's output is validated.
func TestChildsAnswerIsChecked(t *testing.T) {
	for name, output := range map[string]string{
		"nothing": "", "no line": "{}", "not JSON": "hello\n", "too long": `{"objects":[{"name":"a","size":9}]}` +
			"\nabc", "negative": `{"objects":[{"name":"a","size":-1}]}` + "\nabc",
	} {
		if _, err := splitOutput(&cells.Assignment{}, []byte(output)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, input := range []string{"", "{", "not json\n", `{"memory":1}` + strings.Repeat(" ", maxHeader) + "\n"} {
		var why bytes.Buffer
		if code := Main(strings.NewReader(input), &bytes.Buffer{}, &why); code != 2 || why.Len() == 0 {
			t.Errorf("%.20q: ended with %d, and says %q", input, code, &why)
		}
	}
}

func FuzzSplit(f *testing.F) {
	head, _ := json.Marshal(response{Objects: []object{{Name: "a.yaml", Size: 3}, {Name: "b.yaml", Size: 2}}})
	f.Add([]byte(string(head) + "\nabcde"))
	f.Fuzz(func(t *testing.T, output []byte) {
		m, err := splitOutput(&cells.Assignment{}, output)
		if err == nil && (m.Files[ManifestsFile] == nil || m.Features == nil) {
			t.Error("no stream")
		}
	})
}

// A cached render takes at most a millisecond (make bench).
func BenchmarkRenderSeenBefore(b *testing.B) {
	r, a := newRenderer(b, agenttest.Release("1.0.0", nil))
	if _, err := r.Render(b.Context(), a); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.Render(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	r, a := newRenderer(b, agenttest.Release("1.0.0", nil))
	for i := 0; b.Loop(); i++ {
		r.version = time.Now().String()
		if _, err := r.Render(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
}
