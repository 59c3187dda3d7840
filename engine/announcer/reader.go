package announcer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// reader turns commits of the flags repository into snapshots. One goroutine may use it at a time; snapshots are
// immutable.
type reader struct {
	repo           engine.Repository
	cache          manifest.Cache
	history        *history                    // nil: nothing was read yet, or reading failed
	trees          map[string]*repository.Tree // commits that records and heads named last
	valid          string                      // the newest known valid commit; empty: none
	readable       map[string]bool             // by file and object: isReadable
	checkedCommits int                         // how many of history's commits were checked for validity
}

type snapshot struct {
	// tip is the commit; valid is the newest valid commit, whose definitions are in force (fault 33); empty: none.
	tip, valid string
	height     int64
	// inForce is valid's tree, with overrides, approvals, records and heads of the tip; nil without valid.
	inForce      *repository.Tree
	tipTree      *repository.Tree            // the tip's
	withheld     []manifest.Fault            // what no owner signed at the tip (R52)
	trees        map[string]*repository.Tree // other commits, by commit
	proven       []announce.ProvenApproval
	authors      map[string][]string
	kills        map[string]string // by a stored kill's ID: the commit that contains it
	heights      map[string]int64  // by commit: all that lead to the tip
	acknowledged map[string]bool   // lost commits whose loss was accepted
}

// contains reports whether a commit is among those that lead to the tip.
func (r *snapshot) contains(commit string) bool {
	_, known := r.heights[commit]
	return known
}

func (r *reader) readSnapshot(ctx context.Context, tip string) (*snapshot, error) {
	if err := r.foldHistory(ctx, tip); err != nil {
		return nil, err
	}
	tree, err := r.loadTree(tip)
	if err != nil {
		return nil, err
	}
	h := r.history
	out := &snapshot{
		tip: tip, height: h.heights[tip], tipTree: tree, withheld: h.withheld.Faults(h.authority.Owners),
		authors: maps.Clone(h.authors), kills: maps.Clone(h.kills), heights: maps.Clone(h.heights),
		acknowledged: maps.Clone(h.acknowledged),
	}
	if err := r.resolveInForce(ctx, out); err != nil {
		return nil, err
	}
	if out.inForce != nil {
		if err := r.loadNamedCommits(out); err != nil {
			return nil, err
		}
		out.proven = h.provenApprovals(out.inForce)
	}
	return out, nil
}

// loadTree reads a commit, with its settings as they are in force there. A file that can't be in force as it is there
// stands at its last content that can (fault 33).
func (r *reader) loadTree(commit string) (*repository.Tree, error) {
	files, err := r.history.inForce(r.repo.FS)(commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", commit, err)
	}
	if tree := repository.Load(&r.cache, files); !tree.Invalid {
		return tree, nil
	}
	return r.settle(commit, files)
}

// foldHistory folds the history up to tip. It reads a diverged branch from its root; the caller decides whether to act
// upon that.
func (r *reader) foldHistory(ctx context.Context, tip string) error {
	if tip == "" {
		return errEmpty
	}
	h := r.history
	if h == nil {
		h, r.valid, r.checkedCommits = newHistory(), "", 0
	}
	r.history = nil
	changes, err := r.repo.Changes(ctx, h.tip(), tip)
	if errors.Is(err, engine.ErrDiverged) {
		h, r.valid, r.checkedCommits = newHistory(), "", 0
		changes, err = r.repo.Changes(ctx, "", tip)
	}
	if err == nil {
		err = h.advance(changes, r.repo.FS, &r.cache)
	}
	if err != nil {
		return fmt.Errorf("read history up to %s: %w", tip, err)
	}
	r.history = h
	return nil
}

var errEmpty = errors.New("it has no commits yet: sluice flag init makes the first")

// resolveInForce finds the newest valid commit, and combines its definitions and announcements with the tip's
// overrides, records, heads and approvals (fault 33, R43).
func (r *reader) resolveInForce(ctx context.Context, out *snapshot) error {
	line := r.history.commits
	for i := len(line) - 1; i >= r.checkedCommits; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		tree := out.tipTree
		if i < len(line)-1 {
			var err error
			if tree, err = r.loadTree(line[i]); err != nil {
				return err
			}
		}
		if !tree.Invalid {
			r.valid = line[i]
			break
		}
	}
	r.checkedCommits = len(line)
	if out.valid = r.valid; out.valid == "" {
		return nil
	}
	if out.valid == out.tip {
		out.inForce = out.tipTree
		return nil
	}
	valid, err := r.loadTree(out.valid)
	if err != nil {
		return err
	}
	tree := *valid
	tree.Overrides, tree.Approvals = out.tipTree.Overrides, out.tipTree.Approvals
	tree.Records, tree.Heads = recordsAndHeads(out.tipTree, &tree)
	out.inForce = &tree
	return nil
}

// recordsAndHeads returns the tip's records and heads. If a file is broken at the tip, its content in the newest valid
// commit counts: a slip takes nothing back.
func recordsAndHeads(tip, valid *repository.Tree) (map[string]map[string]repository.Record,
	map[string]repository.Head) {
	broken := map[string]bool{}
	for _, f := range tip.Faults {
		broken[f.File] = broken[f.File] || !f.Warning
	}
	records, heads := maps.Clone(tip.Records), maps.Clone(tip.Heads)
	for id, was := range valid.Records {
		of := maps.Clone(records[id])
		for channel, record := range was {
			if _, read := of[channel]; !read && broken[path.Join(repository.RecordsDir, id, channel+".yaml")] {
				if of == nil {
					of = map[string]repository.Record{}
				}
				of[channel] = record
			}
		}
		if len(of) > 0 {
			records[id] = of
		}
	}
	for channel, head := range valid.Heads {
		if _, read := heads[channel]; !read && broken[path.Join(repository.HeadsDir, channel+".yaml")] {
			heads[channel] = head
		}
	}
	return records, heads
}

// loadNamedCommits reads the commits that records and heads name. It leaves out commits that were never on the branch:
// what depends on them is off.
func (r *reader) loadNamedCommits(out *snapshot) error {
	var commits []string
	for _, of := range out.inForce.Records {
		for _, record := range of {
			commits = append(commits, record.Commit)
		}
	}
	for _, head := range out.inForce.Heads {
		commits = append(commits, head.Commit)
	}
	slices.Sort(commits)
	out.trees = map[string]*repository.Tree{}
	for _, commit := range slices.Compact(commits) {
		if !out.contains(commit) {
			continue
		}
		tree := r.trees[commit]
		if tree == nil {
			var err error
			if tree, err = r.loadTree(commit); err != nil {
				return err
			}
		}
		out.trees[commit] = tree
	}
	r.trees = out.trees
	return nil
}
