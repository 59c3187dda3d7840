package gitrepo

import (
	"errors"
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

// R47: an entry that git would never write can't be read, wherever it came from; the entries beside it can.
func TestFSReadsAroundHostileEntries(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	mustFetch(t, r)
	blob := objects.Make(objects.BlobKind, []byte("x"))
	line := func(mode, name string) string { return mode + " " + name + "\x00" + string(blob.ID[:]) }
	const fine = "fine.yaml"
	for name, test := range map[string]struct{ tree, odd, read string }{
		"absolute":         {line("100644", "/etc") + line("100644", fine), "/etc", fine},
		"path":             {line("100644", "a/b") + line("100644", fine), "a/b", fine},
		"backslash":        {line("100644", `a\b`) + line("100644", fine), `a\b`, fine},
		"dot git":          {line("100644", ".GIT") + line("100644", fine), ".GIT", fine},
		"dot dot":          {line("40000", "..") + line("100644", fine), "..", fine},
		"empty":            {line("100644", "") + line("100644", fine), "", fine},
		"not UTF-8":        {line("100644", "a\xff") + line("100644", fine), "a\xff", fine},
		"duplicate":        {line("100644", "a") + line("100644", "a") + line("100644", fine), "a", fine},
		"file + folder":    {line("100644", "a") + line("100644", "a.b") + line("40000", "a"), "a", "a.b"},
		"out of order":     {line("100644", fine) + line("100644", "a"), "", "a"},
		"twice, apart":     {line("100644", "a") + line("100644", fine) + line("100644", "a"), "a", fine},
		"mode 100000":      {line("100000", fine), "", fine},
		"mode with zeros":  {line("000100644", fine), "", fine},
		"link in the way":  {line("120000", "a") + line("100644", fine), "a", fine},
		"cut off":          {line("100644", "a")[:20], "a", ""},
		"no mode":          {line("", "a") + line("100644", fine), "a", ""},
		"letters for mode": {line("1o0644", "a") + line("100644", fine), "a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			bad := objects.Make(objects.TreeKind, []byte(test.tree))
			c := objects.Commit{Tree: bad.ID, Message: "hostile\n"}
			commit := objects.Make(objects.CommitKind, c.Encode())
			if err := r.store.Load().Write([]objects.NewObject{blob, bad, commit}); err != nil {
				t.Fatal(err)
			}
			files, err := r.FS(commit.ID.String())
			if err != nil {
				t.Fatal(err)
			}
			list, err := fs.ReadDir(files, ".")
			if (err == nil) != (test.read != "") {
				t.Fatalf("listed %v, %v", list, err)
			}
			for _, e := range list {
				if e.Name() == test.odd && (e.IsDir() || e.Type().IsRegular()) {
					t.Errorf("%q is listed as %v", e.Name(), e)
				}
			}
			if test.odd != "" {
				_, err := fs.ReadFile(files, test.odd)
				if err == nil || name != "path" && errors.Is(err, fs.ErrNotExist) {
					t.Errorf("read %q: %v", test.odd, err)
				}
			}
			if test.read != "" {
				if data, err := fs.ReadFile(files, test.read); err != nil || string(data) != "x" {
					t.Errorf("%q is %q, %v", test.read, data, err)
				}
			}
			changes, err := r.Changes(t.Context(), "", commit.ID.String())
			if err != nil || len(changes) != 1 || (len(changes[0].Unreadable) > 0) != (test.read == "") {
				t.Errorf("changes %+v, %v", changes, err)
			}
		})
	}
	if r.ReadErrors() != 0 || r.damaged.Load() {
		t.Error("taken for a damaged mirror")
	}
}
