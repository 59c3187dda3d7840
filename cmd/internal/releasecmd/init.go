package releasecmd

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

//go:embed all:skeleton all:flagskeleton
var skeletons embed.FS

// repositoryKind describes how one kind of repository begins.
type repositoryKind struct {
	name     string // in messages
	skeleton string // folder in skeletons
	verb     string // the verb that makes it
	next     string // next step; %s: the address
}

var releaseKind = repositoryKind{"release repository", "skeleton", "init",
	"sluice release cut 1.0.0 --repo %s --from YOUR-KUSTOMIZE-FOLDER"}

func InitVerb(a *cli.App) *cobra.Command {
	var bare bool
	cmd := &cobra.Command{
		Use:     "init [DIR-or-URL]",
		GroupID: cli.GroupAuthor,
		Short:   "Create a release repository with two channels, staging and dedicated",
		Long: `Writes sluice.yaml, two channels and .gitattributes in one commit in your name. Staging takes every
release at once; dedicated follows when staging's cells were healthy on it for 10 seconds, which
channels/dedicated/channel.yaml lengthens. A folder that is not
a git repository becomes one, with a worktree that follows what the engine pushes; --bare makes one
without a worktree. Existing files are left as they are.`,
		Example: `  sluice init releases
  sluice init --bare /srv/git/releases.git
  sluice init ssh://git@git.example/releases`,
		Args: cli.ArgumentCount(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := cmp.Or(a.Repo, ".")
			if len(args) == 1 {
				target = args[0]
			}
			return initRepository(a, cmd, releaseKind, repos.ReleaseLocation(a, target), bare)
		},
	}
	cmd.Flags().BoolVar(&bare, "bare", false, "make a repository without a worktree, as git hosts have them")
	return cmd
}

// initRepository commits the skeleton to a repository, or makes one in a folder.
func initRepository(a *cli.App, cmd *cobra.Command, k repositoryKind, at repos.Location, bare bool) error {
	ctx := cmd.Context()
	what := k.verb + " " + at.Address
	who, err := repos.FindAuthor(ctx, a)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !repos.IsRemote(at.Address) && repos.FindFolderKind(at.Address) == repos.NotGit {
		return initFolder(a, cmd, k, at, bare, who)
	}
	repo, err := repos.OpenLocation(ctx, a, at, repos.CommitIdentity{})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer repo.Close()
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	files, err := k.missingFiles(repo, tip)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if files == nil {
		return cli.Fail(fmt.Errorf("%s: it is a %s already, or another kind of repository", what, k.name),
			"sluice validate %s, or name another", words.Shell(at.Address))
	}
	if a.DryRun {
		return repos.ShowCommit(a, who, what, k.firstMessage(), nil, files)
	}
	draft := releases.Draft{Message: k.firstMessage(), When: time.Now().Truncate(time.Second), Files: files}
	commits, err := repo.CommitterAs(who, nil).Push(ctx, tip, []releases.Draft{draft})
	if err != nil {
		return fmt.Errorf("%s: %w", what, edits.PushError(err, at.Address))
	}
	return printInit(a, k, at, commits[0])
}

func printInit(a *cli.App, k repositoryKind, at repos.Location, commit string) error {
	return repos.PrintDone(a, edits.Result{Commit: commit, Summary: k.verb + " " + at.Address,
		Next: fmt.Sprintf(k.next, words.Shell(at.Address))})
}

// initFolder makes a repository in a folder that is empty or does not exist.
func initFolder(a *cli.App, cmd *cobra.Command, k repositoryKind, at repos.Location, bare bool,
	who releases.Person) error {
	what, dir := k.verb+" "+at.Address, at.Address
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return cli.Fail(fmt.Errorf("%s: the folder holds files and is not a git repository", what),
			"git -C %[1]s init && git -C %[1]s add -A && git -C %[1]s commit, then again; or name an empty folder",
			words.Shell(dir))
	}
	files, err := k.missingFiles(nil, "")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if a.DryRun {
		return repos.ShowCommit(a, who, what, k.firstMessage(), nil, files)
	}
	commit, err := gitrepo.Init(cmd.Context(), dir,
		gitrepo.InitOptions{Bare: bare, Branch: at.Branch, Files: files, Message: k.firstMessage(), Author: who,
			When: time.Now().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return printInit(a, k, at, commit)
}

func (k repositoryKind) firstMessage() string { return "begin a " + k.name + "\n" }

// missingFiles returns the skeleton's files that the commit lacks; nil: it has a sluice.yaml already.
func (k repositoryKind) missingFiles(repo *repos.OpenRepository, tip string) (map[string][]byte, error) {
	files, err := repos.ReadFolder(skeletons, k.skeleton)
	if tip == "" || err != nil {
		return files, err
	}
	there, err := repo.FS(tip)
	if err != nil {
		return nil, err
	}
	for name := range files {
		switch _, err := fs.Stat(there, name); {
		case err == nil && name == "sluice.yaml":
			return nil, nil
		case err == nil:
			delete(files, name)
		}
	}
	return files, nil
}

var flagsKind = repositoryKind{"flags repository", "flagskeleton", "flag init",
	"sluice flag set KEY --new --flags-repo %s; sluice serve takes it with --flags-repo"}

func FlagInitVerb(a *cli.App) *cobra.Command {
	var bare bool
	cmd := &cobra.Command{
		Use:   "init [DIR-or-URL]",
		Short: "Create a flags repository",
		Long: `Writes sluice.yaml in one commit in your name. A folder that is not a git repository becomes one,
with a worktree that follows what the engine pushes; --bare makes one without a worktree.`,
		Example: `  sluice flag init flags
  sluice flag init --bare /srv/git/flags.git`,
		Args: cli.ArgumentCount(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := cmp.Or(a.FlagsRepo, ".")
			if len(args) == 1 {
				target = args[0]
			}
			return initRepository(a, cmd, flagsKind, repos.FlagsLocation(a, target), bare)
		},
	}
	cmd.Flags().BoolVar(&bare, "bare", false, "make a repository without a worktree, as git hosts have them")
	return cmd
}
