package releases

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/internal/manifest"
)

const (
	releaseFile   = "release.yaml"
	tombstoneFile = "tombstone.yaml"
)

// Set holds the releases of a repository.
type Set struct {
	Releases map[string]*Entry // by folder name
	Versions []*Entry          // the same in order of version, the greatest last
}

// Entry is one release folder. It is immutable, since a cache may share it.
type Entry struct {
	StoredRelease
	Loaded bool    // whether the folder was read; if not, only Version and Tree are set
	Unread bool    // not Loaded, because the budget was spent: only the manifest was read, and unchecked
	Faults []Fault // includes warnings; a release with any other fault is no candidate
	Bytes  int64   // of all files
}

// Budget bounds what a Load reads, so that it ends soon whatever was pushed (R48). It is spent by folders that no cache
// has, the greatest version first; what begins within it is read to its end. nil: no bound.
type Budget struct {
	Bytes int64 // to hash
	Files int   // to look at

	mu sync.Mutex
}

func (b *Budget) isSpent() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Bytes <= 0 || b.Files <= 0
}

func (b *Budget) spend(files int, bytes int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Files -= files
	b.Bytes -= bytes
}

// Wanted says which releases Load reads. nil functions choose none.
type Wanted struct {
	First func(Version) bool // read whatever the budget
	Then  func(Version) bool // read within the budget
}

func (w *Wanted) isFirst(v Version) bool { return w == nil || w.First != nil && w.First(v) }
func (w *Wanted) isWanted(v Version) bool {
	return w.isFirst(v) || w.Then != nil && w.Then(v)
}

// Load reads the releases of a repository, several at a time; with a nil want all of them, whatever the budget. A fault
// in one release leaves the others as they are. Load returns all faults: the entries', and those of folders that are no
// releases. A folder whose tree id is in the cache is not read again.
func Load(c *manifest.Cache, fsys fs.FS, want *Wanted, budget *Budget) (Set, []Fault) {
	set := Set{Releases: map[string]*Entry{}}
	folders, err := fs.ReadDir(fsys, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err != nil {
		return set, []Fault{{File: Dir, Code: manifest.Unreadable, Message: fmt.Sprintf("can't be read: %v", err)}}
	}
	var faults []Fault
	for _, folder := range folders {
		v, fault := parseFolderName(folder)
		if fault != nil {
			faults = append(faults, *fault)
			continue
		}
		e := &Entry{StoredRelease: StoredRelease{Release: Release{Version: v}, Tree: treeID(folder)}}
		set.Versions = append(set.Versions, e)
	}
	slices.SortFunc(set.Versions, func(a, b *Entry) int { return a.Version.Compare(b.Version) })
	readEntries(c, fsys, set.Versions, want, budget)
	markTies(set.Versions)
	for _, e := range set.Versions {
		set.Releases[e.Version.String()] = e
		faults = append(faults, e.Faults...)
	}
	return set, manifest.Sort(faults)
}

// readEntries reads the wanted ones of sorted entries: first those that are read in any case, then the greatest version
// first.
func readEntries(c *manifest.Cache, fsys fs.FS, sorted []*Entry, want *Wanted, budget *Budget) {
	var reading errgroup.Group
	reading.SetLimit(runtime.GOMAXPROCS(0))
	read := func(e *Entry) {
		reading.Go(func() error { // each goroutine writes its own entry
			*e = cachedEntry(c, fsys, e.Version, e.Tree, budget)
			return nil
		})
	}
	var later []*Entry
	for _, e := range slices.Backward(sorted) {
		switch {
		case want.isFirst(e.Version):
			read(e)
		case want.isWanted(e.Version):
			later = append(later, e)
		}
	}
	_ = reading.Wait() // no goroutine returns an error
	for _, e := range later {
		if budget.isSpent() && !manifest.IsCached[Entry](c, path.Join(Dir, e.Version.String()), e.Tree) {
			reading.Go(func() error {
				e.Unread = true
				if r := readManifest(c, fsys, e.Version, e.Tree); r != nil {
					e.Release = *r
				}
				return nil
			})
			continue
		}
		read(e)
	}
	_ = reading.Wait()
}

// readManifest reads release.yaml alone, for what the order of releases needs to know of one that is not read yet; nil:
// it has faults.
func readManifest(c *manifest.Cache, fsys fs.FS, v Version, tree string) *Release {
	dir := path.Join(Dir, v.String())
	return manifest.Cached(c, dir, tree, func() *Release {
		r, _ := manifest.Load(nil, fsys, path.Join(dir, releaseFile), func(d *manifest.Doc[Release]) []Fault {
			return checkFolderName(d, d.Value.Version, v)
		})
		return r
	})
}

func cachedEntry(c *manifest.Cache, fsys fs.FS, v Version, tree string, budget *Budget) Entry {
	return manifest.Cached(c, path.Join(Dir, v.String()), tree, func() Entry {
		return readFolder(c, fsys, v, tree, budget)
	})
}

// ReadRelease reads one release folder as Load does, but does not compare it with other releases.
func ReadRelease(c *manifest.Cache, fsys fs.FS, version Version) *Entry {
	dir := path.Join(Dir, version.String())
	tree := ""
	if info, err := fs.Stat(fsys, dir); err == nil {
		tree = manifest.ID(info)
	}
	e := cachedEntry(c, fsys, version, tree, nil)
	return &e
}

// parseFolderName reads the version that a folder is named after.
func parseFolderName(folder fs.DirEntry) (Version, *Fault) {
	name := path.Join(Dir, folder.Name())
	if !folder.IsDir() {
		f := manifest.UnusedEntry(Dir, folder, "a release is a folder")
		return Version{}, &f
	}
	v, err := ParseVersion(folder.Name())
	if err != nil {
		return Version{}, &Fault{File: name, Code: manifest.WrongName, Message: err.Error()}
	}
	return v, nil
}

func treeID(folder fs.DirEntry) string {
	info, err := folder.Info()
	if err != nil {
		return ""
	}
	return manifest.ID(info)
}

// markTies adds a fault to releases whose versions compare as equal (R12).
func markTies(sorted []*Entry) {
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if a.Version.Compare(b.Version) != 0 {
			continue
		}
		for _, pair := range [2][2]*Entry{{a, b}, {b, a}} {
			pair[0].Faults = append(slices.Clip(pair[0].Faults), Fault{
				File:    path.Join(Dir, pair[0].Version.String()),
				Code:    manifest.Duplicate,
				Message: fmt.Sprintf("is the same version as %s: remove one of the two", pair[1].Version),
			})
		}
	}
}

