package releases_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/releases"
)

// trickyFiles has the files that are easily packed wrongly: modes, an empty file, names that need a pax header, sorting
// around "/" and ".".
func trickyFiles() releases.Files {
	return releases.Files{
		"release.yaml":                       {Data: []byte("kind: Release\n"), Mode: 0o644},
		"run.sh":                             {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"a/b":                                {Data: []byte("1"), Mode: 0o644},
		"a.b":                                {Data: []byte("2"), Mode: 0o644},
		"a-b":                                {Data: bytes.Repeat([]byte("3"), 512), Mode: 0o644},
		"empty":                              {Mode: 0o644},
		"crlf.txt":                           {Data: []byte("a\r\nb\r\n$Id$\n"), Mode: 0o644},
		"überblick/größe.md":                 {Data: []byte("ü"), Mode: 0o644},
		strings.Repeat("long/", 25) + "name": {Data: []byte("far"), Mode: 0o644},
		strings.Repeat("n", 100):             {Data: []byte("100"), Mode: 0o644},
	}
}

func mapFS(dir string, files releases.Files) fstest.MapFS {
	m := fstest.MapFS{}
	for name, f := range files {
		m[path.Join(dir, name)] = &fstest.MapFile{Data: f.Data, Mode: f.Mode}
	}
	return m
}

func writeFolder(t testing.TB, dir string, files releases.Files) {
	t.Helper()
	for name, f := range files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, f.Data, f.Mode); err != nil {
			t.Fatal(err)
		}
	}
}

// The digest of a release is fixed for ever: if this test fails, the digest of every existing release changed.
func TestDigestNeverChanges(t *testing.T) {
	const want = "sha256:7e2af9ff7d6312b2abceab59650b135b571e5d629b3b3e40d5d8d0692ca18a90"
	got, err := releases.DigestOf(mapFS("releases/1.0.0", trickyFiles()), "releases/1.0.0")
	if err != nil || got != want {
		t.Errorf("digest %s, want %s (%v)", got, want, err)
	}
}

// Any tar program reads Pack's output.
func TestPackIsATar(t *testing.T) {
	var packed bytes.Buffer
	if err := releases.Pack(&packed, mapFS("r", trickyFiles()), "r"); err != nil {
		t.Fatal(err)
	}
	in, got := tar.NewReader(bytes.NewReader(packed.Bytes())), releases.Files{}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = releases.File{Data: data, Mode: fs.FileMode(h.Mode)}
		if h.Typeflag != tar.TypeReg || h.ModTime.Unix() != 0 || h.Uname != "" || h.Uid != 0 {
			t.Errorf("%+v", h)
		}
	}
	if diff := cmp.Diff(trickyFiles(), got, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Error(diff)
	}
	cmd := exec.Command("tar", "tf", "-")
	cmd.Stdin = &packed
	out, err := cmd.Output()
	if err != nil || strings.Count(string(out), "\n") != len(trickyFiles()) {
		t.Errorf("tar: %v\n%s", err, out)
	}
}

func git(t testing.TB, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("git %v: %v", args, err)
	}
	return out
}

// R23: a worktree, memory, and a checkout of the commit have one digest, even where git is set to change line ends.
func TestDigestIsTheSameFromGit(t *testing.T) {
	repo, out := t.TempDir(), t.TempDir()
	writeFolder(t, filepath.Join(repo, "releases", "1.0.0"), trickyFiles())
	writeFolder(t, repo,
		releases.Files{".gitattributes": {Data: []byte("* text=auto eol=lf\nreleases/** -text -filter -ident\n"),
			Mode: 0o644}})
	want, err := releases.DigestOf(mapFS("releases/1.0.0", trickyFiles()), "releases/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	check := func(where string, fsys fs.FS, dir string) {
		t.Helper()
		if got, err := releases.DigestOf(fsys, dir); got != want || err != nil {
			t.Errorf("%s: %s, want %s (%v)", where, got, want, err)
		}
	}
	check("the worktree", os.DirFS(repo), "releases/1.0.0")
	git(t, repo, "init", "-q")
	git(t, repo, "config", "core.autocrlf", "true")
	git(t, repo, "add", ".")
	git(t, repo, "commit", "-qm", "cut 1.0.0")
	if err := os.WriteFile(filepath.Join(out, "a.tar"), git(t, repo, "archive", "HEAD"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("tar", "xf", filepath.Join(out, "a.tar"), "-C", out).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, b)
	}
	check("git archive", os.DirFS(out), "releases/1.0.0")
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, repo, "clone", "-q", "--config", "core.autocrlf=true", repo, clone)
	check("a clone", os.DirFS(clone), "releases/1.0.0")
}

