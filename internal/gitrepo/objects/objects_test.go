package objects

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func git(t testing.TB, dir string, in []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada",
		"GIT_COMMITTER_EMAIL=ada@example.com")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// repository makes a history of files with deltas on deltas, a large file, and a tag.
func repository(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, nil, "init", "-q", "-b", "main")
	random := rand.New(rand.NewPCG(1, 2))
	var lines []string
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("line %d %x", i, random.Uint64()))
	}
	for i := range 30 {
		lines[random.IntN(len(lines))] = fmt.Sprintf("changed in %d", i)
		files := map[string]string{"text": strings.Join(lines, "\n"),
			fmt.Sprintf("cells/c%02d/cell.yaml", i): fmt.Sprintf("channel: staging\nname: c%d\n", i)}
		if i == 7 {
			files["large"] = strings.Repeat(strings.Join(lines, " "), 20)
		}
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
				os.WriteFile(path, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		git(t, dir, nil, "add", "-A")
		git(t, dir, nil, "commit", "-q", "-m", fmt.Sprint("commit ", i))
	}
	git(t, dir, nil, "tag", "-a", "-m", "a tag", "v1")
	return dir
}

// Get agrees with git cat-file, in every way in which git may store an object.
func TestStoreReadsWhatGitStores(t *testing.T) {
	dir := repository(t)
	objectDir := filepath.Join(dir, ".git", "objects")
	store, err := Open(objectDir, 8<<20) // opened once: it notices every repack
	if err != nil {
		t.Fatal(err)
	}
	for _, layout := range []struct {
		name string
		make []string
	}{
		{"loose", nil},
		{"packed", []string{"repack", "-a", "-d", "-q"}},
		{"long chains", []string{"repack", "-a", "-d", "-f", "-q", "--depth=200", "--window=50"}},
		{"ref deltas", []string{"-c", "repack.useDeltaBaseOffset=false", "repack", "-a", "-d", "-f", "-q"}},
		{"no deltas", []string{"repack", "-a", "-d", "-F", "-q", "--depth=0"}},
		{"stored", []string{"-c", "core.compression=0", "-c", "pack.compression=0", "repack", "-a", "-d", "-F", "-q"}},
		{"best", []string{"-c", "pack.compression=9", "repack", "-a", "-d", "-F", "-q"}},
		{"large offsets", []string{"-c", "pack.indexVersion=2", "repack", "-a", "-d", "-F", "-q", "--depth=50"}},
	} {
		t.Run(layout.name, func(t *testing.T) {
			if layout.make != nil {
				git(t, dir, nil, layout.make...)
			}
			if layout.name == "large offsets" { // as beyond 2 GiB
				pack, err := filepath.Glob(filepath.Join(objectDir, "pack", "*.pack"))
				if err != nil || len(pack) != 1 {
					t.Fatal(pack, err)
				}
				git(t, dir, nil, "index-pack", "--index-version=2,0x40", pack[0])
			}
			fresh, err := Open(objectDir, 8<<20)
			if err != nil {
				t.Fatal(err)
			}
			list := strings.Fields(git(t, dir, nil, "cat-file", "--batch-all-objects",
				"--batch-check=%(objectname) %(objecttype) %(objectsize)"))
			for part := range slices.Chunk(list, 3) {
				id, err := ParseID(part[0])
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range []*Store{store, fresh} {
					kind, data, err := s.Get(id)
					if err != nil || kind.String() != part[1] || fmt.Sprint(len(data)) != part[2] {
						t.Fatalf("%v: %v, %d bytes, %v", part, kind, len(data), err)
					}
					if size, err := s.Size(id); err != nil || fmt.Sprint(size) != part[2] {
						t.Errorf("%v: size %d, %v", part, size, err)
					}
				}
				if !fresh.Has(id) {
					t.Errorf("%v is not there", id)
				}
			}
			if len(list) < 300 {
				t.Errorf("only %d objects", len(list)/3)
			}
		})
	}
	none, _ := ParseID(strings.Repeat("1", 40))
	if _, _, err := store.Get(none); !errors.Is(err, ErrNotFound) || store.Has(none) {
		t.Errorf("got %v", err)
	}
}

