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
	r    *Repo
	by   Committer
	list []objects.New // in an order in which no object comes before one that it names
	made map[objects.ID][]byte
}

// build makes the commits of chain on base (zero: a root commit) and gives their ids in order.
func (c Committer) build(base objects.ID, chain []releases.Draft) ([]objects.New, []objects.ID, error) {
	r := c.repo
	b := &builder{r: r, by: c, made: map[objects.ID][]byte{}}
	var tree objects.ID
	if !base.IsZero() {
		c, err := r.commit(base)
		if err != nil {
			return nil, nil, err
		}
		tree = c.Tree
	}
	ids := make([]objects.ID, 0, len(chain))
	for _, d := range chain {
		var err error
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
		for n < len(edits) && (edits[n].path == name || strings.HasPrefix(edits[n].path, name+"/")) {
			n++
		}
		if entries, err = b.entry(entries, name, edits[:n]); err != nil {
			return nil, err
		}
		edits = edits[n:]
	}
	return entries, nil
}

// entry makes the edits of one name: of a file, or of a folder and what is below it.
func (b *builder) entry(entries []objects.Entry, name string, edits []edit) ([]objects.Entry, error) {
	at, there := slices.BinarySearchFunc(entries, name, func(e objects.Entry, name string) int { return cmp.Compare(e.Name, name) })
	e := objects.Entry{Name: name, Mode: objects.ModeFile}
	if there {
		e = entries[at]
	}
	self := edits[0].path == name
	switch {
	case self && edits[0].data == nil && there:
		entries = slices.Delete(entries, at, at+1)
		fallthrough
	case self && edits[0].data == nil:
		if len(edits) == 1 {
			return entries, nil
		}
		return b.entry(entries, name, edits[1:])
	case self && len(edits) > 1:
		return nil, fmt.Errorf("draft changes %q both as a file and as a folder", name)
	case self && e.Mode != objects.ModeFile && e.Mode != objects.ModeExec:
		return nil, fmt.Errorf("draft writes %q, but it is no file", name)
	case self:
		e.ID = b.add(objects.Make(objects.BlobKind, edits[0].data))
	case there && !e.IsTree():
		return nil, fmt.Errorf("draft changes %q, but %q is no folder", edits[0].path, name)
	default:
		below := make([]edit, len(edits))
		for i, x := range edits {
			below[i] = edit{x.path[len(name)+1:], x.data}
		}
		children, err := b.folder(e.ID, below)
		if err != nil {
			return nil, err
		}
		switch {
		case len(children) == 0 && there: // git knows no empty folders
			return slices.Delete(entries, at, at+1), nil
		case len(children) == 0:
			return entries, nil
		}
		e.Mode = objects.ModeTree
		if e.ID, err = b.write(e.ID, children); err != nil {
			return nil, err
		}
	}
	if there {
		entries[at] = e
		return entries, nil
	}
	return slices.Insert(entries, at, e), nil
}

func (b *builder) entries(tree objects.ID) ([]objects.Entry, error) {
	if raw, ok := b.made[tree]; ok {
		return objects.ParseTree(raw, b.r.o.Limits.Entries)
	}
	return b.r.tree(tree)
}

// write adds a folder. One that is much like before travels as the difference.
func (b *builder) write(before objects.ID, entries []objects.Entry) (objects.ID, error) {
	if len(entries) > b.r.o.Limits.Entries {
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
