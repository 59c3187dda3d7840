package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// damageFile overwrites a file of the mirror in the middle.
func damageFile(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 3; i < len(data); i++ {
		data[i] ^= 0x55
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readAll(r *Repo, commit string) error {
	var err error
	for _, name := range []string{"sluice.yaml", "channels/staging/head.yaml", "releases/1.0.0/release.yaml",
		"cells/acme/cell.yaml"} {
		_, e := r.ReadFile(commit, name)
		err = errors.Join(err, e)
	}
	return err
}

// Fault 7: reading fails, never gives other bytes; the next fetch sets the mirror aside and clones again.
func TestDamagedMirrorIsClonedAgain(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, r *Repo){
		"pack": func(t *testing.T, r *Repo) { damageFile(t, glob(t, r.mirror.dir+"/objects/pack/*.pack")[0]) },
		"pack index": func(t *testing.T, r *Repo) {
			damageFile(t, glob(t, r.mirror.dir+"/objects/pack/*.idx")[0])
		},
		"no pack": func(t *testing.T, r *Repo) {
			if err := os.Remove(glob(t, r.mirror.dir+"/objects/pack/*.idx")[0]); err != nil {
				t.Fatal(err)
			}
		},
		"ref": func(t *testing.T, r *Repo) {
			if err := os.WriteFile(filepath.Join(r.mirror.dir, "refs/heads/main"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"loose object": func(t *testing.T, r *Repo) {
			id := objects.Sum(objects.BlobKind, []byte("pushed\n")).String()
			damageFile(t, filepath.Join(r.mirror.dir, "objects", id[:2], id[2:]))
		},
		"loose commit cut off": func(t *testing.T, r *Repo) {
			id := tipOf(r)
			file := filepath.Join(r.mirror.dir, "objects", id[:2], id[2:])
			if err := errors.Join(os.Chmod(file, 0o644), os.Truncate(file, 0)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bare, _ := newSharedRepository(t)
			dir := filepath.Join(t.TempDir(), "mirror.git")
			first := openRepo(t, bare, func(o *Options) { o.Mirror = dir })
			tip := mustPush(t, first, mustFetch(t, first), headDraft("pushed")...)[0]
			harm(t, first)
			r := openRepo(t, bare, func(o *Options) { o.Mirror = dir }) // started again: nothing is cached
			err := readAll(r, tip)
			if err == nil && name != "ref" {
				t.Fatal("read a damaged mirror")
			}
			if got := mustFetch(t, r); got != tip {
				t.Fatalf("fetched %s, want %s", got, tip)
			}
			if err := readAll(r, tip); err != nil {
				if err = errors.Join(err); mustFetch(t, r) == "" || readAll(r, tip) != nil {
					t.Fatalf("after the fetch: %v", err)
				}
			}
			mustFsck(t, dir)
			mustPush(t, r, tip, headDraft("goes on")...)
			mustFsck(t, bare)
		})
	}
}

// Fault 7, found by a fetch: the received pack can't be joined to the damaged mirror.
func TestFetchIntoADamagedMirror(t *testing.T) {
	bare, work := newSharedRepository(t)
	var big strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&big, "line %d\n", i*i)
	}
	writeFiles(t, work, map[string]string{"releases/1.0.0/big.yaml": big.String()})
	commitAll(t, work, "big")
	gitIn(t, work, "push", "-q", "origin", "main")
	r := openRepo(t, bare, nil)
	mustFetch(t, r)
	for _, pack := range glob(t, r.mirror.dir+"/objects/pack/*.pack") {
		damageFile(t, pack)
	}
	writeFiles(t, work, map[string]string{"releases/1.0.0/big.yaml": big.String() + "more\n"})
	tip := commitAll(t, work, "more")
	gitIn(t, work, "push", "-q", "origin", "main")
	r.store.Load() // the packs stay open: only the child reads the damage
	if _, err := r.Fetch(t.Context()); err != nil {
		t.Logf("first: %v", err)
		if got := mustFetch(t, r); got != tip {
			t.Fatalf("fetched %s, want %s", got, tip)
		}
	}
	if err := readAll(r, tip); err != nil && (mustFetch(t, r) != tip || readAll(r, tip) != nil) {
		t.Fatal(err)
	}
	mustFsck(t, r.mirror.dir)
}

// Fault 13: the host is gone; what the mirror has stays readable, and a start without the host works.
func TestHostDown(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	tip := mustFetch(t, r)
	if err := os.Rename(bare, bare+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Fatal("fetched from nowhere")
	}
	_, err := r.Push(t.Context(), tip, headDraft("x"))
	var refused *releases.RefusedError
	if err == nil || errors.Is(err, releases.ErrMoved) || errors.As(err, &refused) {
		t.Errorf("push: %v", err)
	}
	if err := readAll(r, tip); err != nil {
		t.Error(err)
	}
	again := openRepo(t, "https://127.0.0.1:1/r.git", func(o *Options) { o.Mirror = r.mirror.dir })
	if _, err := again.Fetch(t.Context()); err == nil || tipOf(again) != tip || readAll(again, tip) != nil {
		t.Errorf("with the host down: %v, tip %s", err, tipOf(again))
	}
	if err := os.Rename(bare+".away", bare); err != nil {
		t.Fatal(err)
	}
	mustPush(t, r, mustFetch(t, r), headDraft("x")...)
}

// smallDisk mounts a tmpfs of some MiB. root may do that, and CI runs as root in its container.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		return ""
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fillDisk fills a disk; the function it returns frees the space again.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("x"), 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	_ = f.Close()
	return func() { _ = os.Remove(path) }
}

// incompressible returns content that git can't make smaller.
func incompressible(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(objects.Sum(objects.BlobKind, fmt.Append(nil, i)).String())
	}
	return b.String()
}

