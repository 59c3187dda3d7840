package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// maxDepth bounds how deep folders are nested.
const maxDepth = 64

// Changes returns the commits of tip's main line after since (empty: from the root) up to tip, oldest first, with the
// paths that the repository's Layout names. It returns releases.ErrDiverged if since is not in the main line of tip.
// Unchanged folders are not read, so the cost depends on the new commits only.
//
// A merge's paths are credited to the authors of the merged commits, of which at most 10,000 are read. Signatures are
// verified only for commits that touch one of these paths.
func (r *Repo) Changes(ctx context.Context, since, tip string) ([]releases.Change, error) {
	until, _, err := r.readNamedCommit(tip)
	if err != nil {
		return nil, fmt.Errorf("read history of %.40s: %w", tip, err)
	}
	var after objects.ID
	if since != "" {
		if after, err = objects.ParseID(since); err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
	}
	line, err := r.mainLine(ctx, until, after)
	if err != nil {
		return nil, fmt.Errorf("read history of %v: %w", until, err)
	}
	var before objects.ID
	if len(line) > 0 {
		if before, err = r.readRootTree(line[len(line)-1].parent); err != nil {
			return nil, fmt.Errorf("read history of %v: %w", until, err)
		}
	}
	list := make([]releases.Change, 0, len(line))
	for _, l := range slices.Backward(line) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read history of %v: %w", until, ctx.Err())
		}
		c, err := r.describeCommit(l, before)
		if err != nil {
			return nil, fmt.Errorf("read commit %v: %w", l.id, err)
		}
		list, before = append(list, c), l.commit.Tree
	}
	return list, nil
}

// Commits returns at most limit (0: all) commits of the main line that changed the file or folder name, newest first,
// each with that change alone.
func (r *Repo) Commits(ctx context.Context, name string, limit int) ([]releases.Change, error) {
	name = path.Clean(name)
	var list []releases.Change
	for id := r.mirror.tip(r.branch()); !id.IsZero() && (limit <= 0 || len(list) < limit); {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read history of %s: %w", name, ctx.Err())
		}
		l, err := r.readLineCommit(id)
		if err != nil {
			return nil, fmt.Errorf("read history of %s: %w", name, err)
		}
		before, err := r.readRootTree(l.parent)
		if err != nil {
			return nil, fmt.Errorf("read history of %s: %w", name, err)
		}
		old, err1 := r.lookUpPath(before, name)
		now, err2 := r.lookUpPath(l.commit.Tree, name)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("read history of %s: %w", name, err)
		}
		if old.ID != now.ID {
			ch := newChange(l)
			ch.Files = []releases.FileChange{{Path: name, Old: idOrNone(old.ID), New: idOrNone(now.ID),
				Authors: authors(l.commit)}}
			list = append(list, ch)
		}
		id = l.parent
	}
	return list, nil
}

// lookUpPath returns a tree's entry at a path; the zero entry if there is none.
func (r *mirrorReader) lookUpPath(tree objects.ID, name string) (objects.Entry, error) {
	e := objects.Entry{Mode: objects.ModeTree, ID: tree}
	for part := range strings.SplitSeq(name, "/") {
		if !e.IsTree() {
			return objects.Entry{}, nil
		}
		raw, err := r.readRawTree(e.ID)
		if err != nil {
			return e, err
		}
		var ok bool
		if e, ok, err = objects.Lookup(raw, part); err != nil || !ok {
			return objects.Entry{}, err
		}
	}
	return e, nil
}

