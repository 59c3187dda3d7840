package cells_test

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// memory is a file system in memory whose lookups take constant time, so that a benchmark measures its readers. Lookups
// of fstest.MapFS take time linear in the number of files.
type memory map[string]*node

type node struct {
	name     string
	data     string
	children []fs.DirEntry // of a folder
}

func (m memory) add(name, data string) {
	n := &node{name: path.Base(name), data: data}
	m[name] = n
	for name != "." {
		parent := path.Dir(name)
		p, ok := m[parent]
		if !ok {
			p = &node{name: path.Base(parent), children: []fs.DirEntry{}}
			m[parent] = p
		}
		p.children = append(p.children, fs.FileInfoToDirEntry(n))
		if ok {
			return
		}
		name, n = parent, p
	}
}

func (m memory) Open(name string) (fs.File, error) {
	n, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &opened{n, bytes.NewReader([]byte(n.data))}, nil
}

func (m memory) Stat(name string) (fs.FileInfo, error) {
	n, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

func (m memory) ReadDir(name string) ([]fs.DirEntry, error) {
	n, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	slices.SortFunc(n.children, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.Clone(n.children), nil
}

func (n *node) Name() string       { return n.name }
func (n *node) Size() int64        { return int64(len(n.data)) }
func (n *node) ModTime() time.Time { return time.Time{} }
func (n *node) Sys() any           { return nil }
func (n *node) IsDir() bool        { return n.children != nil }
func (n *node) Mode() fs.FileMode {
	if n.IsDir() {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

type opened struct {
	*node
	io.Reader
}

func (o *opened) Stat() (fs.FileInfo, error) { return o.node, nil }
func (o *opened) Close() error               { return nil }
