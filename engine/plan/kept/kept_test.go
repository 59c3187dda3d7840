package kept_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/engine/plan/kept"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/overlay"
	"github.com/sluice-cd/sluice/releases"
)

// branch is a history of commits, folded into a State one by one.
type branch struct {
	t       *testing.T
	state   kept.State
	now     time.Time
	files   map[string]string
	broken  map[string]bool // folders that can't be read in the next commits
	commits map[string]fs.FS
	tip     string
	counted []releases.FileChange // of the newest commit
}

// brokenFS is a commit in which some folders can't be read.
type brokenFS struct {
	fs.FS
	broken map[string]bool
}

var errBroken = errors.New("two entries have one name")

func (f brokenFS) check(name string) error {
	for at := range f.broken {
		if name == at || strings.HasPrefix(name, at+"/") {
			return &fs.PathError{Op: "open", Path: name, Err: errBroken}
		}
	}
	return nil
}

func (f brokenFS) Open(name string) (fs.File, error) {
	if err := f.check(name); err != nil {
		return nil, err
	}
	return f.FS.Open(name)
}

func (f brokenFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.check(name); err != nil {
		return nil, err
	}
	return fs.ReadDir(f.FS, name)
}

func (f brokenFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.check(name); err != nil && !f.broken[name] { // the entry is there, and what is below it unknown
		return nil, err
	}
	return fs.Stat(f.FS, name)
}

func newBranch(t *testing.T, cells int) *branch {
	t.Helper()
	b := &branch{t: t, now: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC), files: map[string]string{},
		commits: map[string]fs.FS{}}
	b.state.MakeMaps()
	files := map[string]string{}
	for i := range cells {
		files[cell(i)] = "channel: staging\n"
	}
	b.commit("begin", files)
	return b
}

func cell(i int) string { return fmt.Sprintf("cells/c%02d/cell.yaml", i) }

// removals returns changes that remove cells from one number up to before another.
func removals(from, to int) map[string]string {
	files := map[string]string{}
	for i := from; i < to; i++ {
		files[cell(i)] = ""
	}
	return files
}

func (b *branch) open(commit string) (fs.FS, error) {
	if files, ok := b.commits[commit]; ok {
		return files, nil
	}
	return nil, fs.ErrNotExist
}

// commit folds a commit that changes files, an empty text removing one, and returns the changes that count.
func (b *branch) commit(message string, files map[string]string) (counts []string) {
	b.t.Helper()
	c := releases.Change{Commit: fmt.Sprintf("%040d", len(b.commits)+1), Parent: b.tip, When: b.now, Message: message}
	before := maps.Clone(b.files)
	for name, text := range files {
		if delete(b.files, name); text != "" {
			b.files[name] = text
		}
	}
	data := map[string][]byte{}
	for name, text := range b.files {
		data[name] = []byte(text)
	}
	now := brokenFS{overlay.New(fstest.MapFS{}).With(data), maps.Clone(b.broken)}
	c.Unreadable = slices.Sorted(maps.Keys(b.broken))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if now.check(name) == nil && before[name] != b.files[name] {
			c.Files = append(c.Files, releases.FileChange{Path: name, Old: before[name], New: b.files[name]})
		}
	}
	b.commits[c.Commit] = now
	got, err := b.state.Fold(c, b.open)
	if err != nil {
		b.t.Fatalf("%s: %v", message, err)
	}
	b.tip, b.counted = c.Commit, got.Files
	for _, f := range got.Files {
		sign := "+"
		if f.New == "" {
			sign = "-"
		}
		counts = append(counts, sign+f.Path)
	}
	return counts
}

// read returns a file as it counts at the tip; empty: there is none.
func (b *branch) read(name string) string {
	b.t.Helper()
	files, err := b.state.View(b.commits[b.tip], b.open)
	if err != nil {
		b.t.Fatal(err)
	}
	data, err := fs.ReadFile(files, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatalf("%s: %v", name, err)
	}
	return string(data)
}

// cells returns how many cells count at the tip, as a listing has them.
func (b *branch) cells() int {
	b.t.Helper()
	files, err := b.state.View(b.commits[b.tip], b.open)
	if err != nil {
		b.t.Fatal(err)
	}
	list, err := fs.ReadDir(files, "cells")
	if err != nil {
		b.t.Fatal(err)
	}
	return len(list)
}

func (b *branch) codes() (codes []manifest.FaultCode) {
	for _, f := range b.state.Faults(b.commits[b.tip]) {
		codes = append(codes, f.Code)
	}
	return codes
}

