package runcmd

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/actions/desk"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// awaitRead is how long a form waits for the engine to have read the branch's tip, before it is read once more.
const awaitRead = 3 * time.Second

// extendByDesk lets people commit by the console's forms.
func extendByDesk(o *controlplane.Options, e *runningEngine, n *runningAnnouncer) {
	d := &desk.Desk{Releases: &desk.Branch[*edits.Releases]{Read: e.readReleases, Committer: committerOf(e.repo, e),
		History: e.repo, Address: e.repo.Address, Pushed: e.NotifyPush}}
	if n != nil {
		d.Flags = &desk.Branch[*edits.Flags]{Read: n.repo.ReadFlags, Committer: committerOf(n.repo, e), History: n.repo,
			Address: n.repo.Address, Pushed: n.NotifyPush}
	}
	o.Desk, o.Committer = d, e.identity.Person
}

// committerOf returns commits of the control plane for an author. They are not signed: with the engine's key, they
// would
// count as the engine's.
func committerOf(repo *repos.OpenRepository, e *runningEngine) func(releases.Person) edits.Repository {
	return func(author releases.Person) edits.Repository {
		return repo.Repo.CommitterAs(author, nil).CommittedBy(e.identity.Person)
	}
}

// readReleases returns the branch's tip: as the engine has read it or, if it does not read it now, read anew.
func (e *runningEngine) readReleases(ctx context.Context) (*edits.Releases, error) {
	tip, err := e.repo.Fetch(ctx)
	if err != nil {
		return nil, repos.FailFetch(fmt.Errorf("read the release repository: %w", err), "--repo")
	}
	files, err := e.repo.FS(tip)
	if err != nil {
		return nil, fmt.Errorf("read the release repository: %w", err)
	}
	desired := e.awaitCommit(ctx, tip)
	if desired == nil {
		if desired, err = e.repo.Loader.Load(ctx, tip); err != nil {
			return nil, fmt.Errorf("read the release repository: %w", err)
		}
	}
	return &edits.Releases{Files: files, Desired: desired}, nil
}

// awaitCommit returns what the engine read of a commit; nil: it has not read that commit.
func (e *runningEngine) awaitCommit(ctx context.Context, commit string) *plan.Desired {
	ctx, cancel := context.WithTimeout(ctx, awaitRead)
	defer cancel()
	for asked := false; ; {
		changed := e.Changed()
		if v := e.View(); v != nil && v.Desired.Commit == commit {
			return v.Desired
		}
		if !asked {
			asked = true
			e.NotifyPush()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