// Fault 8: the mirror's disk is full. The error says so, and Fetch works again when there is space.
func TestMirrorsDiskFull(t *testing.T) {
	bare, work := newSharedRepository(t)
	mirror, limited := fullableMirror(t)
	r := openRepo(t, bare, func(o *Options) { o.Mirror = mirror })
	old := mustFetch(t, r)
	writeFiles(t, work, map[string]string{"releases/9.0.0/blob": incompressible(300_000)})
	tip := commitAll(t, work, "large")
	gitIn(t, work, "push", "-q", "origin", "main")
	free := limited(t)
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Error("fetched onto a full disk")
	}
	if err := readAll(r, old); err != nil {
		t.Errorf("what was there: %v", err)
	}
	free()
	if got := mustFetch(t, r); got != tip {
		t.Errorf("fetched %s, want %s", got, tip)
	}
	mustFsck(t, r.mirror.dir)
	if left := glob(t, r.mirror.dir+"/objects/"+incomingPrefix+"*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// fullableMirror returns a folder for a mirror and a way to fill its disk. Without the right to mount, it makes the
// mirror's objects unwritable instead: another errno on the same path.
func fullableMirror(t *testing.T) (mirror string, limited func(*testing.T) (free func())) {
	if disk := smallDisk(t, "2m"); disk != "" {
		return filepath.Join(disk, "mirror.git"), func(t *testing.T) func() { return fillDisk(t, disk) }
	}
	mirror = filepath.Join(t.TempDir(), "mirror.git")
	return mirror, func(t *testing.T) func() {
		dir := filepath.Join(mirror, "objects")
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.Chmod(dir, 0o755) }
	}
}

// Fault 8: the host's disk is full. The push is refused and the branch unchanged; the same push works when there is
// space.
func TestHostsDiskFull(t *testing.T) {
	disk := smallDisk(t, "4m")
	if disk == "" {
		disk = t.TempDir()
	}
	src, _ := newSharedRepository(t)
	bare := filepath.Join(disk, "shared.git")
	gitIn(t, disk, "clone", "-q", "--bare", "--no-hardlinks", src, bare)
	r := openRepo(t, bare, nil)
	base := mustFetch(t, r)
	d := draft("large", map[string]string{"releases/9.0.0/blob": incompressible(3_000_000)})
	var free func()
	if isMount(disk) {
		free = fillDisk(t, disk)
	} else { // who may not mount: no room for objects all the same
		if err := os.Chmod(filepath.Join(bare, "objects"), 0o555); err != nil {
			t.Fatal(err)
		}
		free = func() { _ = os.Chmod(filepath.Join(bare, "objects"), 0o755) }
	}
	_, err := r.Push(t.Context(), base, []releases.Draft{d})
	if err == nil || errors.Is(err, releases.ErrMoved) {
		t.Fatalf("got %v", err)
	}
	if got := gitIn(t, bare, "rev-parse", "main"); got != base || tipOf(r) != base {
		t.Errorf("the branch is at %s", got)
	}
	free()
	mustPush(t, r, base, d)
	mustFsck(t, bare)
}

func isMount(dir string) bool {
	var a, b syscall.Stat_t
	return syscall.Stat(dir, &a) == nil && syscall.Stat(filepath.Dir(dir), &b) == nil && a.Dev != b.Dev
}