func idOrNone(id objects.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

func newChange(l lineCommit) releases.Change {
	c := l.commit
	return releases.Change{
		Commit: l.id.String(), Parent: idOrNone(l.parent), Author: person(c.Author), Committer: person(c.Committer),
		When: c.Committer.When, Message: c.Message, Accepts: l.accepts(),
	}
}

// describeCommit describes a commit whose parent in the main line has the tree before.
func (r *mirrorReader) describeCommit(l lineCommit, before objects.ID) (releases.Change, error) {
	var err error
	ch := newChange(l)
	if ch.Files, err = r.listChanges(before, l.commit.Tree); err != nil {
		return ch, err
	}
	if len(ch.Files) == 0 {
		return ch, nil
	}
	if ch.Key, err = r.findSigner(l.id, l.commit); err != nil {
		return ch, err
	}
	var credits map[string]credit // by path
	var brought func(path string) bool
	if len(l.others) > 0 {
		if credits, brought, err = r.creditMerge(l, ch.Files); err != nil {
			return ch, err
		}
	}
	own := authors(l.commit)
	for i, f := range ch.Files {
		file, side := &ch.Files[i], credits[f.Path]
		file.Authors = union(own, side.authors)
		switch {
		case r.layout.isApproval(f):
			if file.Key, err = r.findApprover(l, side, f); err != nil {
				return ch, err
			}
		case r.layout.isApprovable(f):
			file.Authors = union(file.Authors, []releases.Person{ch.Committer})
			file.Commits = append(side.commits, releases.SignedCommit{Commit: ch.Commit, Key: ch.Key,
				MergedOnly: brought != nil && brought(f.Path)})
		}
	}
	return ch, nil
}

var coAuthor = regexp.MustCompile(`(?im)^co-authored-by:[ \t]*([^<\n]*)<([^>\n]*)>`)

// authors returns a commit's author and the people that its message credits.
func authors(c *objects.Commit) []releases.Person {
	list := []releases.Person{person(c.Author)}
	for _, m := range coAuthor.FindAllStringSubmatch(c.Message, 100) {
		list = union(list, []releases.Person{{Name: strings.TrimSpace(m[1]), Email: strings.TrimSpace(m[2])}})
	}
	return list
}

func person(i objects.Ident) releases.Person { return releases.Person{Name: i.Name, Email: i.Email} }

func union[T comparable](a, b []T) []T {
	list := a[:len(a):len(a)]
	for _, x := range b {
		if !slices.Contains(list, x) {
			list = append(list, x)
		}
	}
	return list
}

// listChanges lists the paths that Sluice reads among the differences of two root trees, sorted.
func (r *mirrorReader) listChanges(before, after objects.ID) ([]releases.FileChange, error) {
	var list []releases.FileChange
	add := func(name string, old, now objects.ID) {
		list = append(list, releases.FileChange{Path: name, Old: idOrNone(old), New: idOrNone(now)})
	}
	err := r.diffTrees(before, after, func(d objects.Difference) error { return r.addLayoutPaths(d, add) })
	slices.SortFunc(list, func(a, b releases.FileChange) int { return strings.Compare(a.Path, b.Path) })
	return list, err
}

// treeID returns the ID of an entry that is a folder; zero for any other entry.
func treeID(e objects.Entry) objects.ID {
	if e.IsTree() {
		return e.ID
	}
	return objects.ID{}
}

// fileID returns the ID of an entry that is not a folder; zero for a folder.
func fileID(e objects.Entry) objects.ID {
	if e.IsTree() {
		return objects.ID{}
	}
	return e.ID
}

func (r *mirrorReader) diffTrees(before, after objects.ID, found func(objects.Difference) error) error {
	if before == after {
		return nil
	}
	old, err1 := r.readRawTree(before)
	now, err2 := r.readRawTree(after)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return objects.Diff(old, now, found)
}

// addChangedFiles adds every file that differs at or below name.
func (r *mirrorReader) addChangedFiles(name string, before, after objects.Entry,
	add func(string, objects.ID, objects.ID), depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d folders deep", name, maxDepth)
	}
	if old, now := fileID(before), fileID(after); old != now {
		add(name, old, now)
	}
	return r.diffTrees(treeID(before), treeID(after), func(d objects.Difference) error {
		return r.addChangedFiles(name+"/"+d.Name, d.Old, d.New, add, depth+1)
	})
}

func (r *mirrorReader) addChangedIdentity(cell objects.Difference, add func(string, objects.ID, objects.ID)) error {
	const name = "identity.yaml"
	return r.diffTrees(treeID(cell.Old), treeID(cell.New), func(d objects.Difference) error {
		if old, now := fileID(d.Old), fileID(d.New); d.Name == name && old != now {
			add("cells/"+cell.Name+"/"+name, old, now)
		}
		return nil
	})
}
