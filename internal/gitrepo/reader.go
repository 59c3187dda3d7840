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
	errors  atomic.Uint64                      // see ReadErrors

	// readPrefix returns the first bytes of a commit, by git itself; nil: there is no mirror
	readPrefix func(id objects.ID) ([]byte, error)
}

const (
	treeCacheCost    = 150_000 // cached entries of trees: about 100 bytes each
	rawTreeCacheCost = 4 << 20 // cached bytes of raw trees: neighbours in history share most of theirs
)

// errWrongKind means that a tree or a commit names an object of another kind than it says.
var errWrongKind = errors.New("wrong kind")

// isContent reports whether err is about what a commit contains, and so the same at every reading and in every clone.
// Any other error is one of this machine or its mirror.
func isContent(err error) bool {
	for _, e := range []error{objects.ErrTooLarge, objects.ErrMalformedTree, objects.ErrMalformedCommit, errWrongKind} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ReadErrors counts the reads of the mirror that failed for another reason than what a commit contains: what was read
// meanwhile does not count.
func (r *mirrorReader) ReadErrors() uint64 { return r.errors.Load() }

// readReferenced reads an object that another object refers to: if it is missing, the mirror is damaged.
func (r *mirrorReader) readReferenced(id objects.ID, kind objects.Kind) ([]byte, error) {
	data, err := r.readObject(id, kind)
	if errors.Is(err, objects.ErrNotFound) {
		r.damaged.Store(true)
		r.errors.Add(1)
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
		if !isContent(err) && !errors.Is(err, objects.ErrNotFound) {
			r.errors.Add(1)
		}
		return nil, err
	}
	if got != kind {
		return nil, fmt.Errorf("object %v is a %v, not a %v: %w", id, got, kind, errWrongKind)
	}
	return data, nil
}

func (r *mirrorReader) readCommit(id objects.ID) (*objects.Commit, error) {
	raw, err := r.readReferenced(id, objects.CommitKind)
	if err != nil && (r.readPrefix == nil || !errors.Is(err, objects.ErrTooLarge)) {
		return nil, err
	}
	if err != nil { // its message is huge: what comes before the message is enough, but no signature can be verified
		if raw, err = r.readPrefix(id); err != nil {
			return nil, err
		}
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
	if _, err := r.readObject(id, objects.CommitKind); err != nil && !errors.Is(err, objects.ErrTooLarge) {
		return id, nil, err
	}
	c, err := r.readCommit(id)
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

// readRawTree returns a folder in git's encoding, if FS lists it; the zero id is the empty folder.
func (r *mirrorReader) readRawTree(id objects.ID) ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	if raw, ok := r.raw.Get(id); ok {
		return raw, nil
	}
	raw, err := r.readReferenced(id, objects.TreeKind)
	if err == nil {
		err = objects.CheckForm(raw, r.limits.Entries)
	}
	if err != nil {
		return nil, err
	}
	r.raw.Put(id, raw, len(raw)+128)
	return raw, nil
}
