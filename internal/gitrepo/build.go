package gitrepo

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// builder makes the objects of a chain of drafts in memory. It reads and writes only the folders that a draft touches.
type builder struct {
	reader    *mirrorReader
	committer Committer
	added     []objects.NewObject // no object comes before an object that it refers to
	built     map[objects.ID][]byte
}

// build makes the commits of chain on base (zero: a root commit) and returns their ids in order.
func (c Committer) build(base objects.ID, chain []releases.Draft) ([]objects.NewObject, []objects.ID, error) {
	b := &builder{reader: &c.repo.mirrorReader, committer: c, built: map[objects.ID][]byte{}}
	tree, err := b.reader.readRootTree(base)
	if err != nil {
		return nil, nil, err
	}
	ids := make([]objects.ID, 0, len(chain))
	for _, d := range chain {
		if tree, err = b.editRoot(tree, d.Files); err != nil {
			return nil, nil, err
		}
		if base, err = b.addCommit(base, tree, d); err != nil {
			return nil, nil, err
		}
		ids = append(ids, base)
	}
	return b.added, ids, nil
}

// Pack returns the pack that Push would send: the commits of chain on base, with their new objects. Nothing is written.
func (r *Repo) Pack(base string, chain []releases.Draft) ([]byte, error) {
	from, err := objects.ParseID(base)
	if err != nil {
		return nil, fmt.Errorf("make pack: %w", err)
	}
	list, _, err := r.defaultCommitter().build(from, chain)
	if err != nil {
		return nil, fmt.Errorf("make pack on %s: %w", base, err)
	}
	return objects.EncodePack(list), nil
}

func (b *builder) addCommit(parent, tree objects.ID, d releases.Draft) (objects.ID, error) {
	if d.When.Unix() < 0 {
		return parent, fmt.Errorf("draft %.50q is of no time that git knows", d.Message)
	}
	ident := func(p releases.Person) objects.Ident {
		return objects.Ident{Name: cmp.Or(p.Name, "Sluice"), Email: cmp.Or(p.Email, "sluice@localhost"), When: d.When}
	}
	c := objects.Commit{Tree: tree, Author: ident(b.committer.author), Committer: ident(b.committer.committer),
		Message: strings.TrimRight(cleantext.Text(d.Message), "\n") + "\n"}
	if !parent.IsZero() {
		c.Parents = []objects.ID{parent}
	}
	raw := c.Encode()
	if b.committer.signer != nil {
		var err error
		if c.Signature, err = b.committer.signer.Sign(raw); err != nil {
			return objects.ID{}, err
		}
		raw = c.Encode()
	}
	return b.addObject(objects.Make(objects.CommitKind, raw)), nil
}

func (b *builder) addObject(o objects.NewObject) objects.ID {
	if _, ok := b.built[o.ID]; !ok {
		b.built[o.ID] = o.Data
		b.added = append(b.added, o)
	}
	return o.ID
}

// treeEdit is one change of a draft; path is relative to the edited folder.
type treeEdit struct {
	path string
	data []byte // nil: remove
}

func (b *builder) editRoot(tree objects.ID, files map[string][]byte) (objects.ID, error) {
	edits := make([]treeEdit, 0, len(files))
	for path, data := range files {
		for part := range strings.SplitSeq(path, "/") {
			if err := objects.CheckName(part); err != nil {
				return tree, fmt.Errorf("draft changes %q: %w", path, err)
			}
		}
		edits = append(edits, treeEdit{path, data})
	}
	slices.SortFunc(edits, func(x, y treeEdit) int { // a folder's paths together, right after the folder itself
		return cmp.Compare(strings.ReplaceAll(x.path, "/", "\x00"), strings.ReplaceAll(y.path, "/", "\x00"))
	})
	entries, err := b.editFolder(tree, edits)
	if err != nil || len(edits) == 0 {
		return tree, err
	}
	return b.addTree(tree, entries)
}

