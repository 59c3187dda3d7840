package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// Changes returns the commits of tip's main line after since (empty: from the root) up to tip, oldest first, with the
// paths that the repository's Layout names, and the folders among them that can't be read. It returns
// releases.ErrDiverged if since is not in the main line of tip. Unchanged folders are not read, so the cost depends on
// the new commits only.
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

// Change returns one commit, against its parent in the main line.
func (r *Repo) Change(commit string) (releases.Change, error) {
	id, _, err := r.readNamedCommit(commit)
	if err != nil {
		return releases.Change{}, fmt.Errorf("read commit %.40s: %w", commit, err)
	}
	l, err := r.readLineCommit(id)
	if err != nil {
		return releases.Change{}, fmt.Errorf("read commit %v: %w", id, err)
	}
	before, err := r.readRootTree(l.parent)
	if err != nil {
		return releases.Change{}, fmt.Errorf("read commit %v: %w", id, err)
	}
	return r.describeCommit(l, before)
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

// lookUpPath returns a tree's entry at a path; the zero entry if there is none, or a folder on the way can't be read.
func (r *mirrorReader) lookUpPath(tree objects.ID, name string) (objects.Entry, error) {
	e := objects.Entry{Mode: objects.ModeTree, ID: tree}
	for part := range strings.SplitSeq(name, "/") {
		if !e.IsTree() {
			return objects.Entry{}, nil
		}
		raw, err := r.readRawTree(e.ID)
		if isContent(err) {
			return objects.Entry{}, nil
		} else if err != nil {
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
	if ch.Files, ch.Unreadable, err = r.listChanges(before, l.commit.Tree); err != nil {
		return ch, err
	}
	if len(ch.Files) == 0 && len(ch.Unreadable) == 0 {
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

var coAuthor = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?im)^co-authored-by:[ \t]*([^<\n]*)<([^>\n]*)>`)
})

// authors returns a commit's author and the people that its message credits.
func authors(c *objects.Commit) []releases.Person {
	list := []releases.Person{person(c.Author)}
	for _, m := range coAuthor().FindAllStringSubmatch(c.Message, 100) {
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

// listChanges lists the paths that Sluice reads among the differences of two root trees, sorted, and the folders that
// can't be read in the later one.
func (r *mirrorReader) listChanges(before, after objects.ID) ([]releases.FileChange, []string, error) {
	var list []releases.FileChange
	d := differ{r: r, add: func(name, old, now string) {
		list = append(list, releases.FileChange{Path: name, Old: old, New: now})
	}}
	err := d.diffRoots(before, after, d.addLayoutPaths)
	slices.SortFunc(list, func(a, b releases.FileChange) int { return strings.Compare(a.Path, b.Path) })
	return list, d.unreadable, err
}

// fileID identifies what an entry has that is not a folder; empty: it is a folder, or there is none. What is no file,
// such as a link, differs from the file with the same bytes.
func fileID(e objects.Entry) string {
	switch {
	case e.IsTree() || e.ID.IsZero():
		return ""
	case e.Mode == objects.ModeFile || e.Mode == objects.ModeExec:
		return e.ID.String()
	}
	return fmt.Sprintf("%o %v", uint32(e.Mode), e.ID)
}
