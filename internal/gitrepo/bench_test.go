package gitrepo

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/biggit"
)

// bigRepository returns a large repository of that shape, made once for all runs.
func bigRepository(b *testing.B, s biggit.Shape) string {
	b.Helper()
	root := filepath.Join(os.TempDir(), "sluice-bench")
	if err := os.MkdirAll(root, 0o755); err != nil {
		b.Fatal(err)
	}
	dir, err := biggit.CachedRepository(b.Context(), root, s)
	if err != nil {
		b.Fatal(err)
	}
	return dir
}

// copyRepository returns a copy of bigRepository's that may be pushed to.
func copyRepository(b *testing.B, s biggit.Shape) string {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "big.git")
	if err := os.CopyFS(dir, os.DirFS(bigRepository(b, s))); err != nil {
		b.Fatal(err)
	}
	return dir
}

var shapes = []struct {
	name  string
	shape biggit.Shape
}{{"5k", biggit.Standard}, {"50k", biggit.Long}}

func promotion(i int) releases.Draft {
	return draft(fmt.Sprintf("promote %d", i), map[string]string{
		"channels/channel-007/head.yaml":     fmt.Sprintf("release: 2026.1.%d\nsequence: %d\n", i, i),
		"channels/channel-007/decision.json": fmt.Sprintf("{\"now\": %d}\n", i),
	})
}

// cliCommit makes the commit of promotion(i) with as few git processes as it takes: two
// hash-object in one, one read-tree, one update-index, one write-tree, one commit-tree.
func cliCommit(b *testing.B, dir, index, base string, i int) string {
	d := promotion(i)
	var paths, files []string
	for name, data := range d.Files {
		file := filepath.Join(filepath.Dir(index), filepath.Base(name))
		if err := os.WriteFile(file, data, 0o644); err != nil {
			b.Fatal(err)
		}
		paths, files = append(paths, name), append(files, file)
	}
	env := append(ownGitEnv(dir), "GIT_INDEX_FILE="+index, "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@b")
	git := func(in string, args ...string) string {
		out, err := runGit(b.Context(), "git", env, strings.NewReader(in), args...)
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	var info strings.Builder
	for j, id := range strings.Fields(git("", append([]string{"hash-object", "-w", "--no-filters"}, files...)...)) {
		fmt.Fprintf(&info, "100644 %s\t%s\n", id, paths[j])
	}
	git("", "read-tree", base)
	git(info.String(), "update-index", "--index-info")
	return git("", "commit-tree", git("", "write-tree"), "-p", base, "-m", d.Message)
}

func BenchmarkBuild(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name+"/sluice", func(b *testing.B) {
			r := openRepo(b, copyRepository(b, s.shape), nil)
			base, err := objects.ParseID(mustFetch(b, r))
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if _, _, err := r.defaultCommitter().build(base, []releases.Draft{promotion(i)}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s.name+"/git", func(b *testing.B) {
			dir := copyRepository(b, s.shape)
			base := gitIn(b, dir, "rev-parse", "main")
			index := filepath.Join(b.TempDir(), "index")
			for i := 0; b.Loop(); i++ {
				cliCommit(b, dir, index, base, i)
			}
		})
	}
}

func BenchmarkBuildAndPush(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name+"/sluice", func(b *testing.B) {
			r := openRepo(b, copyRepository(b, s.shape), nil)
			base := mustFetch(b, r)
			for i := 0; b.Loop(); i++ {
				base = mustPush(b, r, base, promotion(i))[0]
			}
		})
		b.Run(s.name+"/git", func(b *testing.B) {
			dir := copyRepository(b, s.shape)
			clone := filepath.Join(b.TempDir(), "clone.git")
			gitIn(b, b.TempDir(), "clone", "-q", "--bare", "--no-hardlinks", dir, clone)
			base := gitIn(b, dir, "rev-parse", "main")
			index := filepath.Join(b.TempDir(), "index")
			env := append(hostGitEnv(), "GIT_DIR="+clone)
			for i := 0; b.Loop(); i++ {
				next := cliCommit(b, clone, index, base, i)
				if _, err := runGit(b.Context(), "git", env, nil, "push", "-q", "--force-with-lease=main:"+base,
					dir, next+":refs/heads/main"); err != nil {
					b.Fatal(err)
				}
				base = next
			}
		})
	}
}

