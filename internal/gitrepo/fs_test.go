package gitrepo

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
)

// FS agrees with git ls-tree and git cat-file.
func TestFSIsWhatGitHas(t *testing.T) {
	bare, work := newSharedRepository(t)
	writeFiles(t, work, map[string]string{"releases/1.0.0/run.sh": "#!/bin/sh\n", "a.b": "1", "a/x": "2",
		"ä ö/\"q\".yaml": "3", "big.bin": strings.Repeat("0123456789abcdef", 20_000)})
	if err := os.Chmod(filepath.Join(work, "releases/1.0.0/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sluice.yaml", filepath.Join(work, "link")); err != nil {
		t.Fatal(err)
	}
	gitIn(t, work, "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",module")
	gitIn(t, work, "add", "a.b", "a", "ä ö", "big.bin", "releases", "link")
	gitIn(t, work, "commit", "-q", "-m", "all kinds")
	gitIn(t, work, "push", "-q", "origin", "main")

	for _, packed := range []bool{false, true} {
		t.Run(fmt.Sprintf("packed=%v", packed), func(t *testing.T) {
			r := openRepo(t, bare, nil)
			tip := mustFetch(t, r)
			if packed {
				gitIn(t, r.mirror.dir, "repack", "-adfq", "--depth=50")
			}
			compareWithGit(t, r, bare, tip)
		})
	}
}

func compareWithGit(t *testing.T, r *Repo, bare, commit string) {
	t.Helper()
	files, err := r.FS(commit)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode, kind := "", "blob"
		switch m := info.Mode(); {
		case m.IsDir():
			mode, kind = "040000", "tree"
		case m&fs.ModeSymlink != 0:
			mode = "120000"
		case m&fs.ModeIrregular != 0:
			mode, kind = "160000", "commit"
		default:
			mode = fmt.Sprintf("100%o", m.Perm())
		}
		got = append(got, fmt.Sprintf("%s %s %s\t%s", mode, kind, info.Sys(), path))
		if info.Mode().IsRegular() {
			data, err := fs.ReadFile(files, path)
			if err != nil {
				return err
			}
			if objects.Sum(objects.BlobKind, data).String() != info.Sys() || int64(len(data)) != info.Size() {
				t.Errorf("%s: %d bytes with another id than %v", path, len(data), info.Sys())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// git sorts folders as if their names ended in a slash: compare as sets.
	want := strings.Split(strings.TrimRight(gitIn(t, bare, "ls-tree", "-r", "-t", "-z", commit), "\x00"), "\x00")
	slices.Sort(got)
	slices.Sort(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFSKeepsTheContractOfFS(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	files, err := r.FS(mustFetch(t, r))
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(files, "sluice.yaml", "releases/1.0.0/deploy/app.yaml",
		"cells/acme/cell.yaml"); err != nil {
		t.Error(err)
	}
}

func TestFSRefusesLinksAndLargeFiles(t *testing.T) {
	bare, work := newSharedRepository(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(work, "link")); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, work, map[string]string{"large": strings.Repeat("x", 2000)})
	commitAll(t, work, "link")
	gitIn(t, work, "push", "-q", "origin", "main")
	r := openRepo(t, bare, func(o *Options) { o.Limits.File = 1000 })
	tip := mustFetch(t, r)
	for name, want := range map[string]string{"link": "symbolic link", "large": "too large", "releases": "is a folder",
		"none": "not exist", "sluice.yaml/x": "not exist", "../x": "invalid"} {
		if _, err := r.ReadFile(tip, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// A tree that git would never write can't be read through FS, wherever it came from.
func TestFSRefusesHostileTrees(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	mustFetch(t, r)
	blob := objects.Make(objects.BlobKind, []byte("x"))
	line := func(mode, name string) string { return mode + " " + name + "\x00" + string(blob.ID[:]) }
	for name, tree := range map[string]string{
		"absolute":      line("100644", "/etc"),
		"path":          line("100644", "a/b"),
		"dot git":       line("100644", ".GIT"),
		"dot dot":       line("40000", ".."),
		"empty":         line("100644", ""),
		"not UTF-8":     line("100644", "a\xff"),
		"duplicate":     line("100644", "a") + line("100644", "a"),
		"file + folder": line("100644", "a") + line("100644", "a.b") + line("40000", "a"),
		"out of order":  line("100644", "b") + line("100644", "a"),
		"mode":          line("100000", "a"),
		"cut off":       line("100644", "a")[:20],
	} {
		t.Run(name, func(t *testing.T) {
			bad := objects.Make(objects.TreeKind, []byte(tree))
			c := objects.Commit{Tree: bad.ID, Message: "hostile\n"}
			commit := objects.Make(objects.CommitKind, c.Encode())
			if err := r.store.Load().Write([]objects.NewObject{blob, bad, commit}); err != nil {
				t.Fatal(err)
			}
			files, err := r.FS(commit.ID.String())
			if err != nil {
				t.Fatal(err)
			}
			if list, err := fs.ReadDir(files, "."); err == nil {
				t.Errorf("listed: %v", list)
			}
		})
	}
}
