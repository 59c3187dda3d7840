package gitrepo

import (
	"cmp"
	"path"
	"slices"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// maxDepth bounds how deep folders are compared. Nothing reads deeper: the folder that leads there is not read.
const maxDepth = 16

// differ lists what differs between two trees. What a commit contains never makes an error of it: a folder of the later
// tree that can't be read is unreadable, and a folder of the earlier tree that can't be read has no differences.
type differ struct {
	r          *mirrorReader
	add        func(name, old, now string) // a path that differs, with the ids of what it has
	unreadable []string                    // folders of the later tree
}

func (d *differ) diffRoots(before, after objects.ID, found func(objects.Difference) error) error {
	root := func(id objects.ID) objects.Entry { return objects.Entry{Name: ".", Mode: objects.ModeTree, ID: id} }
	return d.diffFolders(".", root(before), root(after), found)
}

// diffFolders calls found for each name that differs between two entries of that path, as far as they are folders.
func (d *differ) diffFolders(name string, before, after objects.Entry, found func(objects.Difference) error) error {
	before, after = asFolder(before), asFolder(after)
	if before.ID == after.ID {
		return nil
	}
	now, err := d.r.readRawTree(after.ID)
	if isContent(err) {
		d.unreadable = append(d.unreadable, name)
		return nil
	} else if err != nil {
		return err
	}
	old, err := d.r.readRawTree(before.ID)
	if isContent(err) {
		return nil
	} else if err != nil {
		return err
	}
	if err := d.expectOnce(name, old, now); err != nil {
		return err
	}
	var list []objects.Difference
	err = objects.Diff(old, now, func(x objects.Difference) error {
		list = append(list, x)
		return nil
	})
	if err != nil {
		return err
	}
	for _, x := range joinByName(list) {
		if err := found(x); err != nil {
			return err
		}
	}
	return nil
}

// expectOnce notes which folders of a raw tree can't be read any more because their names are there twice now.
func (d *differ) expectOnce(name string, old, now []byte) error {
	if objects.InOrder(now) {
		return nil
	}
	list, err := objects.ParseTree(now, d.r.limits.Entries)
	for i := 1; i < len(list); i++ {
		if list[i].Name != list[i-1].Name {
			continue
		}
		if was, ok, err := objects.Lookup(old, list[i].Name); err == nil && ok && was.IsTree() {
			d.unreadable = append(d.unreadable, path.Join(name, list[i].Name))
		}
	}
	return err
}

// joinByName makes one difference of those with one name. A file that became a folder has two, and so has a name of a
// tree that is not in git's order. Of a name that is there twice, either counts: FS reads neither.
func joinByName(list []objects.Difference) []objects.Difference {
	slices.SortStableFunc(list, func(a, b objects.Difference) int { return cmp.Compare(a.Name, b.Name) })
	joined := list[:0]
	for _, x := range list {
		n := len(joined) - 1
		if n < 0 || joined[n].Name != x.Name {
			joined = append(joined, x)
			continue
		}
		if !x.Old.ID.IsZero() {
			joined[n].Old = x.Old
		}
		if !x.New.ID.IsZero() {
			joined[n].New = x.New
		}
	}
	return slices.DeleteFunc(joined, func(x objects.Difference) bool {
		return x.Old.ID == x.New.ID && x.Old.Mode == x.New.Mode
	})
}

// asFolder returns e if it is a folder, else no entry.
func asFolder(e objects.Entry) objects.Entry {
	if e.IsTree() {
		return e
	}
	return objects.Entry{}
}

// addChangedFiles adds every file that differs at or below name.
func (d *differ) addChangedFiles(name string, before, after objects.Entry, depth int) error {
	if depth > maxDepth {
		return nil
	}
	d.expectFolder(name, before, after)
	if old, now := fileID(before), fileID(after); old != now {
		d.add(name, old, now)
	}
	return d.diffFolders(name, before, after, func(x objects.Difference) error {
		return d.addChangedFiles(name+"/"+x.Name, x.Old, x.New, depth+1)
	})
}

// expectFolder notes that an entry took the place of a folder, which can't be read then.
func (d *differ) expectFolder(name string, before, after objects.Entry) {
	if before.IsTree() && !after.ID.IsZero() && !after.IsTree() {
		d.unreadable = append(d.unreadable, name)
	}
}

// addLayoutPaths adds those paths of one difference between two root trees that the Layout names.
func (d *differ) addLayoutPaths(x objects.Difference) error {
	if x.Name == settings {
		if old, now := fileID(x.Old), fileID(x.New); old != now {
			d.add(x.Name, old, now)
		}
		return nil
	}
	if d.r.layout == FlagsLayout {
		if slices.Contains(flagsFolders(), x.Name) {
			return d.addChangedFiles(x.Name, x.Old, x.New, 0)
		}
		return nil
	}
	switch x.Name {
	case releases.Dir, "channels", "quarantine", "trust", "infrastructure", "cells":
		if x.Old.ID.IsZero() && !x.New.IsTree() { // not even a new one may be anything but a folder
			d.unreadable = append(d.unreadable, x.Name)
		}
	}
	switch x.Name {
	case releases.Dir:
		d.expectFolder(x.Name, x.Old, x.New)
		return d.diffFolders(x.Name, x.Old, x.New, func(x objects.Difference) error {
			old, now := idOrNone(asFolder(x.Old).ID), idOrNone(asFolder(x.New).ID)
			if old != now { // a file here is no release
				d.add(path.Join(releases.Dir, x.Name), old, now)
			}
			return nil
		})
	case "channels", "quarantine", "trust", "infrastructure":
		return d.addChangedFiles(x.Name, x.Old, x.New, 0)
	case "audit":
		return d.diffFolders(x.Name, x.Old, x.New, func(x objects.Difference) error {
			if old, now := fileID(x.Old), fileID(x.New); old != now && x.Name == "head.yaml" {
				d.add("audit/head.yaml", old, now)
			}
			return nil
		})
	case "cells":
		d.expectFolder(x.Name, x.Old, x.New)
		return d.diffFolders(x.Name, x.Old, x.New, d.addChangedCell)
	}
	return nil
}

// addChangedCell adds the files of a cell that differ.
func (d *differ) addChangedCell(cell objects.Difference) error {
	dir := "cells/" + cell.Name
	d.expectFolder(dir, cell.Old, cell.New)
	return d.diffFolders(dir, cell.Old, cell.New, func(x objects.Difference) error {
		if old, now := fileID(x.Old), fileID(x.New); old != now && slices.Contains(cellFiles(), x.Name) {
			d.add(dir+"/"+x.Name, old, now)
		}
		return nil
	})
}

func cellFiles() []string { return []string{"cell.yaml", "identity.yaml", "infrastructure.yaml"} }
