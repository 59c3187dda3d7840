package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

//go:embed all:skeleton all:flagskeleton
var skeletons embed.FS

// kind is a kind of repository, as one begins.
type kind struct {
	name     string // in messages
	skeleton string // the folder of skeletons
	verb     string // that begins one
	next     string // what to do then; %s: where it is
}

var releaseKind = kind{"release repository", "skeleton", "init", "sluice release cut 1.0.0 --repo %s --from YOUR-KUSTOMIZE-FOLDER"}

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
			return a.begin(cmd, releaseKind, a.releasePlace(target), bare)
		},
	}
	cmd.Flags().BoolVar(&bare, "bare", false, "make a repository without a worktree, as git hosts have them")
	return cmd
}

// begin makes a repository at a place, or makes one of what is there.
func (a *app) begin(cmd *cobra.Command, k kind, at place, bare bool) error {
	ctx := cmd.Context()
	what := k.verb + " " + at.address
	who, err := a.author(ctx)
	if err != nil {
		return wrapFailure(what, err)
	}
	if !isRemote(at.address) && kindOfFolder(at.address) == notGit {
		return a.beginNew(cmd, k, at, bare, who)
	}
	repo, err := a.openAt(ctx, at, committer{person: who})
	if err != nil {
		return wrapFailure(what, err)
	}
	defer repo.Close()
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	files, err := k.missing(repo, tip)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if files == nil {
		return fail(fmt.Errorf("%s: it is a %s already, or another kind of repository", what, k.name), "sluice validate %s, or name another", at.address)
	}
	draft := releases.Draft{Message: k.beginning(), When: time.Now().Truncate(time.Second), Files: files}
	commits, err := repo.Push(ctx, tip, []releases.Draft{draft})
	if err != nil {
		return a.pushFailure(what, repo, err)
	}
	return a.begun(k, at, commits[0])
}

func (a *app) begun(k kind, at place, commit string) error {
	return a.wrote(written{Commit: commit, Did: k.verb + " " + at.address, Next: fmt.Sprintf(k.next, at.address)})
}

// beginNew makes a repository of a folder that is no git repository, or is not there.
func (a *app) beginNew(cmd *cobra.Command, k kind, at place, bare bool, who releases.Person) error {
	what, dir := k.verb+" "+at.address, at.address
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fail(fmt.Errorf("%s: the folder holds files and is no git repository", what), "git -C %s init && git -C %s add -A && git -C %s commit, then again; or name an empty folder", dir, dir, dir)
	}
	files, err := k.missing(nil, "")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	commit, err := gitrepo.Init(cmd.Context(), dir, gitrepo.New{Bare: bare, Branch: at.branch, Files: files, Message: k.beginning(), Author: who, When: time.Now().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return a.begun(k, at, commit)
}

// beginning is the first commit's message.
func (k kind) beginning() string { return "begin a " + k.name + "\n" }

// missing gives the skeleton's files that the commit lacks; nil: it has a sluice.yaml already.
func (k kind) missing(repo *opened, tip string) (map[string][]byte, error) {
	var there fs.FS
	if tip != "" {
		var err error
		if there, err = repo.FS(tip); err != nil {
			return nil, err
		}
		if exists(there, "sluice.yaml") {
			return nil, nil
		}
	}
	files, err := readAll(skeletons, k.skeleton)
	for name := range files {
		if there != nil && exists(there, name) {
			delete(files, name)
		}
	}
	return files, err
}