// BenchmarkReadCold reads every cell.yaml and release.yaml of a packed repository that was just opened: a folder and a
// file each. git cat-file gets the files' ids as input, so half of the work is done for it.
func BenchmarkReadCold(b *testing.B) {
	dir := bigRepository(b, biggit.Fleet)
	mirror := openRepo(b, dir, nil)
	tip := mustFetch(b, mirror)
	want := []struct{ dir, file string }{{"cells", "cell.yaml"}, {"releases", "release.yaml"}}
	sluice := func(b *testing.B, parallel int) {
		for b.Loop() {
			if err := mirror.openStore(); err != nil {
				b.Fatal(err)
			}
			mirror.trees = objects.NewCache[objects.ID, []objects.Entry](treeCacheCost)
			files, err := mirror.FS(tip)
			if err != nil {
				b.Fatal(err)
			}
			for _, w := range want {
				list, err := fs.ReadDir(files, w.dir)
				if err != nil {
					b.Fatal(err)
				}
				var readers sync.WaitGroup
				for p := range parallel {
					readers.Go(func() {
						for _, d := range list[len(list)*p/parallel : len(list)*(p+1)/parallel] {
							if _, err := fs.ReadFile(files, w.dir+"/"+d.Name()+"/"+w.file); err != nil {
								b.Error(err)
							}
						}
					})
				}
				readers.Wait()
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/12000, "ns/file")
	}
	b.Run("sluice", func(b *testing.B) { sluice(b, 1) })
	b.Run("sluice-2", func(b *testing.B) { sluice(b, 2) })
	b.Run("go-git", func(b *testing.B) {
		for b.Loop() {
			st := filesystem.NewStorageWithOptions(osfs.New(mirror.mirror.dir), cache.NewObjectLRU(32*cache.MiByte),
				filesystem.Options{KeepDescriptors: true, ExclusiveAccess: true})
			c, err := object.GetCommit(st, plumbing.NewHash(tip))
			if err != nil {
				b.Fatal(err)
			}
			root, err := c.Tree()
			if err != nil {
				b.Fatal(err)
			}
			for _, w := range want {
				list, err := root.Tree(w.dir)
				if err != nil {
					b.Fatal(err)
				}
				for _, e := range list.Entries {
					sub, err := object.GetTree(st, e.Hash)
					if err != nil {
						b.Fatal(err)
					}
					f, err := sub.File(w.file)
					if err != nil {
						b.Fatal(err)
					}
					in, err := f.Reader()
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadAll(in); err != nil {
						b.Fatal(err)
					}
				}
			}
			_ = st.Close()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/12000, "ns/file")
	})
	b.Run("git-cat-file", func(b *testing.B) {
		files, err := mirror.FS(tip)
		if err != nil {
			b.Fatal(err)
		}
		var names strings.Builder // blobs by id: by path, git reads the folder of 10,000 cells for each
		for _, w := range want {
			list, err := fs.Glob(files, w.dir+"/*/"+w.file)
			if err != nil {
				b.Fatal(err)
			}
			for _, name := range list {
				info, err := fs.Stat(files, name)
				if err != nil {
					b.Fatal(err)
				}
				fmt.Fprintln(&names, info.Sys())
			}
		}
		for b.Loop() {
			cmd := gitCommand(b.Context(), "git", ownGitEnv(mirror.mirror.dir), "cat-file", "--batch", "--buffer")
			cmd.Stdin = strings.NewReader(names.String())
			if _, err := cmd.Output(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/12000, "ns/file")
	})
}

func BenchmarkChanges(b *testing.B) {
	for _, s := range append(shapes, struct {
		name  string
		shape biggit.Shape
	}{"5k+10k cells", biggit.Fleet}) {
		r := openRepo(b, bigRepository(b, s.shape), nil)
		tip := mustFetch(b, r)
		b.Run(s.name+"/all", func(b *testing.B) {
			for b.Loop() {
				if err := r.openStore(); err != nil {
					b.Fatal(err)
				}
				if list, err := r.Changes(context.Background(), "", tip); err != nil || len(list) < s.shape.Commits-1 {
					b.Fatal(len(list), err)
				}
			}
		})
		since := gitIn(b, r.mirror.dir, "rev-parse", "main~10")
		b.Run(s.name+"/10 new", func(b *testing.B) {
			for b.Loop() {
				if list, err := r.Changes(context.Background(), since, tip); err != nil || len(list) != 10 {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	dir := copyRepository(b, biggit.Standard)
	r, rival := openRepo(b, dir, nil), openRepo(b, dir, nil)
	mustFetch(b, r)
	b.Run("nothing new", func(b *testing.B) {
		for b.Loop() {
			mustFetch(b, r)
		}
	})
	b.Run("one commit", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			mustPush(b, rival, mustFetch(b, rival), promotion(i))
			b.StartTimer()
			mustFetch(b, r)
		}
	})
	b.Run("clone", func(b *testing.B) {
		for b.Loop() {
			mustFetch(b, openRepo(b, dir, nil))
		}
	})
}
