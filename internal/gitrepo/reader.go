package gitrepo

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
)

// mirrorReader reads the mirror. It never contacts the host.
type mirrorReader struct {
	limits  Limits
	layout  Layout
	store   atomic.Pointer[objects.Store]
	trees   *objects.Cache[objects.ID, []objects.Entry]
	raw     *objects.Cache[objects.ID, []byte] // trees in git's own encoding
	damaged atomic.Bool                        // the mirror has a damaged object: the next Fetch clones again
}

const (
	treeCacheCost    = 150_000 // cached entries of trees: about 100 bytes each
	rawTreeCacheCost = 4 << 20 // cached bytes of raw trees: neighbours in history share most of theirs
)

// readReferenced reads an object that another object refers to: if it is missing, the mirror is damaged.
func (r *mirrorReader) readReferenced(id objects.ID, kind objects.Kind) ([]byte, error) {
	data, err := r.readObject(id, kind)
	if errors.Is(err, objects.ErrNotFound) {
		r.damaged.Store(true)
	}
	return data, err
}

// readObject reads an object that a caller named.
func (r *mirrorReader) readObject(id objects.ID, kind objects.Kind) ([]byte, error) {
	got, data, err := r.store.Load().Get(id)
	if err != nil {
		if errors.Is(err, objects.ErrCorrupt) {
			r.damaged.Store(true)
		}
		return nil, err
	}
	if got != kind {
		return nil, fmt.Errorf("object %v is a %v, not a %v", id, got, kind)
	}
	return data, nil
}

func (r *mirrorReader) readCommit(id objects.ID) (*objects.Commit, error) {
	raw, err := r.readReferenced(id, objects.CommitKind)
	if err != nil {
		return nil, err
	}
	c, err := objects.ParseCommit(raw)
	if err != nil {
		return nil, fmt.Errorf("commit %v: %w", id, err)
	}
	return c, nil
}

// readRootTree returns a commit's tree; the zero id for the zero id.
func (r *mirrorReader) readRootTree(commit objects.ID) (tree objects.ID, err error) {
	if commit.IsZero() {
		return tree, nil
	}
	c, err := r.readCommit(commit)
	if err != nil {
		return tree, err
	}
	return c.Tree, nil
}

// readNamedCommit reads a commit whose id a caller gave.
func (r *mirrorReader) readNamedCommit(commit string) (objects.ID, *objects.Commit, error) {
	id, err := objects.ParseID(commit)
	if err != nil {
		return id, nil, err
	}
	raw, err := r.readObject(id, objects.CommitKind)
	if err != nil {
		return id, nil, err
	}
	c, err := objects.ParseCommit(raw)
	return id, c, err
}

// readTree returns a folder's entries; the zero id is the empty folder.
func (r *mirrorReader) readTree(id objects.ID) ([]objects.Entry, error) {
	if id.IsZero() {
		return nil, nil
	}
	if list, ok := r.trees.Get(id); ok {
		return list, nil
	}
	raw, err := r.readReferenced(id, objects.TreeKind)
	if err != nil {
		return nil, err
	}
	list, err := objects.ParseTree(raw, r.limits.Entries)
	if err != nil {
		return nil, fmt.Errorf("tree %v: %w", id, err)
	}
	r.trees.Put(id, list, len(list)+1)
	return list, nil
}

// readRawTree returns a folder in git's encoding; the zero id is the empty folder.
func (r *mirrorReader) readRawTree(id objects.ID) ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	if raw, ok := r.raw.Get(id); ok {
		return raw, nil
	}
	raw, err := r.readReferenced(id, objects.TreeKind)
	if err == nil {
		r.raw.Put(id, raw, len(raw)+128)
	}
	return raw, err
}