// Fault 31: objects that are too large are refused before they take memory or time, and the mirror keeps working.
func TestFetchWithinLimits(t *testing.T) {
	bare, work := newSharedRepository(t)
	r := openRepo(t, bare, func(o *Options) { o.Limits.Pack, o.Limits.Object = 200_000, 1<<20 })
	old := mustFetch(t, r)
	writeFiles(t, work, map[string]string{"bomb": strings.Repeat("\x00", 64<<20)})
	bomb := commitAll(t, work, "64 MiB in 64 KiB")
	gitIn(t, work, "push", "-q", "origin", "main")
	if got := mustFetch(t, r); got != bomb {
		t.Fatalf("fetched %s", got)
	}
	if _, err := r.ReadFile(bomb, "bomb"); !errors.Is(err, objects.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := readAll(r, bomb); err != nil {
		t.Errorf("the rest: %v", err)
	}
	writeFiles(t, work, map[string]string{"huge": incompressible(2_000_000)})
	commitAll(t, work, "more than a fetch may bring")
	gitIn(t, work, "push", "-q", "origin", "main")
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Error("fetched more than the limit")
	}
	if tipOf(r) != bomb || readAll(r, old) != nil {
		t.Error("the mirror is not as it was")
	}
}

// Fault 31: a tag on more than a fetch may bring keeps neither the branch nor other tags from being read.
func TestFetchWithoutLargeTags(t *testing.T) {
	bare, work := newSharedRepository(t)
	r := openRepo(t, bare, func(o *Options) { o.Limits.Pack = 200_000 })
	old := mustFetch(t, r)
	var tagged []string
	for i, text := range []string{"small", incompressible(2_000_000), "small too"} {
		gitIn(t, work, "checkout", "-q", "--detach", old)
		writeFiles(t, work, map[string]string{"aside": text})
		tagged = append(tagged, commitAll(t, work, "aside"))
		gitIn(t, work, "push", "-q", "origin", "HEAD:refs/tags/"+string(rune('a'+i)))
	}
	gitIn(t, work, "checkout", "-q", "main")
	for n := range 5 { // each halves the tags that are tried, until the large one is left out
		writeFiles(t, work, map[string]string{"news": strings.Repeat("x", n+1)})
		tip := commitAll(t, work, "news")
		gitIn(t, work, "push", "-q", "origin", "main")
		if got := mustFetch(t, r); got != tip || readAll(r, tip) != nil {
			t.Fatalf("fetched %s, not %s", got, tip)
		}
	}
	for i, id := range tagged {
		if has := readAll(r, id) == nil; has != (i != 1) {
			t.Errorf("tag %d is there: %t", i, has)
		}
	}
}

// R48: a tree that git would not write is taken, and keeps nothing else from being read; the reader refuses it.
func TestFetchTakesHostileTrees(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	old := mustFetch(t, r)
	id, err := objects.ParseID(gitIn(t, bare, "rev-parse", "main:sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := tryGit(bare, []byte("100644 ../evil\x00"+string(id[:])), "hash-object", "-t", "tree",
		"-w", "--literally", "--stdin")
	if err != nil {
		t.Fatal(out)
	}
	commit := gitIn(t, bare, "commit-tree", strings.TrimSpace(out), "-p", old, "-m", "hostile")
	gitIn(t, bare, "update-ref", "refs/heads/main", commit)
	if got := mustFetch(t, r); got != commit {
		t.Fatalf("fetched %s", got)
	}
	if _, err := r.ReadFile(commit, "../evil"); err == nil {
		t.Error("read it")
	}
	mustFetch(t, r)
	if err := readAll(r, old); err != nil {
		t.Error(err)
	}
}

// Repacks and fetches do not disturb readers.
func TestReadersWhileRepacking(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	base := mustFetch(t, r)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	tips := make(chan string, 1)
	tips <- base
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case tip := <-tips:
					if err := readAll(r, tip); err != nil {
						t.Error(err)
					}
					if _, err := r.Changes(context.Background(), "", tip); err != nil {
						t.Error(err)
					}
					select {
					case tips <- tip:
					default:
					}
				}
			}
		})
	}
	for i := range 6 {
		base = mustPush(t, r, base, draft("x", map[string]string{"channels/staging/head.yaml": fmt.Sprint(i)}))[0]
		if err := r.Repack(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-tips:
		default:
		}
		tips <- base
	}
	close(stop)
	readers.Wait()
	if n := len(glob(t, r.mirror.dir+"/objects/[0-9a-f][0-9a-f]/*")); n > 0 {
		t.Errorf("%d loose objects after a repack", n)
	}
	if r.damaged.Load() {
		t.Error("a repack was taken for damage")
	}
	mustFsck(t, r.mirror.dir)
}