// R23: a release can't have a file that some clones would not reproduce.
func TestDigestRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		files fstest.MapFS
		want  string
	}{
		{"symlink", fstest.MapFS{"r/a": {Data: []byte("b"), Mode: fs.ModeSymlink | 0o777}}, "r/a: is a symbolic link"},
		{"submodule", fstest.MapFS{"r/a": {Mode: fs.ModeIrregular}}, "r/a: is not a file (perhaps a submodule)"},
		{"pipe", fstest.MapFS{"r/a": {Mode: fs.ModeNamedPipe}}, "r/a: is not a file (a pipe)"},
		{"device", fstest.MapFS{"r/a": {Mode: fs.ModeDevice}}, "r/a: is not a file (a device)"},
		{"attributes", fstest.MapFS{"r/sub/.gitattributes": {}},
			"r/sub/.gitattributes: a release can't have a .gitattributes"},
		{"attributes in capitals", fstest.MapFS{"r/.GitAttributes": {}},
			"r/.GitAttributes: a release can't have a .gitattributes"},
		{"git folder", fstest.MapFS{"r/sub/.git/config": {}}, "r/sub/.git: a release can't have anything named .git"},
		{"LFS pointer",
			fstest.MapFS{"r/model": {Data: []byte(
				"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")}},
			"r/model: is a Git LFS pointer"},
		{"case", fstest.MapFS{"r/Readme": {}, "r/readme": {}}, "differs from Readme only by case"},
		{"case of folders", fstest.MapFS{"r/A/x": {}, "r/a/y": {}}, "differs from A only by case"},
		{"Unicode form", fstest.MapFS{"r/gr\u00f6\u00dfe": {}, "r/gro\u0308\u00dfe": {}},
			"differs from gro\u0308\u00dfe only by case or Unicode form"},
		{"full case folding", fstest.MapFS{"r/STRASSE": {}, "r/stra\u00dfe": {}}, "differs from STRASSE only by case"},
		{"backslash", fstest.MapFS{`r/a\b`: {}}, `r/a\b: the name has a backslash`},
		{"control", fstest.MapFS{"r/a\nb": {}}, "control character"},
		{"not UTF-8", fstest.MapFS{"r/a\xff": {}}, "not a file name"},
		{"too deep", fstest.MapFS{path.Join("r", strings.Repeat("d/", 40), "f"): {}}, "more than 32 folders deep"},
		{"too large", fstest.MapFS{"r/f": {Data: make([]byte, 16<<20+1)}}, "r/f: it is larger than 16777216 bytes"},
		{"missing", fstest.MapFS{}, "r: can't be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := releases.DigestOf(test.files, "r")
			if err == nil || d != "" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q, %v: want %q", d, err, test.want)
			}
			if releases.Pack(io.Discard, test.files, "r") == nil {
				t.Error("was packed")
			}
		})
	}
}

// On disk, a symbolic link is recognised, and the size of a growing file is not trusted.
func TestDigestRefusesASymlinkOnDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := releases.DigestOf(os.DirFS(dir), "."); err == nil ||
		!strings.Contains(err.Error(), "link: is a symbolic link") {
		t.Error(err)
	}
}

// drawFiles draws the files of a valid release.
func drawFiles(t *rapid.T) releases.Files {
	element := rapid.StringMatching(`[a-z0-9.é-]{1,60}`).Filter(func(s string) bool {
		return s != "." && s != ".." && s != ".git" && s != ".gitattributes"
	})
	names := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(element, 1, 4).Draw(t, "elements"), "/")
	})
	files := releases.Files{}
	for _, name := range rapid.SliceOfN(names, 1, 8).Draw(t, "names") {
		taken := slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(other string) bool {
			return strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/")
		})
		if !taken {
			mode := rapid.SampledFrom([]fs.FileMode{0o644, 0o755}).Draw(t, "mode")
			files[name] = releases.File{Data: rapid.SliceOfN(rapid.Byte(), 0, 1100).Draw(t, "data"), Mode: mode}
		}
	}
	return files
}

// Unpack undoes Pack, and both return the same digest, wherever the files came from and in any order.
func TestPackUnpack(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		files := drawFiles(rt)
		var packed bytes.Buffer
		if err := releases.Pack(&packed, mapFS("r", files), "r"); err != nil {
			rt.Fatal(err)
		}
		want := releases.DigestBytes(packed.Bytes())
		if d, err := releases.DigestOf(mapFS(".", files), "."); d != want || err != nil {
			rt.Fatalf("DigestOf: %s, want %s (%v)", d, want, err)
		}
		n++
		sub := filepath.Join(dir, fmt.Sprint(n))
		writeFolder(t, sub, files)
		if d, err := releases.DigestOf(os.DirFS(sub), "."); d != want || err != nil {
			rt.Fatalf("on disk: %s, want %s (%v)", d, want, err)
		}
		got, d, err := releases.Unpack(bytes.NewReader(packed.Bytes()), releases.Limits{})
		if err != nil || d != want {
			rt.Fatalf("Unpack: %s, want %s (%v)", d, want, err)
		}
		if diff := cmp.Diff(files, got, cmp.Comparer(bytes.Equal)); diff != "" {
			rt.Fatal(diff)
		}
		var again bytes.Buffer
		if err := got.Pack(&again); err != nil || !bytes.Equal(again.Bytes(), packed.Bytes()) {
			rt.Fatalf("packed again, it differs: %v", err)
		}
	})
}

func BenchmarkDigestOf(b *testing.B) {
	for _, size := range []int{4 << 10, 40 << 10} {
		b.Run(fmt.Sprintf("30x%dKB", size>>10), func(b *testing.B) {
			files := releases.Files{}
			for i := range 30 {
				files[fmt.Sprintf("manifests/%02d.yaml", i)] = releases.File{Data: bytes.Repeat([]byte("x"), size),
					Mode: 0o644}
			}
			fsys := mapFS(".", files)
			b.SetBytes(int64(30 * size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := releases.DigestOf(fsys, "."); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
