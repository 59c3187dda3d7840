package gitrepo

import (
	"container/heap"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// maxSide bounds how many commits are read to find a merge's authors. Authors are claims in git; someone who hides
// behind ten thousand commits could as well use another name.
const maxSide = 10_000

// credit says who, among the authors of merged commits, wrote a path.
type credit struct {
	authors []releases.Person       // of what people approve the committers too
	commits []releases.SignedCommit // of what people approve
	last    historyCommit           // the newest of the commits
}

// creditMerge finds, by path, the authors of what a merge brought to the main line. brought reports whether a path is
// as a parent has it, and all commits that made it so were read.
func (r *mirrorReader) creditMerge(l lineCommit, files []releases.FileChange) (by map[string]credit,
	brought func(path string) bool, err error) {
	by = map[string]credit{}
	for _, f := range files {
		by[f.Path] = credit{}
	}
	own, err := r.listTouched(l.commit)
	if err != nil {
		return nil, nil, err
	}
	brought = func(path string) bool { return l.complete && !slices.Contains(own, path) }
	for _, l := range l.merged {
		touched, err := r.listTouched(l.commit)
		if err != nil {
			return nil, nil, err
		}
		for _, path := range touched {
			c, wanted := by[path]
			if !wanted {
				continue
			}
			c.authors = union(c.authors, authors(l.commit))
			if r.layout.isApprovable(releases.FileChange{Path: path}) {
				c.authors = union(c.authors, []releases.Person{person(l.commit.Committer)})
				key, err := r.findSigner(l.id, l.commit)
				if err != nil {
					return nil, nil, err
				}
				c.commits = append(c.commits, releases.SignedCommit{Commit: l.id.String(), Key: key})
			}
			if c.last.commit == nil {
				c.last = l
			}
			by[path] = c
		}
	}
	return by, brought, nil
}

// findSigner returns the key with a valid signature of the commit; empty: there is none.
func (r *mirrorReader) findSigner(id objects.ID, c *objects.Commit) (string, error) {
	if c.Signature == nil {
		return "", nil
	}
	raw, err := r.readReferenced(id, objects.CommitKind)
	if isContent(err) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return signedBy(raw, c.Signature), nil
}

// findApprover is the key that signed the very commit that wrote an approval: c or, if a parent of a merge has the file
// as the merge has it, the newest of the commits that the merge brought. Such a commit touches approvals alone (R52).
func (r *mirrorReader) findApprover(l lineCommit, side credit, f releases.FileChange) (string, error) {
	if f.New == "" {
		return "", nil
	}
	c := l.historyCommit
	for _, parent := range l.others {
		tree, err := r.readRootTree(parent)
		if err != nil {
			return "", err
		}
		e, err := r.lookUpPath(tree, f.Path)
		if err != nil {
			return "", err
		}
		if e.ID.String() != f.New {
			continue
		}
		if c = side.last; c.commit == nil {
			return "", nil
		}
		break
	}
	if c.commit.Signature == nil {
		return "", nil
	}
	if e, err := r.lookUpPath(c.commit.Tree, f.Path); err != nil || e.ID.String() != f.New {
		return "", err
	}
	if alone, err := r.approvesOnly(c.commit); err != nil || !alone {
		return "", err
	}
	return r.findSigner(c.id, c.commit)
}

// approvesOnly reports whether all that differs from every parent of c is approvals.
func (r *mirrorReader) approvesOnly(c *objects.Commit) (bool, error) {
	paths, whole, err := r.listUnlikeParents(c, func(d *differ, x objects.Difference) error {
		if x.Name != r.layout.approvalsFolder() {
			d.add(x.Name, fileID(x.Old), fileID(x.New))
			return nil
		}
		return d.addChangedFiles(x.Name, x.Old, x.New, 0)
	})
	return whole && !slices.ContainsFunc(paths, func(name string) bool {
		return !r.layout.isApproval(releases.FileChange{Path: name})
	}), err
}

// listTouched lists the paths that Sluice reads and that differ from every parent of c, as far as they can be read.
func (r *mirrorReader) listTouched(c *objects.Commit) ([]string, error) {
	paths, _, err := r.listUnlikeParents(c, (*differ).addLayoutPaths)
	return paths, err
}

// listUnlikeParents lists the paths that diff adds for the root tree of each parent of c; a root commit has one, the
// empty tree. It reports whether every folder of c that differs could be read.
func (r *mirrorReader) listUnlikeParents(c *objects.Commit,
	diff func(*differ, objects.Difference) error) (paths []string, whole bool, err error) {
	parents := c.Parents
	if len(parents) == 0 {
		parents = []objects.ID{{}}
	}
	seen := map[string]int{}
	whole = true
	for _, id := range parents {
		tree, err := r.readRootTree(id)
		if err != nil {
			return nil, false, err
		}
		d := &differ{r: r, add: func(name, _, _ string) {
			if seen[name]++; seen[name] == len(parents) {
				paths = append(paths, name)
			}
		}}
		if err := d.diffRoots(tree, c.Tree, func(x objects.Difference) error { return diff(d, x) }); err != nil {
			return nil, false, err
		}
		whole = whole && len(d.unreadable) == 0
	}
	return paths, whole, nil
}

// listMerged lists the commits that are reachable from tips and not from main, newest first, as git log
// main..tips does; complete: there are no more. Where clocks went backwards it may list some of main's too.
func (r *mirrorReader) listMerged(main objects.ID, tips []objects.ID) (commits []historyCommit, complete bool,
	err error) {
	w := historyWalk{r: r, seen: map[objects.ID]*reached{}}
	if err := w.visit(main, true); err != nil {
		return nil, false, err
	}
	for _, id := range tips {
		if err := w.visit(id, false); err != nil {
			return nil, false, err
		}
	}
	var list []*reached
	for read := 0; w.open > 0 && read < maxSide; read++ {
		c := heap.Pop(&w.queue).(*reached)
		c.queued = false
		if !c.main {
			w.open--
			list = append(list, c)
		}
		for _, id := range c.commit.Parents {
			if err := w.visit(id, c.main); err != nil {
				return nil, false, err
			}
		}
	}
	for _, c := range list {
		if !c.main { // as far as is known by now
			commits = append(commits, c.historyCommit)
		}
	}
	return commits, w.open == 0, nil
}

// historyWalk goes back in history from several commits at once, in the order of their dates.
type historyWalk struct {
	r     *mirrorReader
	seen  map[objects.ID]*reached
	queue byDate
	open  int // queued commits that main is not known to reach
}

type reached struct {
	historyCommit
	main   bool // reachable from main
	queued bool
}

func (w *historyWalk) visit(id objects.ID, main bool) error {
	c := w.seen[id]
	if c == nil {
		commit, err := w.r.readCommit(id)
		if isContent(err) {
			return nil // nor can git go on from there
		} else if err != nil {
			return err
		}
		c = &reached{historyCommit: historyCommit{id, commit}, main: main, queued: true}
		w.seen[id] = c
		heap.Push(&w.queue, c)
		if !main {
			w.open++
		}
		return nil
	}
	if main && !c.main {
		c.main = true
		if c.queued {
			w.open--
		}
	}
	return nil
}

type byDate []*reached

func (q byDate) Len() int           { return len(q) }
func (q byDate) Less(i, j int) bool { return q.when(i).After(q.when(j)) }
func (q byDate) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *byDate) Push(x any)        { *q = append(*q, x.(*reached)) }

func (q byDate) when(i int) time.Time { return q[i].commit.Committer.When }

func (q *byDate) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	*q = (*q)[:last]
	return c
}
