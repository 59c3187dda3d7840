package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// historyCommit is a commit of the history.
type historyCommit struct {
	id     objects.ID
	commit *objects.Commit
}

// lineCommit is a commit of a main line.
type lineCommit struct {
	historyCommit
	parent   objects.ID      // in the main line; zero: none
	others   []objects.ID    // the other parents
	merged   []historyCommit // what a merge brought to the main line, newest first
	complete bool            // there is no more than merged has
}

// readLineCommit reads a commit, and finds the parent that the main line goes on to (R51). That is the first parent,
// but for a merge made the wrong way round: it brings decisions of the engine as if they were a topic branch's, and
// the first parent has none that the other lacks. Since the engine decides on the branch's tip alone, the other parent
// is where the branch was, and the merge adds to it what the first parent has.
//
// The rule reads nothing but commits that the merge reaches. So whoever followed the branch all along and whoever reads
// it from its root agree on it.
func (r *mirrorReader) readLineCommit(id objects.ID) (lineCommit, error) {
	c, err := r.readCommit(id)
	l := lineCommit{historyCommit: historyCommit{id, c}}
	if err != nil || len(c.Parents) == 0 {
		return l, err
	}
	if l.parent, l.others = c.Parents[0], c.Parents[1:]; len(l.others) == 0 {
		return l, nil
	}
	if l.merged, l.complete, err = r.listMerged(l.parent, l.others); err != nil || !r.haveDecision(l.merged) {
		return l, err
	}
	for i, parent := range c.Parents[1:] {
		others := slices.Delete(slices.Clone(c.Parents), i+1, i+2)
		merged, complete, err := r.listMerged(parent, others)
		if err != nil {
			return l, err
		}
		if !r.haveDecision(merged) {
			l.parent, l.others, l.merged, l.complete = parent, others, merged, complete
			break
		}
	}
	return l, nil
}

// haveDecision reports whether one of the commits looks like the engine's: it says that it was decided on its parent,
// or on the base of the chain that its parent is in (R3). A copy on another parent does not look so. Whether the
// decision counts is not asked here; what a commit that only looks so can do is to have a merge read along it.
func (r *mirrorReader) haveDecision(all []historyCommit) bool {
	return slices.ContainsFunc(all, r.isDecision)
}

func (r *mirrorReader) isDecision(h historyCommit) bool {
	base := releases.Trailers(h.commit.Message, releases.BaseTrailer)
	if len(base) == 0 || len(h.commit.Parents) != 1 {
		return false
	}
	parent := h.commit.Parents[0]
	if base[0] == parent.String() {
		return true
	}
	before, err := r.readCommit(parent)
	return err == nil && slices.Equal(releases.Trailers(before.Message, releases.BaseTrailer), base)
}

// accepts lists the values of AcknowledgeTrailer in the commit, and in the commits that a merge brought.
func (l lineCommit) accepts() (values []string) {
	for _, m := range slices.Backward(l.merged) {
		values = append(values, releases.Trailers(m.commit.Message, releases.AcknowledgeTrailer)...)
	}
	return append(values, releases.Trailers(l.commit.Message, releases.AcknowledgeTrailer)...)
}

// mainLine lists the main line of tip, newest first, down to but without stop.
func (r *mirrorReader) mainLine(ctx context.Context, tip, stop objects.ID) ([]lineCommit, error) {
	var line []lineCommit
	for id := tip; id != stop; {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		l, err := r.readLineCommit(id)
		if err != nil {
			return nil, err
		}
		line = append(line, l)
		if id = l.parent; id.IsZero() && !stop.IsZero() {
			return nil, releases.ErrDiverged
		}
	}
	return line, nil
}

// Contains reports whether tip lost nothing of commit: commit is in tip's main line, or a merge brought it there
// together with the newest decision in commit's own main line (R51).
func (r *Repo) Contains(ctx context.Context, commit, tip string) (bool, error) {
	if commit == tip {
		return true, nil
	}
	until, err1 := objects.ParseID(tip)
	stop, err2 := objects.ParseID(commit)
	err := errors.Join(err1, err2)
	if err == nil {
		_, err = r.mainLine(ctx, until, stop)
	}
	if stop.IsZero() && err == nil { // no commit has the zero id
		return false, nil
	}
	contained := err == nil
	if errors.Is(err, releases.ErrDiverged) {
		contained, err = r.broughtBack(ctx, stop, until)
	}
	if err != nil {
		return false, fmt.Errorf("read history of %.40s: %w", tip, err)
	}
	return contained, nil
}

// broughtBack reports whether tip reaches commit, and has the newest decision in commit's main line in its own.
func (r *mirrorReader) broughtBack(ctx context.Context, commit, tip objects.ID) (bool, error) {
	if _, err := r.readObject(commit, objects.CommitKind); err != nil {
		return false, nil // the mirror never had it, or has it no more
	}
	missing, _, err := r.listMerged(tip, []objects.ID{commit})
	if err != nil || len(missing) > 0 {
		return false, err
	}
	for id := commit; !id.IsZero(); {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		l, err := r.readLineCommit(id)
		if err != nil {
			return false, err
		}
		if r.isDecision(l.historyCommit) {
			_, err := r.mainLine(ctx, tip, id)
			if errors.Is(err, releases.ErrDiverged) {
				return false, nil
			}
			return err == nil, err
		}
		id = l.parent
	}
	return true, nil
}
