package manifest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// countingFS is a commit's files as gitrepo has them: Sys is the object's id. It counts reads.
type countingFS struct {
	fstest.MapFS
	opened map[string]int
}

func (c countingFS) Open(name string) (fs.File, error) {
	c.opened[name]++
	return c.MapFS.Open(name)
}

func (c countingFS) Stat(name string) (fs.FileInfo, error) { return c.MapFS.Stat(name) }

func newCountingFS(files map[string]string) countingFS {
	c := countingFS{fstest.MapFS{}, map[string]int{}}
	for name, content := range files {
		c.MapFS[name] = &fstest.MapFile{Data: []byte(content), Sys: "id of " + content}
	}
	return c
}

func TestLoad(t *testing.T) {
	files := newCountingFS(map[string]string{
		"good.yaml":  "kind: Example\ncount: 3\n",
		"bad.yaml":   "kind: Example\ncuont: 3\n",
		"warn.yaml":  "kind: Example\ncount: 2\n",
		"large.yaml": strings.Repeat("#", manifest.MaxFile+1),
	})
	check := func(d *manifest.Doc[example]) []manifest.Fault {
		d.Value.Hidden = "set by check"
		if d.Value.Count != 3 {
			return []manifest.Fault{d.Warning(manifest.WrongValue, "count", "count is not 3")}
		}
		return nil
	}
	load := func(file string) (*example, string) {
		v, faults := manifest.Load(nil, files, file, check)
		var words []string
		for _, f := range faults {
			words = append(words, f.String())
		}
		return v, strings.Join(words, "\n")
	}
	if v, why := load("good.yaml"); why != "" || v.Count != 3 || v.Hidden != "set by check" {
		t.Error(v, why)
	}
	if v, why := load("bad.yaml"); v != nil ||
		why != "bad.yaml:1: warning: count is not 3\nbad.yaml:2: unknown field \"cuont\"; did you mean \"count\"?" {
		t.Error(v, why)
	}
	if v, why := load("warn.yaml"); v == nil || why != "warn.yaml:2: warning: count is not 3" {
		t.Error(v, why)
	}
	if v, why := load("none.yaml"); v != nil || why != "" {
		t.Error("a missing file is the caller's to judge:", v, why)
	}
	if v, why := load("."); v != nil || why != ".: is not a regular file" {
		t.Error(v, why)
	}
	if _, why := load("large.yaml"); why != "large.yaml: is larger than 1048576 bytes" ||
		files.opened["large.yaml"] > 0 {
		t.Error(why, files.opened)
	}
}

// A second fault on a line that has one is dropped.
func TestLoadDropsWhatFollows(t *testing.T) {
	files := newCountingFS(map[string]string{"x.yaml": "kind: Example\ncount: many\nword: a\n"})
	_, faults := manifest.Load(nil, files, "x.yaml", func(d *manifest.Doc[example]) []manifest.Fault {
		return []manifest.Fault{d.Fault(manifest.WrongValue, "count", "count is 0"),
			d.Fault(manifest.WrongValue, "word", "not a"), {File: "y.yaml", Line: 2, Message: "elsewhere"}}
	})
	var got []string
	for _, f := range faults {
		got = append(got, f.String())
	}
	want := []string{`x.yaml:2: count must be a whole number, not the text "many"`, "x.yaml:3: not a",
		"y.yaml:2: elsewhere"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCacheReadsABlobOnce(t *testing.T) {
	files := newCountingFS(map[string]string{"a.yaml": "kind: Example\n", "b.yaml": "kind: Exemplar\n"})
	var c manifest.Cache
	var wait sync.WaitGroup
	first, _ := manifest.Load[example](&c, files, "a.yaml", nil)
	_, faults := manifest.Load[example](&c, files, "b.yaml", nil)
	opened := files.opened["a.yaml"] + files.opened["b.yaml"]
	for range 8 {
		wait.Go(func() {
			again, none := manifest.Load[example](&c, files, "a.yaml", nil)
			_, same := manifest.Load[example](&c, files, "b.yaml", nil)
			if again != first || len(none) > 0 || !cmp.Equal(faults, same) || len(same) != 1 {
				t.Error("not the cached result:", again, none, same)
			}
		})
	}
	wait.Wait()
	if got := files.opened["a.yaml"] + files.opened["b.yaml"]; got != opened {
		t.Errorf("read %d times more", got-opened)
	}
	if _, faults := manifest.Load[inner](&c, files, "a.yaml", nil); len(faults) == 0 {
		t.Error("another type took the first one's result")
	}
	files.MapFS["a.yaml"] = &fstest.MapFile{Data: []byte("kind: Example\ncount: 2\n"), Sys: "another id"}
	if v, _ := manifest.Load[example](&c, files, "a.yaml", nil); v.Count != 2 {
		t.Error("a changed blob was not read")
	}
}

func TestCacheWithoutIDs(t *testing.T) {
	dir := t.TempDir()
	var c manifest.Cache
	for _, count := range []string{"1", "2"} {
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("kind: Example\ncount: "+count+"\n"),
			0o600); err != nil {
			t.Fatal(err)
		}
		v, faults := manifest.Load[example](&c, os.DirFS(dir), "a.yaml", nil)
		if len(faults) > 0 || string(rune('0'+v.Count)) != count {
			t.Error(v, faults)
		}
	}
}

func TestCachedIsBounded(t *testing.T) {
	var c manifest.Cache
	calls := 0
	get := func(id string) int {
		return manifest.Cached(&c, "n", id, func() int { calls++; return calls })
	}
	hot := get("hot")
	for i := range 200_000 {
		get("id" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + string(rune(i+1000)))
		if i%10_000 == 0 && get("hot") != hot {
			t.Fatal("what is used again and again was forgotten")
		}
	}
	if n := c.Len(); n > 1<<17 {
		t.Errorf("keeps %d results", n)
	}
	if manifest.Cached(nil, "n", "id", func() int { return 7 }) != 7 {
		t.Error("a nil cache does not call")
	}
	if first := get(""); first == get("") {
		t.Error("an empty id was cached")
	}
}