func TestStoreRefusesWhatIsTooLarge(t *testing.T) {
	dir := repository(t)
	id, err := ParseID(strings.TrimSpace(git(t, dir, nil, "rev-parse", "HEAD:large")))
	if err != nil {
		t.Fatal(err)
	}
	for _, packed := range []bool{false, true} {
		if packed {
			git(t, dir, nil, "repack", "-a", "-d", "-q")
		}
		s, err := Open(filepath.Join(dir, ".git", "objects"), 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Get(id); !errors.Is(err, ErrTooLarge) {
			t.Errorf("packed %v: %v", packed, err)
		}
	}
}

// git reads the packs of EncodePack, thin packs included.
func TestGitReadsWhatWeWrite(t *testing.T) {
	dir := repository(t)
	objectDir := filepath.Join(dir, ".git", "objects")
	s, err := Open(objectDir, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ParseID(strings.TrimSpace(git(t, dir, nil, "rev-parse", "HEAD:cells")))
	if err != nil {
		t.Fatal(err)
	}
	_, base, err := s.Get(old)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := ParseTree(base, 100)
	if err != nil {
		t.Fatal(err)
	}
	blob := Make(BlobKind, []byte("new\n"))
	entries[17] = Entry{Name: entries[17].Name, Mode: ModeFile, ID: blob.ID}
	tree := Make(TreeKind, EncodeTree(entries))
	tree.Base, tree.BaseID = base, old
	large := Make(BlobKind, bytes.Repeat([]byte("large"), 100_000))
	list := []NewObject{blob, tree, large}

	pack := EncodePack(list)
	if len(pack) > 3000 {
		t.Errorf("the pack has %d bytes: no delta", len(pack))
	}
	git(t, dir, pack, "unpack-objects", "-q")
	other := t.TempDir()
	git(t, other, nil, "init", "-q", "--bare")
	loose, err := Open(filepath.Join(other, "objects"), 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(loose.Write(list), loose.Write(list)); err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		for _, at := range []string{dir, other} {
			if got := git(t, at, nil, "cat-file", o.Kind.String(), o.ID.String()); got != string(o.Data) {
				t.Errorf("%v in %s: %d bytes, want %d", o.ID, at, len(got), len(o.Data))
			}
		}
	}
}

func TestDeltasOfLargeObjects(t *testing.T) {
	base := bytes.Repeat([]byte("0123456789"), 30_000)
	for name, data := range map[string][]byte{
		"same":    base,
		"empty":   nil,
		"middle":  slices.Concat(base[:150_001], bytes.Repeat([]byte("new"), 100), base[150_007:]),
		"longer":  slices.Concat(base, base),
		"shorter": base[:70_000],
	} {
		got, err := applyDelta(base, makeDelta(base, data), 1<<20)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(data), err)
		}
	}
}

// Whichever byte of a pack is damaged, Get never returns other bytes.
func TestDamagedPackIsNeverMisread(t *testing.T) {
	dir := repository(t)
	git(t, dir, nil, "repack", "-a", "-d", "-f", "-q", "--depth=50")
	packs, err := filepath.Glob(filepath.Join(dir, ".git/objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	sound, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	ids := strings.Fields(git(t, dir, nil, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"))
	if err := os.Chmod(packs[0], 0o644); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		bad := slices.Clone(sound)
		bad[12+random.IntN(len(bad)-32)] ^= byte(1 + random.IntN(255))
		if err := os.WriteFile(packs[0], bad, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Open(filepath.Join(dir, ".git/objects"), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range ids {
			id, _ := ParseID(text)
			kind, data, err := s.Get(id)
			if err == nil && Sum(kind, data) != id {
				t.Fatalf("%v was misread", id)
			}
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("%v: %v", id, err)
			}
		}
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := NewCache[int, int](20)
	for i := range 100 {
		c.Put(i, i, 1)
		if v, ok := c.Get(0); !ok || v != 0 {
			t.Fatalf("0 was dropped at %d", i)
		}
	}
	kept := 0
	for i := range 100 {
		if _, ok := c.Get(i); ok {
			kept++
		}
	}
	if kept < 9 || kept > 20 {
		t.Errorf("%d kept", kept)
	}
	c.Put(1000, 1, 11)
	if _, ok := c.Get(1000); ok {
		t.Error("kept what costs more than a generation")
	}
}
