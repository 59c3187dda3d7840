// Package overlay puts changed files on top of a commit's, without writing them anywhere. What did not change keeps its
// object id, so that caches go on serving it. It does no I/O but through the file system below. A value is immutable,
// and safe for concurrent use.
package overlay

import (
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // git's object ids
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// FS is a commit's files with changes on top. It is immutable: With returns another one, which shares what is the same.
type FS struct {
	base fs.FS
	root *entry
}

// entry is a file or a folder that differs from the base.
type entry struct {
	data     []byte            // a file's content
	children map[string]*entry // a folder's entries that differ from the base; nil: removed
	inBase   bool              // the base has the folder too
	id       string            // object id; empty: unknown, since the base has none
}

// New returns base without changes.
func New(base fs.FS) *FS {
	o := &FS{base: base}
	o.root = o.makeFolder(".", nil)
	return o
}

// With returns o with files changed; nil data removes the file or, for a folder, everything below it.
func (o *FS) With(files map[string][]byte) *FS {
	return &FS{base: o.base, root: o.changeFolder(".", o.root, files)}
}

// changeFolder returns folder e, at dir, with files changed. Their paths are relative to dir.
func (o *FS) changeFolder(dir string, e *entry, files map[string][]byte) *entry {
	kids := map[string]*entry{}
	if e != nil {
		maps.Copy(kids, e.children)
	}
	below := map[string]map[string][]byte{}
	for name, data := range files {
		head, rest, deeper := strings.Cut(name, "/")
		switch {
		case deeper && below[head] == nil:
			below[head] = map[string][]byte{rest: data}
		case deeper:
			below[head][rest] = data
		case data == nil:
			kids[head] = nil
		default:
			kids[head] = &entry{data: data, id: blobID(data)}
		}
	}
	for name, files := range below {
		kids[name] = o.changeFolder(path.Join(dir, name), kids[name], files)
	}
	return o.makeFolder(dir, kids)
}

// makeFolder returns a folder entry with the children that differ from the base.
func (o *FS) makeFolder(dir string, kids map[string]*entry) *entry {
	e := &entry{children: kids}
	if e.children == nil {
		e.children = map[string]*entry{}
	}
	id := ""
	if info, err := fs.Stat(o.base, dir); err == nil && info.IsDir() {
		e.inBase, id = true, manifest.ID(info)
	}
	if e.inBase && id == "" {
		return e // without an id, the folder is not cached
	}
	if len(e.children) == 0 {
		e.id = id
		return e
	}
	sum := sha1.New() //nolint:gosec // names contents, protects nothing
	fmt.Fprintln(sum, "tree", id)
	for _, name := range slices.Sorted(maps.Keys(e.children)) {
		kid := e.children[name]
		if kid != nil && kid.id == "" {
			return e
		}
		if kid == nil {
			fmt.Fprintf(sum, "%s gone\n", name)
		} else {
			fmt.Fprintf(sum, "%s %s\n", name, kid.id)
		}
	}
	e.id = hex.EncodeToString(sum.Sum(nil))
	return e
}

func blobID(data []byte) string {
	sum := sha1.New() //nolint:gosec // git's object ids
	fmt.Fprintf(sum, "blob %d\x00", len(data))
	sum.Write(data)
	return hex.EncodeToString(sum.Sum(nil))
}

// ObjectID returns the object id of a path; empty: the path does not exist, or its id is unknown.
func (o *FS) ObjectID(name string) string {
	info, err := o.Stat(name)
	if err != nil {
		return ""
	}
	return manifest.ID(info)
}

// findEntry returns the overlay's entry of a path. known is false if only the base knows the path.
func (o *FS) findEntry(name string) (e *entry, known bool) {
	e = o.root
	if name == "." {
		return e, true
	}
	for part := range strings.SplitSeq(name, "/") {
		if e == nil || e.children == nil {
			return nil, true
		}
		kid, ok := e.children[part]
		if !ok {
			return nil, !e.inBase // a folder that the base lacks has no other entries
		}
		e = kid
	}
	return e, true
}

func (o *FS) Stat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	e, known := o.findEntry(name)
	switch {
	case !known:
		return fs.Stat(o.base, name)
	case e == nil:
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return entryInfo{path.Base(name), e}, nil
}

func (o *FS) ReadFile(name string) ([]byte, error) {
	e, known := o.findEntry(name)
	switch {
	case !known:
		return fs.ReadFile(o.base, name)
	case e == nil:
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	case e.children != nil:
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a folder")}
	}
	return slices.Clone(e.data), nil
}

func (o *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, known := o.findEntry(name)
	switch {
	case !known:
		return fs.ReadDir(o.base, name)
	case e == nil:
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	case e.children == nil:
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("is no folder")}
	}
	var all []fs.DirEntry
	if e.inBase {
		below, err := fs.ReadDir(o.base, name)
		if err != nil {
			return nil, err
		}
		for _, b := range below {
			if _, changed := e.children[b.Name()]; !changed {
				all = append(all, b)
			}
		}
	}
	for name, kid := range e.children {
		if kid != nil {
			all = append(all, fs.FileInfoToDirEntry(entryInfo{name, kid}))
		}
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return all, nil
}

func (o *FS) Open(name string) (fs.File, error) {
	stat, err := o.Stat(name)
	if err != nil {
		return nil, err
	}
	e, known := o.findEntry(name)
	if !known {
		return o.base.Open(name)
	}
	if e.children == nil {
		return &openFile{Reader: bytes.NewReader(e.data), info: stat}, nil
	}
	list, err := o.ReadDir(name)
	return &openFolder{info: stat, remaining: list}, err
}

type openFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openFolder struct {
	info      fs.FileInfo
	remaining []fs.DirEntry
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFolder) Close() error               { return nil }
func (f *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.Name(), Err: errors.New("is a folder")}
}

func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(f.remaining)
	} else if len(f.remaining) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.remaining))
	list := f.remaining[:n]
	f.remaining = f.remaining[n:]
	return list, nil
}

type entryInfo struct {
	name string
	*entry
}

func (i entryInfo) Name() string       { return i.name }
func (i entryInfo) Size() int64        { return int64(len(i.data)) }
func (i entryInfo) ModTime() time.Time { return time.Time{} }
func (i entryInfo) IsDir() bool        { return i.children != nil }
func (i entryInfo) Sys() any           { return i.id }
func (i entryInfo) Mode() fs.FileMode {
	if i.children != nil {
		return fs.ModeDir | 0o755
	}
	return 0o644
}