// editFolder returns a folder's entries after the sorted edits.
func (b *builder) editFolder(tree objects.ID, edits []treeEdit) ([]objects.Entry, error) {
	old, err := b.readEntries(tree)
	if err != nil {
		return nil, err
	}
	entries := slices.Clone(old)
	for len(edits) > 0 {
		name, _, _ := strings.Cut(edits[0].path, "/")
		n := 1
		for n < len(edits) && strings.HasPrefix(edits[n].path, name+"/") {
			n++
		}
		nameEdits := edits[:n] // the entry of that name, and the paths below
		edits = edits[n:]
		index, exists := slices.BinarySearchFunc(entries, name, func(e objects.Entry, name string) int {
			return cmp.Compare(e.Name, name)
		})
		e := objects.Entry{Name: name} // no ID: no such entry
		if exists {
			e = entries[index]
		}
		if nameEdits[0].path == name && nameEdits[0].data == nil { // removed, and perhaps replaced by a folder
			e, nameEdits = objects.Entry{Name: name}, nameEdits[1:]
		}
		switch {
		case len(nameEdits) == 0:
		case nameEdits[0].path != name:
			e, err = b.editBelow(e, nameEdits)
		case len(nameEdits) > 1:
			err = fmt.Errorf("draft changes %q both as a file and as a folder", name)
		default:
			e, err = b.setFile(e, nameEdits[0].data)
		}
		switch {
		case err != nil:
			return nil, err
		case !e.ID.IsZero() && exists:
			entries[index] = e
		case !e.ID.IsZero():
			entries = slices.Insert(entries, index, e)
		case exists:
			entries = slices.Delete(entries, index, index+1)
		}
	}
	return entries, nil
}

// setFile makes e a file with that content.
func (b *builder) setFile(e objects.Entry, data []byte) (objects.Entry, error) {
	if e.ID.IsZero() {
		e.Mode = objects.ModeFile
	}
	if e.Mode != objects.ModeFile && e.Mode != objects.ModeExec {
		return e, fmt.Errorf("draft writes %q, but it is not a file", e.Name)
	}
	e.ID = b.addObject(objects.Make(objects.BlobKind, data))
	return e, nil
}

// editBelow applies the edits below e, a folder or no entry yet.
func (b *builder) editBelow(e objects.Entry, edits []treeEdit) (objects.Entry, error) {
	if !e.ID.IsZero() && !e.IsTree() {
		return e, fmt.Errorf("draft changes %q, but %q is not a folder", edits[0].path, e.Name)
	}
	for i := range edits {
		edits[i].path = edits[i].path[len(e.Name)+1:]
	}
	children, err := b.editFolder(e.ID, edits)
	if err != nil || len(children) == 0 { // git has no empty folders
		return objects.Entry{}, err
	}
	e.Mode = objects.ModeTree
	e.ID, err = b.addTree(e.ID, children)
	return e, err
}

func (b *builder) readEntries(tree objects.ID) ([]objects.Entry, error) {
	if raw, ok := b.built[tree]; ok {
		return objects.ParseTree(raw, b.reader.limits.Entries)
	}
	return b.reader.readTree(tree)
}

// addTree adds a folder. A large folder that resembles before is sent as a delta.
func (b *builder) addTree(before objects.ID, entries []objects.Entry) (objects.ID, error) {
	if len(entries) > b.reader.limits.Entries {
		return before, errors.New("draft makes a folder larger than the limit")
	}
	o := objects.Make(objects.TreeKind, objects.EncodeTree(entries))
	if o.ID == before {
		return before, nil
	}
	if _, made := b.built[before]; !made && !before.IsZero() && len(o.Data) > 1<<10 {
		var err error
		if o.Base, err = b.reader.readRawTree(before); err != nil {
			return before, err
		}
		o.BaseID = before
	}
	return b.addObject(o), nil
}