func TestBound(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 3, 5: 3, 30: 3, 39: 3, 40: 4, 1000: 100} {
		if got := kept.Bound(n); got != want {
			t.Errorf("of %d, %d may go, want %d", n, got, want)
		}
	}
}

// R47: a folder that can't be read keeps what it had, for as long as it can't; what changed meanwhile counts once it
// can.
func TestR47UnreadableFolderKeepsItsValue(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"cells/c01", "cells"} {
		b := newBranch(t, 3)
		b.broken = map[string]bool{folder: true}
		if got := b.commit("break it", map[string]string{cell(1): "channel: other\n"}); len(got) > 0 {
			t.Errorf("%s: %q counts", folder, got)
		}
		b.commit("another commit", map[string]string{"sluice.yaml": "x\n"})
		if got := b.read(cell(1)); got != "channel: staging\n" || b.cells() != 3 {
			t.Errorf("%s: reads %q, of %d cells", folder, got, b.cells())
		}
		if got := b.codes(); !slices.Equal(got, []manifest.FaultCode{manifest.Unreadable}) {
			t.Errorf("%s: faults %v", folder, got)
		}
		if p := b.state.Paths[folder]; p.From != fmt.Sprintf("%040d", 1) || p.Since != fmt.Sprintf("%040d", 2) {
			t.Errorf("%s: kept %+v", folder, b.state.Paths)
		}
		b.broken = nil
		got := b.commit("mend it", map[string]string{"README.md": "x\n"})
		if want := []string{"+README.md", "+" + cell(1)}; !slices.Equal(got, want) {
			t.Errorf("%s: mended, %q counts, want %q", folder, got, want)
		}
		if b.read(cell(1)) != "channel: other\n" || len(b.state.Paths) > 0 || len(b.codes()) > 0 {
			t.Errorf("%s: mended, it reads %q: %+v", folder, b.read(cell(1)), b.state.Paths)
		}
	}
}

// R47, R52: whoever replaces a folder, and puts it back with other files, has made each of these changes, against the
// files that counted.
func TestR47WhatAFolderHasInItsPlaceIsJudged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"channels/staging/channel.yaml", "channels/staging/hotfixes/1.yaml",
		"quarantine/1.0.0.yaml", "trust/1.root.json", "infrastructure/12/update.yaml", "cells/c01/cell.yaml",
		"cells/c01/identity.yaml", "cells/c01/infrastructure.yaml"} {
		top, _, _ := strings.Cut(name, "/")
		for _, now := range []string{"b\n", ""} {
			b := newBranch(t, 3)
			b.commit("before", map[string]string{name: "a\n"})
			before := b.tip
			b.broken = map[string]bool{top: true}
			b.commit("a file in its place", map[string]string{"README.md": "x\n"})
			b.broken = nil
			b.commit("other files in it", map[string]string{name: now})
			i := slices.IndexFunc(b.counted, func(f releases.FileChange) bool { return f.Path == name })
			if i < 0 || b.counted[i].OldIn != before && name != "cells/c01/cell.yaml" {
				t.Errorf("%s, now %q: %+v counts", name, now, b.counted)
			}
		}
	}
}

// R47: a folder that can't be read and then is gone ends by that removal.
func TestR47UnreadableFolderIsRemoved(t *testing.T) {
	t.Parallel()
	b := newBranch(t, 3)
	b.broken = map[string]bool{"cells/c01": true}
	b.commit("break it", nil)
	b.broken = nil
	if got := b.commit("remove it", removals(1, 2)); !slices.Equal(got, []string{"-" + cell(1)}) {
		t.Errorf("%q counts", got)
	}
	if b.cells() != 2 || b.state.Ended["cells/c01"] != b.tip {
		t.Errorf("%d cells, ended %v", b.cells(), b.state.Ended)
	}
	b.commit("a new one of that name", map[string]string{cell(1): "channel: other\n"})
	if b.state.Ended["cells/c01"] != "" {
		t.Errorf("ended %v", b.state.Ended)
	}
}