func readFolder(c *manifest.Cache, fsys fs.FS, v Version, treeID string, budget *Budget) Entry {
	dir := path.Join(Dir, v.String())
	e := Entry{StoredRelease: StoredRelease{Release: Release{Version: v}, Tree: treeID}, Loaded: true}
	t, wrong := walkRelease(fsys, dir, Limits{})
	budget.spend(1+len(t.files), 0)
	e.Bytes = t.size()
	e.Faults = slices.Clone(wrong)
	add := func(faults ...Fault) { e.Faults = append(e.Faults, faults...) }

	file := path.Join(dir, tombstoneFile)
	stone, faults := manifest.Load(nil, fsys, file, func(d *manifest.Doc[Tombstone]) []Fault {
		return checkFolderName(d, d.Value.Version, v)
	})
	add(faults...)
	if stone != nil {
		e.Tombstone, e.Digest = stone, stone.Digest
		if len(t.files) > 1 {
			add(Fault{File: file, Code: manifest.Conflict,
				Message: "has other files beside it: a pruned release has only its tombstone"})
		}
	}
	if stone != nil || manifest.Fatal(faults) {
		e.Faults = manifest.Sort(e.Faults)
		return e
	}

	file = path.Join(dir, releaseFile)
	r, faults := manifest.Load(nil, fsys, file, func(d *manifest.Doc[Release]) []Fault {
		return append(checkFolderName(d, d.Value.Version, v), validateRelease(d, t)...)
	})
	add(faults...)
	switch {
	case r != nil:
		e.Release = *r
	case len(faults) == 0:
		add(Fault{File: file, Code: manifest.Missing, Message: "is missing: a release needs one"})
	}
	add(t.scanKustomizations()...)
	add(t.checkExport()...)
	add(t.checkDiagnostics()...)
	if len(wrong) == 0 { // the digest depends on the bytes only, so a faulty release.yaml has one too
		h := manifest.Cached(c, dir, treeID, func() hashed {
			budget.spend(0, e.Bytes)
			digest, faults := t.computeDigest()
			return hashed{digest, faults}
		})
		e.Digest = h.digest
		add(h.faults...)
	}
	e.Faults = manifest.Sort(e.Faults)
	return e
}

// hashed is a digest, or why there is none, as the cache holds it.
type hashed struct {
	digest Digest
	faults []Fault
}

// CacheDigest puts the digest of a release's folder into the cache, as an earlier process computed it of the same tree.
func CacheDigest(c *manifest.Cache, version Version, tree string, digest Digest) {
	manifest.Cached(c, path.Join(Dir, version.String()), tree, func() hashed { return hashed{digest: digest} })
}

// CacheEntry puts a release into the cache, as an earlier process read it of the same tree.
func CacheEntry(c *manifest.Cache, e Entry) {
	for name, p := range e.Parameters {
		if p.Pattern != "" {
			p.compiled = sync.OnceValues(p.compilePattern)
			e.Parameters[name] = p
		}
	}
	manifest.Cached(c, path.Join(Dir, e.Version.String()), e.Tree, func() Entry { return e })
}

// CachedEntry returns the release of a tree as the cache has it.
func CachedEntry(c *manifest.Cache, version Version, tree string) (e Entry, ok bool) {
	dir := path.Join(Dir, version.String())
	if !manifest.IsCached[Entry](c, dir, tree) {
		return e, false
	}
	return manifest.Cached(c, dir, tree, func() Entry { return e }), true
}

func checkFolderName[T any](d *manifest.Doc[T], is, want Version) []Fault {
	if is == want {
		return nil
	}
	return []Fault{d.Fault(manifest.Conflict, "version", "version is %s, but the folder's name is %s", is, want)}
}
