package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/gitrepo"
)

//go:embed all:skeleton
var skeleton embed.FS

func (a *app) initVerb() *cobra.Command {
	var bare bool
	cmd := &cobra.Command{
		Use:     "init [DIR-or-URL]",
		GroupID: groupAuthor,
		Short:   "Begin a release repository: a pipeline of two channels, staging and dedicated",
		Long: `Writes sluice.yaml, two channels and .gitattributes in one commit of yours. A folder that is no git repository
becomes one, with a worktree that follows what the engine pushes; --bare makes one without. Files that are there
already are left as they are.`,
		Example: `  sluice init releases
  sluice init --bare /srv/git/releases.git
  sluice init ssh://git@git.example/releases`,
		Args: arguments(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := "."
			if a.repo != "" {
				target = a.repo
			}
			if len(args) == 1 {
				target = args[0]
			}
			return a.begin(cmd, target, bare)
		},
	}
	cmd.Flags().BoolVar(&bare, "bare", false, "make a repository without a worktree, as git hosts have them")
	return cmd
}

func (a *app) begin(cmd *cobra.Command, target string, bare bool) error {
	ctx := cmd.Context()
	what := "init " + target
	who, err := a.author(ctx)
	if err != nil {
		return wrapFailure(what, err)
	}
	if !isRemote(target) && kindOfFolder(target) == notGit {
		return a.initNew(cmd, target, bare, who)
	}
	repo, err := a.openAt(ctx, target, committer{person: who})
	if err != nil {
		return wrapFailure(what, err)
	}
	defer repo.Close()
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	files, err := missing(repo, tip)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if files == nil {
		return fail(fmt.Errorf("%s: it is a release repository already", what), "sluice validate %s", target)
	}
	draft := releases.Draft{Message: beginning, When: time.Now().Truncate(time.Second), Files: files}
	commits, err := repo.Push(ctx, tip, []releases.Draft{draft})
	if err != nil {
		return a.pushFailure(what, repo, err)
	}
	return a.begun(target, commits[0])
}

func (a *app) begun(target, commit string) error {
	return a.wrote(written{Commit: commit, Did: "init " + target, Next: fmt.Sprintf("sluice release cut 1.0.0 --repo %s --from YOUR-KUSTOMIZE-FOLDER", target)})
}

// initNew makes a release repository of a folder that is no git repository, or is not there.
func (a *app) initNew(cmd *cobra.Command, dir string, bare bool, who releases.Person) error {
	what := "init " + dir
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fail(fmt.Errorf("%s: the folder holds files and is no git repository", what), "git -C %s init && git -C %s add -A && git -C %s commit, then again; or name an empty folder", dir, dir, dir)
	}
	files, err := missing(nil, "")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	commit, err := gitrepo.Init(cmd.Context(), dir, gitrepo.New{Bare: bare, Branch: a.branch, Files: files, Message: beginning, Author: who, When: time.Now().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return a.begun(dir, commit)
}

// beginning is the first commit's message.
const beginning = "begin a release repository\n"

// missing gives the skeleton's files that the commit lacks; nil: it has a sluice.yaml already.
func missing(repo *opened, tip string) (map[string][]byte, error) {
	var there fs.FS
	if tip != "" {
		var err error
		if there, err = repo.FS(tip); err != nil {
			return nil, err
		}
		if _, err := fs.Stat(there, "sluice.yaml"); err == nil {
			return nil, nil
		}
	}
	files := map[string][]byte{}
	err := fs.WalkDir(skeleton, "skeleton", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := skeleton.ReadFile(name)
		if err != nil {
			return err
		}
		to, err := filepath.Rel("skeleton", name)
		if err != nil {
			return err
		}
		to = filepath.ToSlash(to)
		if there != nil {
			if _, err := fs.Stat(there, to); err == nil {
				return nil
			}
		}
		files[to] = data
		return nil
	})
	return files, err
}
