package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/biggit"
	"github.com/sluice-cd/sluice/test/figures"
)

const pushCount = 40

// copyRepository returns a copy of a large repository, which may be pushed to.
func copyRepository(ctx context.Context, dir string, s biggit.Shape) (string, error) {
	root := filepath.Join(os.TempDir(), "sluice-bench")
	if err := os.MkdirAll(root, 0o755); err != nil { //nolint:gosec // nothing secret
		return "", err
	}
	made, err := biggit.CachedRepository(ctx, root, s)
	if err != nil {
		return "", err
	}
	repo := filepath.Join(dir, fmt.Sprintf("%d.git", time.Now().UnixNano()))
	return repo, os.CopyFS(repo, os.DirFS(made))
}

// measurePromotion compares Sluice's way to commit and push with the git command's.
func measurePromotion(ctx context.Context, dir string) ([]figures.Row, error) {
	standard, err := timeBoth(ctx, dir, biggit.Standard)
	if err != nil {
		return nil, err
	}
	long, err := timeBoth(ctx, dir, biggit.Long)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.TimeRow("build a promotion's commit, 2,000 releases, 5,000 commits", standard.build, "git, 5 processes",
			standard.gitBuild, 0.1),
		figures.TimeRow("build and push it to a bare repository on disk", standard.push, "git", standard.gitPush, 0.5),
		figures.TimeRow("build and push, ten times the history", long.push, "5,000 commits", standard.push, 1.2),
	}, nil
}

type medians struct{ build, push, gitBuild, gitPush time.Duration }

// timeBoth alternates between both on one shape, so that a slow moment of the machine affects both.
func timeBoth(ctx context.Context, dir string, s biggit.Shape) (medians, error) {
	ours, err := copyRepository(ctx, dir, s)
	if err != nil {
		return medians{}, err
	}
	theirs, err := newGitCLI(ctx, dir, s)
	if err != nil {
		return medians{}, err
	}
	repo, err := gitrepo.Open(ctx, ours, gitrepo.Options{Mirror: ours + ".mirror"})
	if err != nil {
		return medians{}, err
	}
	defer repo.Close() //nolint:errcheck // temporary
	base, err := repo.Fetch(ctx)
	if err != nil {
		return medians{}, err
	}
	var build, push, gitBuild, gitPush []time.Duration
	measure := func(into *[]time.Duration, f func() error) error {
		begin := time.Now()
		err := f()
		*into = append(*into, time.Since(begin))
		return err
	}
	for i := range pushCount {
		err := measure(&build, func() error {
			pack, err := repo.Pack(base, []releases.Draft{promotionDraft(i)})
			if err != nil {
				return err
			}
			return os.WriteFile(ours+".pack", pack, 0o600) // git writes its objects to disk, too
		})
		if err != nil {
			return medians{}, err
		}
		err = measure(&push, func() error {
			commits, err := repo.Push(ctx, base, []releases.Draft{promotionDraft(i)})
			if err == nil {
				base = commits[0]
			}
			return err
		})
		if err != nil {
			return medians{}, err
		}
		next := ""
		if err := measure(&gitBuild, func() (err error) { next, err = theirs.commit(ctx, i); return err }); err != nil {
			return medians{}, err
		}
		if err := measure(&gitPush, func() error { return theirs.push(ctx, next) }); err != nil {
			return medians{}, err
		}
		gitPush[i] += gitBuild[i]
	}
	for _, all := range [][]time.Duration{build, push, gitBuild, gitPush} {
		slices.Sort(all)
	}
	return medians{figures.Median(build), figures.Median(push), figures.Median(gitBuild), figures.Median(gitPush)}, nil
}

func promotionDraft(i int) releases.Draft {
	return releases.Draft{
		Message: fmt.Sprintf("promote %d", i), When: time.Now(),
		Files: map[string][]byte{
			"channels/channel-007/head.yaml":     fmt.Appendf(nil, "release: 2026.1.%d\nsequence: %d\n", i, i),
			"channels/channel-007/decision.json": fmt.Appendf(nil, "{\"now\": %d}\n", i),
		},
	}
}

// gitCLI commits and pushes by the git command, with as few processes as possible.
type gitCLI struct{ repo, clone, folder, base string }

func newGitCLI(ctx context.Context, dir string, s biggit.Shape) (*gitCLI, error) {
	repo, err := copyRepository(ctx, dir, s)
	if err != nil {
		return nil, err
	}
	c := &gitCLI{repo: repo, clone: repo + ".clone", folder: repo + ".files"}
	if err := os.MkdirAll(c.folder, 0o755); err != nil { //nolint:gosec // nothing secret
		return nil, err
	}
	if _, err := c.run(ctx, "", "clone", "-q", "--bare", "--no-hardlinks", repo, c.clone); err != nil {
		return nil, err
	}
	c.base, err = c.run(ctx, "", "-C", repo, "rev-parse", biggit.Branch)
	return c, err
}

// commit runs hash-object, read-tree, update-index, write-tree and commit-tree.
func (c *gitCLI) commit(ctx context.Context, i int) (string, error) {
	var paths, files []string
	for name, data := range promotionDraft(i).Files {
		file := filepath.Join(c.folder, filepath.Base(name))
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return "", err
		}
		paths, files = append(paths, name), append(files, file)
	}
	ids, err := c.run(ctx, "", append([]string{"hash-object", "-w", "--no-filters"}, files...)...)
	if err != nil {
		return "", err
	}
	var info strings.Builder
	for j, id := range strings.Fields(ids) {
		fmt.Fprintf(&info, "100644 %s\t%s\n", id, paths[j])
	}
	if _, err := c.run(ctx, "", "read-tree", c.base); err != nil {
		return "", err
	}
	if _, err := c.run(ctx, info.String(), "update-index", "--index-info"); err != nil {
		return "", err
	}
	tree, err := c.run(ctx, "", "write-tree")
	if err != nil {
		return "", err
	}
	return c.run(ctx, "", "commit-tree", tree, "-p", c.base, "-m", promotionDraft(i).Message)
}

func (c *gitCLI) push(ctx context.Context, next string) error {
	_, err := c.run(ctx, "", "push", "-q", "--force-with-lease="+biggit.Branch+":"+c.base, c.repo,
		next+":refs/heads/"+biggit.Branch)
	c.base = next
	return err
}

func (c *gitCLI) run(ctx context.Context, in string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_INDEX_FILE="+c.folder+"/index",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A",
		"GIT_COMMITTER_EMAIL=a@example.com")
	if args[0] != "clone" && args[0] != "-C" {
		cmd.Env = append(cmd.Env, "GIT_DIR="+c.clone)
	}
	cmd.Stdin = strings.NewReader(in)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, complaint.String())
	}
	return strings.TrimSpace(out.String()), nil
}
