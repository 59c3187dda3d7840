package gitrepo

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// builder makes the objects of a chain of drafts in memory. Only the folders that a draft touches
// are read and written.
type builder struct {
	r    *reader
	by   Committer
	list []objects.New // in an order in which no object comes before one that it names
	made map[objects.ID][]byte
}

// build makes the commits of chain on base (zero: a root commit) and gives their ids in order.
func (c Committer) build(base objects.ID, chain []releases.Draft) ([]objects.New, []objects.ID, error) {
	b := &builder{r: &c.repo.reader, by: c, made: map[objects.ID][]byte{}}
	tree, err := b.r.root(base)
	if err != nil {
		return nil, nil, err
	}
	ids := make([]objects.ID, 0, len(chain))
	for _, d := range chain {
		if tree, err = b.root(tree, d.Files); err != nil {
			return nil, nil, err
		}
		if base, err = b.commit(base, tree, d); err != nil {
			return nil, nil, err
		}
		ids = append(ids, base)
	}
	return b.list, ids, nil
}

// Pack gives the pack that Push would send: the commits of chain on base, and what is new in them. Nothing is written.
func (r *Repo) Pack(base string, chain []releases.Draft) ([]byte, error) {
	from, err := objects.ParseID(base)
	if err != nil {
		return nil, fmt.Errorf("make pack: %w", err)
	}
	list, _, err := r.self().build(from, chain)
	if err != nil {
		return nil, fmt.Errorf("make pack on %s: %w", base, err)
	}
	return objects.EncodePack(list), nil
}

func (b *builder) commit(parent, tree objects.ID, d releases.Draft) (objects.ID, error) {
	if d.When.Unix() < 0 {
		return parent, fmt.Errorf("draft %.50q is of no time that git knows", d.Message)
	}
	who := objects.Stamp{Name: cmp.Or(b.by.author.Name, "Sluice"), Email: cmp.Or(b.by.author.Email, "sluice@localhost"), When: d.When}
	c := objects.Commit{Tree: tree, Author: who, Committer: who, Message: strings.TrimRight(strings.ReplaceAll(d.Message, "\x00", ""), "\n") + "\n"}
	if !parent.IsZero() {
		c.Parents = []objects.ID{parent}
	}
	raw := c.Encode()
	if b.by.signer != nil {
		var err error
		if c.Signature, err = b.by.signer.Sign(raw); err != nil {
			return objects.ID{}, err
		}
		raw = c.Encode()
	}
	return b.add(objects.Make(objects.CommitKind, raw)), nil
}

func (b *builder) add(o objects.New) objects.ID {
	if _, ok := b.made[o.ID]; !ok {
		b.made[o.ID] = o.Data
		b.list = append(b.list, o)
	}
	return o.ID
}

// edit is one change of a draft, with the path below the folder at hand.
type edit struct {
	path string
	data []byte // nil: remove
}

func (b *builder) root(tree objects.ID, files map[string][]byte) (objects.ID, error) {
	edits := make([]edit, 0, len(files))
	for path, data := range files {
		for part := range strings.SplitSeq(path, "/") {
			if err := objects.CheckName(part); err != nil {
				return tree, fmt.Errorf("draft changes %q: %w", path, err)
			}
		}
		edits = append(edits, edit{path, data})
	}
	slices.SortFunc(edits, func(x, y edit) int { // a folder's paths together, right after the folder itself
		return cmp.Compare(strings.ReplaceAll(x.path, "/", "\x00"), strings.ReplaceAll(y.path, "/", "\x00"))
	})
	entries, err := b.folder(tree, edits)
	if err != nil || len(edits) == 0 {
		return tree, err
	}
	return b.write(tree, entries)
}

// folder gives a folder's entries with the sorted edits made.
func (b *builder) folder(tree objects.ID, edits []edit) ([]objects.Entry, error) {
	old, err := b.entries(tree)
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
		of := edits[:n] // that name itself, and what is below it
		edits = edits[n:]
		at, there := slices.BinarySearchFunc(entries, name, func(e objects.Entry, name string) int { return cmp.Compare(e.Name, name) })
		e := objects.Entry{Name: name} // without an ID: nothing
		if there {
			e = entries[at]
		}
		if of[0].path == name && of[0].data == nil { // removed: a folder may take its place
			e, of = objects.Entry{Name: name}, of[1:]
		}
		switch {
		case len(of) == 0:
		case of[0].path != name:
			e, err = b.descend(e, of)
		case len(of) > 1:
			err = fmt.Errorf("draft changes %q both as a file and as a folder", name)
		default:
			e, err = b.replace(e, of[0].data)
		}
		switch {
		case err != nil:
			return nil, err
		case !e.ID.IsZero() && there:
			entries[at] = e
		case !e.ID.IsZero():
			entries = slices.Insert(entries, at, e)
		case there:
			entries = slices.Delete(entries, at, at+1)
		}
	}
	return entries, nil
}

// replace makes e a file with that content.
func (b *builder) replace(e objects.Entry, data []byte) (objects.Entry, error) {
	if e.ID.IsZero() {
		e.Mode = objects.ModeFile
	}
	if e.Mode != objects.ModeFile && e.Mode != objects.ModeExec {
		return e, fmt.Errorf("draft writes %q, but it is no file", e.Name)
	}
	e.ID = b.add(objects.Make(objects.BlobKind, data))
	return e, nil
}

// descend makes the edits below e, a folder or nothing yet.
func (b *builder) descend(e objects.Entry, edits []edit) (objects.Entry, error) {
	if !e.ID.IsZero() && !e.IsTree() {
		return e, fmt.Errorf("draft changes %q, but %q is no folder", edits[0].path, e.Name)
	}
	for i := range edits {
		edits[i].path = edits[i].path[len(e.Name)+1:]
	}
	children, err := b.folder(e.ID, edits)
	if err != nil || len(children) == 0 { // git knows no empty folders
		return objects.Entry{}, err
	}
	e.Mode = objects.ModeTree
	e.ID, err = b.write(e.ID, children)
	return e, err
}

func (b *builder) entries(tree objects.ID) ([]objects.Entry, error) {
	if raw, ok := b.made[tree]; ok {
		return objects.ParseTree(raw, b.r.limits.Entries)
	}
	return b.r.tree(tree)
}

// write adds a folder. One that is much like before travels as the difference.
func (b *builder) write(before objects.ID, entries []objects.Entry) (objects.ID, error) {
	if len(entries) > b.r.limits.Entries {
		return before, errors.New("draft makes a folder larger than the limit")
	}
	o := objects.Make(objects.TreeKind, objects.EncodeTree(entries))
	if o.ID == before {
		return before, nil
	}
	if _, made := b.made[before]; !made && !before.IsZero() && len(o.Data) > 1<<10 {
		var err error
		if o.Base, err = b.r.rawTree(before); err != nil {
			return before, err
		}
		o.From = before
	}
	return b.add(o), nil
}
