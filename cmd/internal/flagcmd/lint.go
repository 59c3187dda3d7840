package flagcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

func flagLintVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "lint [DIR-or-URL]",
		Short: "Find every fault in a flags repository",
		Long: `Reads every file strictly and prints one fault a line, as "file:line: fault"; exits 1 if there is any.
Warnings are printed, and don't count. A folder or a worktree is read as it is, so that an editor or
CI can check uncommitted changes; of a bare repository or a URL, the tip of the branch is read.
Without an argument, the working folder is read.

With the release repository (--repo or $SLUICE_REPO), lint also warns of features that no release
contains, and of channels and cells that do not exist.

Git hosts can refuse a push that brings a fault in: use sluice validate --pre-receive, as for a
release repository.`,
		Example: `  sluice flag lint
  sluice flag lint https://git.example/flags -o json`,
		Args: cli.ArgumentCount(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := a.FlagsRepo
			if len(args) == 1 {
				target = args[0]
			}
			if target == "" {
				target = repos.EnclosingFolder(cmd.Context(), a)
			}
			what := "flag lint " + target
			if !repos.IsRemote(target) && repos.FindFolderKind(target) != repos.BareGit {
				if _, err := os.Stat(target); err != nil {
					return cli.Fail(fmt.Errorf("%s: %w", what, err), "name a folder or a URL")
				}
				if !repos.IsFlags(os.DirFS(target)) {
					return cli.Fail(fmt.Errorf("%s: %w", what, errNotFlags),
						"name its folder; sluice flag init makes one")
				}
			}
			v, err := namedReleasesView(cmd.Context(), a, cmd)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			tree, err := loadFlagsTree(cmd.Context(), a, target)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return cli.PrintFaults(a, manifest.Sort(slices.Concat(tree.Faults, releaseWarnings(tree, v))))
		},
	}
}

// loadFlagsTree reads a folder as it is, or the tip of a repository's branch.
func loadFlagsTree(ctx context.Context, a *cli.App, target string) (*repository.Tree, error) {
	if !repos.IsRemote(target) && repos.FindFolderKind(target) != repos.BareGit {
		if repos.FindFolderKind(target) == repos.Worktree {
			if err := repos.CheckWorktree(ctx, a, target); err != nil {
				return nil, err
			}
		}
		return repository.Load(nil, os.DirFS(target)), nil
	}
	repo, err := repos.OpenLocation(ctx, a, repos.FlagsLocation(a, target), repos.CommitIdentity{})
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	s, err := repo.ReadFlags(ctx)
	if err != nil {
		return nil, err
	}
	s.Tree.Faults = append(s.Tree.Faults, s.Withheld...)
	return s.Tree, nil
}

// releaseWarnings returns warnings about names that the release repository does not know; a nil view: none.
func releaseWarnings(tree *repository.Tree, v *view.View) []manifest.Fault {
	if v == nil {
		return nil
	}
	in := announcer.FleetInput(v)
	in.Tip, in.Releases = tree, nil
	for _, r := range v.Desired.Versions { // including those that no channel has yet
		in.Releases = append(in.Releases, announce.Release{Version: r.Version.String(), Features: r.Features})
	}
	return slices.DeleteFunc(announce.Make(in).Faults, func(f manifest.Fault) bool { return !f.Warning })
}

var errNotFlags = errors.New("not a flags repository: no sluice.yaml there says kind: Flags")
