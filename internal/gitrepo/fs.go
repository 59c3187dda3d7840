package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
)

// FS returns a commit's files, read-only, straight from the mirror. The FS also has ReadFile, ReadDir and Stat, and may
// be used from several goroutines while the Repo is open.
//
// Modes are 0644, 0755, fs.ModeDir, fs.ModeSymlink and, for a gitlink, fs.ModeIrregular. Links are not followed;
// reading a link is an error. FileInfo.Sys() is the object's id, a string, for folders too: equal ids mean equal
// content, all the way down. An entry that git would not write (a path for a name, .git, a duplicate) is listed as
// fs.ModeIrregular, and can't be read; the rest of its folder can.
func (r *Repo) FS(commit string) (fs.FS, error) {
	_, c, err := r.readNamedCommit(commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %.40s: %w", commit, err)
	}
	return &commitFS{r: &r.mirrorReader, root: objects.Entry{Name: ".", Mode: objects.ModeTree, ID: c.Tree}}, nil
}

// ReadFile reads one file of a commit.
func (r *Repo) ReadFile(commit, name string) ([]byte, error) {
	files, err := r.FS(commit)
	if err != nil {
		return nil, err
	}
	return fs.ReadFile(files, name)
}

type commitFS struct {
	r    *mirrorReader
	root objects.Entry
}

var (
	_ fs.ReadFileFS = (*commitFS)(nil)
	_ fs.ReadDirFS  = (*commitFS)(nil)
	_ fs.StatFS     = (*commitFS)(nil)
)

// lookUp walks from the root to a name.
func (f *commitFS) lookUp(op, name string) (objects.Entry, error) {
	if !fs.ValidPath(name) {
		return objects.Entry{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	e := f.root
	if name == "." {
		return e, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !e.IsTree() {
			return e, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		list, err := f.r.readTree(e.ID)
		if err != nil {
			return e, &fs.PathError{Op: op, Path: name, Err: err}
		}
		var ok bool
		if e, ok = objects.Find(list, part); !ok {
			return e, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		if e.Fault != nil {
			return e, &fs.PathError{Op: op, Path: name, Err: e.Fault}
		}
	}
	return e, nil
}

func (f *commitFS) Open(name string) (fs.File, error) {
	e, err := f.lookUp("open", name)
	if err != nil {
		return nil, err
	}
	if e.IsTree() {
		list, err := f.listTree("open", name, e)
		return &openFolder{info: f.infoOf(name, e), rest: list}, err
	}
	data, err := f.readBlob("open", name, e)
	if err != nil {
		return nil, err
	}
	return &openFile{Reader: *bytes.NewReader(data), info: f.infoOf(name, e)}, nil
}

// ReadFile reads a file; the caller owns the bytes.
func (f *commitFS) ReadFile(name string) ([]byte, error) {
	e, err := f.lookUp("read", name)
	if err != nil {
		return nil, err
	}
	data, err := f.readBlob("read", name, e)
	return slices.Clone(data), err
}

func (f *commitFS) readBlob(op, name string, e objects.Entry) ([]byte, error) {
	switch e.Mode {
	case objects.ModeFile, objects.ModeExec:
	case objects.ModeTree:
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.New("is a folder")}
	case objects.ModeSymlink:
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.New("is a symbolic link")}
	default:
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.New("is a submodule")}
	}
	data, err := f.r.readReferenced(e.ID, objects.BlobKind)
	if size := int64(len(data)); size > f.r.limits.File {
		err = fmt.Errorf("%w: %d bytes, the limit is %d", objects.ErrTooLarge, size, f.r.limits.File)
	}
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return data, nil
}

func (f *commitFS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := f.lookUp("readdir", name)
	if err != nil {
		return nil, err
	}
	if !e.IsTree() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("is not a folder")}
	}
	return f.listTree("readdir", name, e)
}

func (f *commitFS) listTree(op, name string, e objects.Entry) ([]fs.DirEntry, error) {
	tree, err := f.r.readTree(e.ID)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	infos := make([]entryInfo, len(tree))
	list := make([]fs.DirEntry, len(tree))
	for i, e := range tree {
		infos[i] = entryInfo{fs: f, entry: e}
		list[i] = &infos[i]
	}
	return list, nil
}

// Stat describes a file or a folder, and does not follow links.
func (f *commitFS) Stat(name string) (fs.FileInfo, error) {
	e, err := f.lookUp("stat", name)
	if err != nil {
		return nil, err
	}
	return f.infoOf(name, e), nil
}

func (f *commitFS) infoOf(name string, e objects.Entry) *entryInfo {
	e.Name = path.Base(name)
	return &entryInfo{fs: f, entry: e}
}

// entryInfo is an entry as fs.FileInfo and fs.DirEntry.
type entryInfo struct {
	fs    *commitFS
	entry objects.Entry
}

func (i *entryInfo) Name() string               { return i.entry.Name }
func (i *entryInfo) IsDir() bool                { return i.Mode().IsDir() }
func (i *entryInfo) Type() fs.FileMode          { return i.Mode().Type() }
func (i *entryInfo) Info() (fs.FileInfo, error) { return i, nil }
func (i *entryInfo) Sys() any                   { return i.entry.ID.String() }
func (i *entryInfo) String() string             { return fs.FormatDirEntry(i) }

// ModTime is zero: a commit's time is its author's claim.
func (i *entryInfo) ModTime() time.Time { return time.Time{} }

func (i *entryInfo) Mode() fs.FileMode {
	if i.entry.Fault != nil {
		return fs.ModeIrregular
	}
	switch i.entry.Mode {
	case objects.ModeTree:
		return fs.ModeDir | 0o755
	case objects.ModeExec:
		return 0o755
	case objects.ModeSymlink:
		return fs.ModeSymlink | 0o777
	case objects.ModeGitlink:
		return fs.ModeIrregular
	}
	return 0o644
}

// Size reads the size on demand; 0 for an object that can't be read, whose reading returns the error.
func (i *entryInfo) Size() int64 {
	if i.entry.IsTree() || i.entry.Mode == objects.ModeGitlink {
		return 0
	}
	size, err := i.fs.r.store.Load().Size(i.entry.ID)
	if err != nil {
		return 0
	}
	return size
}

type openFile struct {
	bytes.Reader
	info *entryInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openFolder struct {
	info *entryInfo
	rest []fs.DirEntry
}

func (d *openFolder) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openFolder) Close() error               { return nil }

func (d *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.entry.Name, Err: errors.New("is a folder")}
}

func (d *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.rest) {
		if n > 0 && len(d.rest) == 0 {
			return nil, io.EOF
		}
		n = len(d.rest)
	}
	list := d.rest[:n:n]
	d.rest = d.rest[n:]
	return list, nil
}
