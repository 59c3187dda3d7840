package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/internal/reason"
)

// largeReleases pushes n releases of 48 MiB each, that git keeps once, with faults: none of them can be promoted.
func largeReleases(t *testing.T, w *world, n int) {
	t.Helper()
	o := openOddRepository(t, w.repo)
	zeros := o.blob(strings.Repeat("\x00", 16<<20-1))
	o.moveTo(func(tip, tree objects.ID) objects.ID {
		for i := range n {
			version := fmt.Sprintf("2.%d.0", i)
			for name, data := range releaseFiles(version) {
				odd := strings.Replace(string(data), "kind: Release", "kind: Release\nodd: 1", 1)
				tree = o.put(tree, name, o.blob(odd))
			}
			for _, name := range []string{"a", "b", "c"} {
				tree = o.put(tree, "releases/"+version+"/"+name, zeros)
			}
		}
		return o.rawCommit(tree, []objects.ID{tip}, ordinary)
	})
}

func countUnread(d *plan.Desired) (n int) {
	for _, r := range d.Releases {
		if r.Unread {
			n++
		}
	}
	return n
}

// R48: what was pushed together is read within a budget, the greatest version first, and says so; digests are kept
// across restarts, so that the next process goes on where this one ended.
func TestLargeReleasesAreReadWithinABudget(t *testing.T) {
	w := newWorld(t, nil)
	largeReleases(t, w, 12)
	repo, err := gitrepo.Open(t.Context(), w.repo, gitrepo.Options{Mirror: w.path("mirror")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = repo.Close() })
	tip, err := repo.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := 12
	for range 4 {
		l := engine.Loader{Repo: repo, CacheFile: filepath.Join(w.dir, "cache")} // as after a restart
		d, err := l.Load(t.Context(), tip)
		if err != nil {
			t.Fatal(err)
		}
		left := countUnread(d)
		if left >= before || left > 0 && d.Releases["2.11.0"].Unread {
			t.Fatalf("%d are unread, of %d before; the greatest: %v", left, before, d.Releases["2.11.0"].Unread)
		}
		told := 0
		for _, v := range plan.Make(d, &plan.Observed{}, time.Now()).Blocked {
			if v.Code == reason.BeingRead && v.Channel == "staging" {
				told++
			}
		}
		if want := min(left, 1); told != want {
			t.Errorf("%d verdicts that a release is being read, with %d unread", told, left)
		}
		if before = left; left == 0 {
			return
		}
	}
	t.Errorf("still %d are unread", before)
}

// R48: beside the hashing of large releases another release is promoted, and in the end all are read.
func TestPromotionDoesNotWaitForHashing(t *testing.T) {
	w := newWorld(t, func(files map[string]string) { // a channel without a head: every release may matter
		files["channels/dedicated/channel.yaml"] += "promote: manual\n"
	})
	w.addAgent("eu-1")
	w.startAll()
	w.awaitFirstRead()
	largeReleases(t, w, 12)
	w.cutRelease("3.0.0", "small")
	w.awaitRelease("eu-1", "3.0.0")
	w.eventually(func() (string, bool) {
		faults := fmt.Sprint(w.status().Faults)
		return "2.0.0 is not read: " + faults, strings.Contains(faults, "releases/2.0.0/release.yaml")
	})
}

// What a Loader of all releases saved leads to the same Desired, with faults and parameters, and also for a release
// that came since. A damaged file does no harm.
func TestReleasesAreCachedAcrossProcesses(t *testing.T) {
	w := newWorld(t, nil)
	cut := func(versions ...string) {
		o := openOddRepository(t, w.repo)
		o.moveTo(func(tip, tree objects.ID) objects.ID {
			for i, version := range versions {
				for name, data := range releaseFiles(version) {
					text := string(data)
					if path.Base(name) == "release.yaml" && i%2 == 0 {
						text += "parameters: {size: {type: string, pattern: \"[a-z]+\", default: 7}}\n"
					}
					tree = o.put(tree, name, o.blob(text))
				}
			}
			return o.rawCommit(tree, []objects.ID{tip}, ordinary)
		})
	}
	var versions []string
	for i := range 70 {
		versions = append(versions, fmt.Sprintf("2.0.%d", i))
	}
	cut(versions...)
	repo, err := gitrepo.Open(t.Context(), w.repo, gitrepo.Options{Mirror: w.path("mirror")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = repo.Close() })
	load := func(cacheFile string) string {
		t.Helper()
		tip, err := repo.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l := engine.Loader{Repo: repo, CacheFile: cacheFile, AllReleases: true}
		d, err := l.Load(t.Context(), tip)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	file := w.path("cache")
	want := load("")
	load(file)
	whole, err := os.ReadFile(file + ".releases")
	if err != nil {
		t.Fatal(err)
	}
	if got := load(file); got != want || !strings.Contains(want, "size") {
		t.Fatalf("from what was saved:\n%s\nwant\n%s", got, want)
	}
	cut("2.1.0")
	want = load("")
	if got := load(file); got != want {
		t.Errorf("one release later:\n%s\nwant\n%s", got, want)
	}
	whole[len(whole)/2] ^= 1
	if err := os.WriteFile(file+".releases", whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := load(file); got != want {
		t.Errorf("from a damaged file:\n%s\nwant\n%s", got, want)
	}
}
