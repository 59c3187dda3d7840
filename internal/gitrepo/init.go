package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// FollowedBranch is the setting, in the configuration of a repository with a worktree, that names the branch which the
// engine follows, whatever branch is checked out.
const FollowedBranch = "sluice.branch"

// InitOptions describes the first commit of a release repository.
type InitOptions struct {
	Bare    bool
	Branch  string            // default main
	Files   map[string][]byte // by path
	Message string
	Author  releases.Person
	When    time.Time
}

// Init makes a release repository in dir, with one commit. A repository that is not bare has the files checked out, and
// accepts pushes while its worktree is clean; they update the worktree (receive.denyCurrentBranch=updateInstead). If a
// file is in the way, or the branch exists already, Init returns an error and leaves both as they are.
func Init(ctx context.Context, dir string, n InitOptions) (commit string, err error) {
	git, err := findGit()
	if err != nil {
		return "", err
	}
	if n.Branch == "" {
		n.Branch = "main"
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("make repository: %w", err)
	}
	if commit, err = initRepository(ctx, git, dir, n); err != nil {
		return "", fmt.Errorf("make repository %s: %w", dir, err)
	}
	return commit, nil
}

func initRepository(ctx context.Context, git, dir string, n InitOptions) (string, error) {
	gitFolder := dir
	args := []string{"init", "--quiet", "--initial-branch=" + n.Branch}
	if n.Bare {
		args = append(args, "--bare")
	} else {
		gitFolder = filepath.Join(dir, ".git")
	}
	if _, err := os.Stat(filepath.Join(gitFolder, "HEAD")); err == nil {
		if id, err := readRef(gitFolder, "refs/heads/"+n.Branch); err != nil || !id.IsZero() {
			return "", errors.Join(
				fmt.Errorf("there is a git repository with a branch %s already: choose another folder", n.Branch), err)
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil { //nolint:gosec // the umask decides
		return "", err
	}
	env := append(ownGitEnv(gitFolder), "GIT_WORK_TREE="+dir)
	if n.Bare {
		env = ownGitEnv(gitFolder)
	}
	if _, err := runGit(ctx, git, env, nil, args...); err != nil {
		return "", err
	}
	store, err := objects.Open(filepath.Join(gitFolder, "objects"), Limits{}.orDefaults().Object)
	if err != nil {
		return "", err
	}
	r := &Repo{mirrorReader: mirrorReader{limits: Limits{}.orDefaults()}} // build needs nothing else for a first commit
	r.store.Store(store)
	list, ids, err := r.CommitterAs(n.Author, nil).build(objects.ID{},
		[]releases.Draft{{Message: n.Message, When: n.When, Files: n.Files}})
	if err != nil {
		return "", err
	}
	if err := store.Write(list); err != nil {
		return "", err
	}
	commit := ids[0].String()
	steps := [][]string{{"update-ref", "refs/heads/" + n.Branch, commit, ""}}
	if !n.Bare { // files first: a file in the way is found before the branch exists
		steps = [][]string{{"read-tree", "-m", "-u", commit},
			steps[0], {"config", "receive.denyCurrentBranch", "updateInstead"}, {"config", FollowedBranch, n.Branch}}
	}
	for _, args := range steps {
		if _, err := runGit(ctx, git, env, nil, args...); err != nil {
			return "", err
		}
	}
	return commit, nil
}
