package releases

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"

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
	Faults []Fault // includes warnings; a release with any other fault is no candidate
}

// Load reads the releases of a repository, several at a time. want selects, by version, the releases to read; nil
// selects all. A fault in one release leaves the others as they are. Load returns all faults: the entries', and those
// of folders that are no releases. A folder whose tree id is in the cache is not read again.
func Load(c *manifest.Cache, fsys fs.FS, want func(Version) bool) (Set, []Fault) {
	set := Set{Releases: map[string]*Entry{}}
	folders, err := fs.ReadDir(fsys, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err != nil {
		return set, []Fault{{File: Dir, Code: manifest.Unreadable, Message: fmt.Sprintf("can't be read: %v", err)}}
	}
	var faults []Fault
	var reading errgroup.Group
	reading.SetLimit(runtime.GOMAXPROCS(0))
	for _, folder := range folders {
		v, fault := parseFolderName(folder)
		if fault != nil {
			faults = append(faults, *fault)
			continue
		}
		e := &Entry{StoredRelease: StoredRelease{Release: Release{Version: v}, Tree: treeID(folder)}}
		set.Versions = append(set.Versions, e)
		if want != nil && !want(v) {
			continue
		}
		reading.Go(func() error { // each goroutine writes its own entry
			*e = manifest.Cached(c, path.Join(Dir, v.String()), e.Tree, func() Entry {
				return readFolder(fsys, v, e.Tree)
			})
			return nil
		})
	}
	_ = reading.Wait() // no goroutine returns an error
	slices.SortFunc(set.Versions, func(a, b *Entry) int { return a.Version.Compare(b.Version) })
	markTies(set.Versions)
	for _, e := range set.Versions {
		set.Releases[e.Version.String()] = e
		faults = append(faults, e.Faults...)
	}
	return set, manifest.Sort(faults)
}

// ReadRelease reads one release folder as Load does, but does not compare it with other releases.
func ReadRelease(c *manifest.Cache, fsys fs.FS, version Version) *Entry {
	dir := path.Join(Dir, version.String())
	tree := ""
	if info, err := fs.Stat(fsys, dir); err == nil {
		tree = manifest.ID(info)
	}
	e := manifest.Cached(c, dir, tree, func() Entry { return readFolder(fsys, version, tree) })
	return &e
}

// parseFolderName reads the version that a folder is named after.
func parseFolderName(folder fs.DirEntry) (Version, *Fault) {
	name := path.Join(Dir, folder.Name())
	if !folder.IsDir() {
		return Version{}, &Fault{File: name, Warning: true, Code: manifest.Unused,
			Message: "is not read: a release is a folder"}
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

func readFolder(fsys fs.FS, v Version, treeID string) Entry {
	dir := path.Join(Dir, v.String())
	e := Entry{StoredRelease: StoredRelease{Release: Release{Version: v}, Tree: treeID}, Loaded: true}
	t, wrong := walkRelease(fsys, dir, Limits{})
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
	if len(wrong) == 0 { // the digest depends on the bytes only, so a faulty release.yaml has one too
		e.Digest, faults = t.computeDigest()
		add(faults...)
	}
	e.Faults = manifest.Sort(e.Faults)
	return e
}

func checkFolderName[T any](d *manifest.Doc[T], is, want Version) []Fault {
	if is == want {
		return nil
	}
	return []Fault{d.Fault(manifest.Conflict, "version", "version is %s, but the folder's name is %s", is, want)}
}
