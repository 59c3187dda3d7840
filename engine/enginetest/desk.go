package enginetest

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/engine/actions/desk"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/releases"
)

// Desk returns a desk that commits to the world. It calls committed after each commit, also of several goroutines, one
// at a time. The test must not use the world meanwhile.
func (w *World) Desk(committed func()) *desk.Desk {
	b := &worldBranch{world: w, committed: committed}
	return &desk.Desk{Releases: &desk.Branch[*edits.Releases]{Read: b.read, History: b,
		Committer: func(author releases.Person) edits.Repository { return worldCommitter{b, author} }}}
}

type worldBranch struct {
	mu        sync.Mutex // held while the world is used
	world     *World
	committed func()
}

func (b *worldBranch) read(context.Context) (*edits.Releases, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &edits.Releases{Files: b.world.Commits[b.world.Tip], Desired: b.world.Desired()}, nil
}

// Change implements desk.History.
func (b *worldBranch) Change(commit string) (releases.Change, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.world.Changes, func(c releases.Change) bool { return c.Commit == commit })
	if i < 0 {
		return releases.Change{}, fmt.Errorf("there is no commit %s", commit)
	}
	return b.world.Changes[i], nil
}

// Contains implements desk.History.
func (b *worldBranch) Contains(_ context.Context, commit, _ string) (bool, error) {
	_, err := b.Change(commit)
	return err == nil, nil
}

// FS implements desk.History.
func (b *worldBranch) FS(commit string) (fs.FS, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.world.Open(commit)
}

// LastTip implements desk.History.
func (b *worldBranch) LastTip() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.world.Tip
}

type worldCommitter struct {
	branch *worldBranch
	author releases.Person
}

// Push implements edits.Repository.
func (c worldCommitter) Push(_ context.Context, base string, drafts []releases.Draft) (commits []string, err error) {
	c.branch.mu.Lock()
	defer c.branch.mu.Unlock()
	w := c.branch.world
	if w.Tip != base {
		return nil, releases.ErrMoved
	}
	for _, d := range drafts {
		files := map[string]string{}
		for name, data := range d.Files {
			files[name] = string(data)
		}
		name, _, _ := strings.Cut(c.author.Email, "@")
		commits = append(commits, w.Commit(name, d.Message, files))
	}
	if c.branch.committed != nil {
		c.branch.committed()
	}
	return commits, nil
}