// A process that was killed while it made its mirror leaves no half of one for good.
func TestHalfMadeMirrorIsMade(t *testing.T) {
	for name, remove := range map[string][]string{
		"no objects": {"objects"},
		"no config":  {"objects", "config", "refs"},
		"no packs":   {"objects/pack", "objects/info"},
		"no HEAD":    {"HEAD"},
		"empty HEAD": {"HEAD", "refs/heads/main"},
	} {
		t.Run(name, func(t *testing.T) {
			bare, _ := newSharedRepository(t)
			dir := filepath.Join(t.TempDir(), "mirror.git")
			first := openRepo(t, bare, func(o *Options) { o.Mirror = dir })
			if strings.Contains(name, "HEAD") {
				mustFetch(t, first)
			}
			for _, part := range remove {
				if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
					t.Fatal(err)
				}
			}
			if name == "empty HEAD" {
				if err := os.WriteFile(filepath.Join(dir, "HEAD"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := openRepo(t, bare, func(o *Options) { o.Mirror = dir })
			tip := mustFetch(t, r)
			mustPush(t, r, tip, headDraft("goes on")...)
			mustFsck(t, dir)
		})
	}
}

// Two processes may share a mirror.
func TestTwoReposOneMirror(t *testing.T) {
	bare, _ := newSharedRepository(t)
	dir := filepath.Join(t.TempDir(), "mirror.git")
	share := func(o *Options) { o.Mirror = dir }
	a, b := openRepo(t, bare, share), openRepo(t, bare, share)
	tip := mustPush(t, a, mustFetch(t, a), headDraft("a")...)[0]
	if got := mustFetch(t, b); got != tip {
		t.Fatalf("fetched %s", got)
	}
	tip = mustPush(t, b, tip, headDraft("b")...)[0]
	var both sync.WaitGroup
	for _, r := range []*Repo{a, b} {
		both.Go(func() {
			for range 5 {
				if got, err := r.Fetch(context.Background()); err != nil || got != tip {
					t.Errorf("%s %v", got, err)
				}
				if err := readAll(r, tip); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
}

func TestWatchTellsOfPushes(t *testing.T) {
	bare, work := newSharedRepository(t)
	told, err := Watch(t.Context(), bare)
	if err != nil {
		t.Fatal(err)
	}
	r := openRepo(t, bare, nil)
	mustFetch(t, r)
	seen := func(what, want string) {
		t.Helper()
		for mustFetch(t, r) != want { // a value may come for a lock or for nothing
			if _, ok := <-told; !ok {
				t.Fatalf("%s: the watch ended", what)
			}
		}
	}
	rival := openRepo(t, bare, nil)
	base := mustPush(t, rival, mustFetch(t, rival), headDraft("1")...)[0]
	<-told
	seen("push", base)
	gitIn(t, bare, "pack-refs", "--all", "--prune")
	gitIn(t, work, "pull", "-q", "origin", "main")
	base = commitAll(t, work, "by a person")
	gitIn(t, work, "push", "-q", "origin", "main")
	<-told
	seen("push after pack-refs", base)
	if none, err := Watch(t.Context(), "https://git.example/r.git"); none != nil || err != nil {
		t.Errorf("watching https: %v %v", none, err)
	}
}

func TestBranches(t *testing.T) {
	bare, work := newSharedRepository(t)
	gitIn(t, work, "push", "-q", "origin", "main:release/next")
	r := openRepo(t, bare, func(o *Options) { o.Branch = "release/next" })
	base := mustFetch(t, r)
	tip := mustPush(t, r, base, headDraft("x")...)[0]
	if got := gitIn(t, bare, "rev-parse", "release/next"); got != tip || gitIn(t, bare, "rev-parse", "main") != base {
		t.Errorf("release/next is at %s", got)
	}
	if got := mustFetch(t, r); got != tip {
		t.Errorf("fetched %s", got)
	}
	none := openRepo(t, bare, func(o *Options) { o.Branch = "nope" })
	if _, err := none.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "main") {
		t.Errorf("got %v", err)
	}
	gitIn(t, bare, "symbolic-ref", "HEAD", "refs/heads/release/next")
	if other := openRepo(t, work+"/../shared.git", nil); mustFetch(t, other) != tip ||
		other.branch() != "release/next" {
		t.Errorf("the branch is %q", other.branch())
	}
	for _, branch := range []string{"main", "release/next"} { // wiped: not the same as empty
		gitIn(t, bare, "update-ref", "-d", "refs/heads/"+branch)
	}
	if tip, err := r.Fetch(t.Context()); err == nil {
		t.Errorf("fetched %q from a repository that lost its branches", tip)
	}
	sha256 := filepath.Join(t.TempDir(), "sha256.git")
	gitIn(t, t.TempDir(), "init", "-q", "--bare", "--object-format=sha256", sha256)
	gitIn(t, sha256, "update-ref", "refs/heads/main",
		gitIn(t, sha256, "commit-tree", "-m", "x", gitIn(t, sha256, "mktree", "--missing")))
	if _, err := openRepo(t, sha256, nil).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "SHA-1") {
		t.Errorf("SHA-256: %v", err)
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none"),
		Options{Mirror: t.TempDir() + "/m"}); err == nil {
		t.Error("opened nothing")
	}
}
