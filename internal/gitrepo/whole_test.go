package gitrepo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// removeObject removes an object of a repository whose objects it unpacks first.
func removeObject(t *testing.T, dir, rev string) {
	t.Helper()
	id := gitIn(t, dir, "rev-parse", rev)
	objects := filepath.Join(dir, gitIn(t, dir, "rev-parse", "--git-path", "objects"))
	packs, err := filepath.Glob(filepath.Join(objects, "pack", "*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pack := range packs {
		data, err := os.ReadFile(pack)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{".pack", ".idx", ".rev"} {
			_ = os.Remove(strings.TrimSuffix(pack, ".pack") + kind) // .rev is not always there
		}
		if _, err := tryGit(dir, data, "unpack-objects", "-q"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(objects, id[:2], id[2:])); err != nil {
		t.Fatal(err)
	}
}

// R47: a repository that is not whole is said to be that, with what is missing and what to do; so is a linked worktree
// of one. A whole one is read, whatever kind of clone it is.
func TestR47ClonesThatAreNotWhole(t *testing.T) {
	t.Parallel()
	bare, work := newSharedRepository(t)
	writeFiles(t, work, map[string]string{"channels/x/channel.yaml": "a: 1\n", "releases/1.0.0/app.yaml": "x\n"})
	commitAll(t, work, "one")
	writeFiles(t, work, map[string]string{"channels/x/channel.yaml": "a: 2\n"})
	tip := commitAll(t, work, "two")
	gitIn(t, work, "push", "-q", bare, "HEAD:main")
	gitIn(t, bare, "config", "uploadpack.allowFilter", "true")
	clone := func(name string, args ...string) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), name)
		gitIn(t, work, append(append([]string{"clone", "-q"}, args...), "file://"+bare, dir)...)
		return dir
	}
	linked := func(of string) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "linked")
		gitIn(t, of, "worktree", "add", "-q", "--no-checkout", "--detach", dir)
		return dir
	}
	lacks := func(of, rev string) string { removeObject(t, of, rev); return of }
	borrows := func(args ...string) string {
		t.Helper()
		from, dir := clone("from", "--bare"), filepath.Join(t.TempDir(), "borrows")
		gitIn(t, work, append(append([]string{"clone", "-q", "--shared"}, args...), from, dir)...)
		if err := os.Rename(from, from+".moved"); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	mended := clone("mended", "--depth=1")
	gitIn(t, mended, "fetch", "-q", "--unshallow")
	filled := clone("filled", "--filter=blob:none")
	gitIn(t, filled, "-c", "protocol.file.allow=always", "rev-list", "--objects", "--quiet", "HEAD")
	if _, err := tryGit(filled, nil, "log", "-p", "--format="); err != nil { // which fetches every blob
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dir, want string }{
		"without blobs":                   {clone("p", "--filter=blob:none"), "partial clone"},
		"without trees":                   {clone("p", "--filter=tree:0", "--no-checkout"), "partial clone"},
		"without blobs, bare":             {clone("p", "--bare", "--filter=blob:none"), "partial clone"},
		"a worktree of one without blobs": {linked(clone("p", "--filter=blob:none")), "partial clone"},
		"shallow":                         {clone("s", "--depth=1"), "shallow clone"},
		"shallow and bare":                {clone("s", "--depth=1", "--bare"), "shallow clone"},
		"a worktree of a shallow one":     {linked(clone("s", "--depth=1")), "shallow clone"},
		"shallow and partial":             {clone("b", "--depth=1", "--filter=blob:none"), "shallow clone"},
		"it borrowed objects":             {borrows(), "borrows objects from"},
		"it borrowed objects, bare":       {borrows("--bare"), "borrows objects from"},
		"a blob of the tip is missing":    {lacks(clone("m"), "HEAD:channels/x/channel.yaml"), "it lacks objects"},
		"a blob of the past is missing": {lacks(clone("m", "--bare"), "HEAD~1:channels/x/channel.yaml"),
			"it lacks objects"},
		"a tree is missing":                  {lacks(clone("m"), "HEAD:channels"), "it lacks objects"},
		"a commit of the past is missing":    {lacks(clone("m"), "HEAD~1"), "it lacks objects"},
		"the tip is missing":                 {lacks(clone("m", "--bare"), "HEAD"), "it lacks objects"},
		"whole":                              {clone("w"), ""},
		"a worktree of a whole one":          {linked(clone("w")), ""},
		"it was shallow":                     {mended, ""},
		"it was partial, and has everything": {filled, ""},
		"it borrows what is there":           {clone("r", "--reference", bare), ""},
	} {
		r := openRepo(t, c.dir, nil)
		got, err := r.Fetch(t.Context())
		if err == nil {
			_, err = r.Changes(t.Context(), "", got)
		}
		lack := new(IncompleteError)
		switch {
		case c.want == "" && (err != nil || got != tip):
			t.Errorf("%s: read %s: %v, want %s", name, got, err, tip)
		case c.want == "":
		case !errors.As(err, &lack) || !strings.Contains(err.Error(), c.want) || lack.Remedy == "":
			t.Errorf("%s: %v, want an error about %q", name, err, c.want)
		}
	}
}

// R47: a source that became shallow since is read on, from a mirror that has its history; one that could never be read
// whole leaves nothing behind that keeps it from being read once it is.
func TestR47ShallowForAWhile(t *testing.T) {
	t.Parallel()
	bare, work := newSharedRepository(t)
	first := commitAll(t, work, "one")
	gitIn(t, work, "push", "-q", bare, "HEAD:main")
	source := filepath.Join(t.TempDir(), "source.git")
	gitIn(t, work, "clone", "-q", "--bare", "--depth=1", "file://"+bare, source)
	r := openRepo(t, source, nil)
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Error("a shallow clone was fetched")
	}
	gitIn(t, source, "fetch", "-q", "--unshallow", "origin", "main")
	if got := mustFetch(t, r); got != first {
		t.Errorf("read %s, want %s", got, first)
	}
	writeFiles(t, work, map[string]string{"x": "x\n"})
	second := commitAll(t, work, "two")
	gitIn(t, work, "push", "-q", bare, "HEAD:main")
	gitIn(t, source, "fetch", "-q", "--depth=1", "origin", "+main:main")
	if got := mustFetch(t, r); got != second {
		t.Errorf("read %s, want %s", got, second)
	}
	if line, err := r.Changes(t.Context(), first, second); err != nil || len(line) != 1 {
		t.Errorf("%d changes: %v", len(line), err)
	}
}

// R47: a mirror that lacks an object is cloned again, by a later process too.
func TestR47DamagedMirrorIsRemembered(t *testing.T) {
	t.Parallel()
	bare, work := newSharedRepository(t)
	writeFiles(t, work, map[string]string{"channels/x/channel.yaml": "a: 1\n"})
	commitAll(t, work, "one")
	gitIn(t, work, "push", "-q", bare, "HEAD:main")
	mirror := filepath.Join(t.TempDir(), "mirror")
	in := func(o *Options) { o.Mirror = mirror }
	r := openRepo(t, bare, in)
	mustFetch(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	removeObject(t, mirror, gitIn(t, work, "rev-parse", "HEAD:channels"))
	for i, want := range []bool{false, true} {
		r := openRepo(t, bare, in)
		tip, err := r.Fetch(t.Context())
		if err == nil {
			_, err = r.Changes(t.Context(), "", tip)
		}
		if (err == nil) != want {
			t.Errorf("process %d: %v, want success: %t", i+1, err, want)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
