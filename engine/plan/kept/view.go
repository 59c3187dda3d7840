package kept

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// View returns the files of tip with the kept paths as they count. A folder around a kept path has no object id.
func (s *State) View(tip fs.FS, open Open) (fs.FS, error) {
	if len(s.Paths) == 0 {
		return tip, nil
	}
	v := &view{tip: tip, kept: map[string]fs.FS{}, around: map[string]map[string]bool{}}
	opened := map[string]fs.FS{}
	for _, name := range slices.Sorted(maps.Keys(s.Paths)) {
		from := s.Paths[name].From
		if opened[from] == nil {
			files, err := open(from)
			if err != nil {
				return nil, fmt.Errorf("read %s as it was in %.12s: %w", name, from, err)
			}
			opened[from] = files
		}
		v.kept[name] = opened[from]
		for at := name; at != "."; at = path.Dir(at) {
			dir := path.Dir(at)
			if v.around[dir] == nil {
				v.around[dir] = map[string]bool{}
			}
			v.around[dir][path.Base(at)] = true
		}
	}
	return v, nil
}

// view is a commit's files with some paths from other commits. It never changes.
type view struct {
	tip    fs.FS
	kept   map[string]fs.FS           // by path: whose files count there and below
	around map[string]map[string]bool // by folder around kept paths: the names in it that lead to them
}

// source returns the files that count at a path.
func (v *view) source(name string) fs.FS {
	for at := name; ; at = path.Dir(at) {
		if files, ok := v.kept[at]; ok {
			return files
		}
		if at == "." || at == "/" {
			return v.tip
		}
	}
}

func (v *view) Open(name string) (fs.File, error)    { return v.source(name).Open(name) }
func (v *view) ReadFile(name string) ([]byte, error) { return fs.ReadFile(v.source(name), name) }

func (v *view) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(v.source(name), name)
	if v.around[name] == nil {
		return info, err
	}
	if err == nil && !info.IsDir() || err != nil && !isAbsent(err) {
		return info, err
	}
	return folder{path.Base(name)}, nil
}

func (v *view) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(v.source(name), name)
	names := v.around[name]
	if names == nil || err != nil && !isAbsent(err) {
		return list, err
	}
	list = slices.DeleteFunc(slices.Clone(list), func(e fs.DirEntry) bool { return names[e.Name()] })
	for child := range names {
		if info, err := v.Stat(path.Join(name, child)); err == nil {
			list = append(list, fs.FileInfoToDirEntry(info))
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// folder is a folder around kept paths.
type folder struct{ name string }

func (f folder) Name() string       { return f.name }
func (f folder) Size() int64        { return 0 }
func (f folder) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (f folder) ModTime() time.Time { return time.Time{} }
func (f folder) IsDir() bool        { return true }
func (f folder) Sys() any           { return nil }

// nothing is the files before the first commit.
type nothing struct{}

func (nothing) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// differ lists what differs between two commits at and below a path, as releases.FileChange has it.
type differ struct {
	before, after fs.FS
	files         []releases.FileChange
	unreadable    []string
}

// maxDepth bounds how deep compare goes: nothing deeper is read.
const maxDepth = 16

func (d *differ) compare(name string, depth int) {
	if depth > maxDepth {
		return
	}
	old, oldErr := fs.Stat(d.before, name)
	now, nowErr := fs.Stat(d.after, name)
	if nowErr != nil && !isAbsent(nowErr) {
		return // an entry that nothing reads
	}
	oldID, nowID := blobOf(old, oldErr), blobOf(now, nowErr)
	if path.Dir(name) == releases.Dir {
		oldID, nowID = treeOf(old, oldErr), treeOf(now, nowErr)
	}
	if oldID != nowID && isRead(name) {
		d.files = append(d.files, releases.FileChange{Path: name, Old: oldID, New: nowID})
	}
	if path.Dir(name) == releases.Dir {
		return
	}
	names := map[string]bool{}
	if oldErr == nil && old.IsDir() {
		list, _ := fs.ReadDir(d.before, name)
		for _, e := range list {
			names[e.Name()] = true
		}
	}
	if nowErr == nil && now.IsDir() {
		if oldErr == nil && manifest.ID(old) != "" && manifest.ID(old) == manifest.ID(now) {
			return
		}
		list, err := fs.ReadDir(d.after, name)
		if err != nil {
			d.unreadable = append(d.unreadable, name)
			return
		}
		for _, e := range list {
			names[e.Name()] = true
		}
	}
	for _, child := range slices.Sorted(maps.Keys(names)) {
		if at := path.Join(name, child); fs.ValidPath(at) && path.Base(at) == child {
			d.compare(at, depth+1)
		}
	}
}

// blobOf returns the object id of a file; empty: it is none.
func blobOf(info fs.FileInfo, err error) string {
	if err != nil || info.IsDir() {
		return ""
	}
	return manifest.ID(info)
}

// treeOf returns the object id of a folder; empty: it is none.
func treeOf(info fs.FileInfo, err error) string {
	if err != nil || !info.IsDir() {
		return ""
	}
	return manifest.ID(info)
}

// isRead reports whether releases.FileChange tells of a path.
func isRead(name string) bool {
	part := strings.Split(name, "/")
	switch part[0] {
	case "sluice.yaml":
		return len(part) == 1
	case channels.Dir, channels.QuarantineDir, trust.Dir, infrastructure.Dir:
		return true
	case releases.Dir:
		return len(part) == 2
	case cells.Dir:
		return len(part) == 3 &&
			(part[2] == "cell.yaml" || part[2] == "identity.yaml" || part[2] == cells.InfrastructureFile)
	}
	return name == "audit/head.yaml"
}