// R47: more removals than a push may make wait: in one commit, or in several within an hour. They end by a confirmation
// of that very commit, or when the folder is put back.
func TestR47ManyRemovalsWait(t *testing.T) {
	t.Parallel()
	b := newBranch(t, 20)
	if got := b.commit("three", removals(0, 3)); len(got) != 3 || b.cells() != 17 {
		t.Errorf("%q counts, %d cells", got, b.cells())
	}
	b.now = b.now.Add(30 * time.Minute)
	if got := b.commit("one more within the hour", removals(3, 4)); len(got) > 0 || b.cells() != 17 {
		t.Errorf("%q counts, %d cells", got, b.cells())
	}
	b.now = b.now.Add(2 * kept.Window)
	if got := b.commit("one more later", removals(4, 5)); len(got) != 1 || b.cells() != 16 {
		t.Errorf("%q counts, %d cells", got, b.cells())
	}
	b.now = b.now.Add(2 * kept.Window)
	if got := b.commit("many", removals(5, 10)); len(got) > 0 || b.cells() != 16 || b.read(cell(7)) == "" {
		t.Errorf("%q counts, %d cells", got, b.cells())
	}
	many := b.tip
	waiting := b.state.Unconfirmed()
	if len(waiting) != 2 || waiting[1] != (kept.Unconfirmed{Commit: many, Dir: "cells", Count: 5, Of: 16}) {
		t.Errorf("waiting %+v", waiting)
	}
	if got := b.codes(); !slices.Equal(got, []manifest.FaultCode{manifest.Unconfirmed, manifest.Unconfirmed}) {
		t.Errorf("faults %v", got)
	}
	if got := b.commit("put one back", map[string]string{cell(9): "channel: staging\n"}); b.cells() != 16 {
		t.Errorf("%q counts, %d cells", got, b.cells())
	}
	b.commit("confirm another\n\n"+kept.ConfirmTrailer+": "+strings.Repeat("0", 40)+"\n", nil)
	if b.cells() != 16 {
		t.Errorf("a confirmation of no commit: %d cells", b.cells())
	}
	got := b.commit("confirm\n\n"+kept.ConfirmTrailer+": "+many+"\n", nil)
	if len(got) != 4 || b.cells() != 12 || b.read(cell(9)) == "" || b.read(cell(3)) == "" {
		t.Errorf("confirmed: %q counts, %d cells", got, b.cells())
	}
	if left := b.state.Unconfirmed(); len(left) != 1 || left[0].Count != 1 {
		t.Errorf("waiting %+v", left)
	}
}

// R47: what is written below a folder whose removal waits counts.
func TestR47FilesBelowAFolderThatWaits(t *testing.T) {
	t.Parallel()
	b := newBranch(t, 6)
	b.commit("many", removals(0, 5))
	const revoked = "cells/c02/identity.yaml"
	if got := b.commit("revoke one", map[string]string{revoked: "revoked: true\n"}); !slices.Equal(got,
		[]string{"+" + revoked}) {
		t.Errorf("%q counts", got)
	}
	if b.read(revoked) == "" || b.read(cell(2)) == "" {
		t.Errorf("reads %q beside %q", b.read(revoked), b.read(cell(2)))
	}
	b.commit("put it back", map[string]string{cell(2): "channel: staging\n"})
	if b.read(revoked) == "" || b.read(cell(2)) == "" || b.read(cell(1)) == "" {
		t.Errorf("put back: %+v", b.state.Paths)
	}
}

// R47, R48: the folders of one commit that can't be read are bounded: beyond, the top folder is kept whole.
func TestR47ManyUnreadableFolders(t *testing.T) {
	t.Parallel()
	b := newBranch(t, 150)
	b.broken = map[string]bool{}
	for i := range 120 {
		b.broken[strings.TrimSuffix(cell(i), "/cell.yaml")] = true
	}
	b.commit("break many", map[string]string{cell(149): "channel: other\n"})
	if got := b.state.Unreadable(); !slices.Equal(got, []string{"cells"}) || b.cells() != 150 ||
		b.read(cell(149)) != "channel: staging\n" {
		t.Errorf("%q can't be read, %d cells, %q", got, b.cells(), b.read(cell(149)))
	}
}

// An error of the reader is an error of the fold, and no path is kept by it.
func TestReadErrorsEndTheFold(t *testing.T) {
	t.Parallel()
	b := newBranch(t, 3)
	c := releases.Change{Commit: strings.Repeat("f", 40), Parent: b.tip, When: b.now, Unreadable: []string{"cells/c01"}}
	if _, err := b.state.Fold(c, b.open); !errors.Is(err, fs.ErrNotExist) || len(b.state.Paths) > 0 {
		t.Errorf("%v: %+v", err, b.state.Paths)
	}
}
