package lookcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/proof"
	"github.com/sluice-cd/sluice/internal/words"
)

func VerifyVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "verify [CHANNEL|V|ANNOUNCEMENT]",
		GroupID: cli.GroupLook,
		Short:   "Verify offline what stands in a repository, and by whose key",
		Long: `Reads the whole history of a clone, or of the repository in --repo, and lists heads, releases, approvals,
the files that owners guard and the audit's head: by whose key each of them stands, or why it does not.
Of a flags repository it lists the approvals of announcements, and sluice.yaml if owners guard it.
SSH signatures and passkeys' assertions are verified as the engine verifies them. It asks no control plane
and, in a clone, no git host. With CHANNEL, V (a release's version) or ANNOUNCEMENT, only what that rests
on is listed. It exits 1 if anything does not stand.

sluice validate finds all faults, also in files whose authors are right.`,
		Example: `  sluice verify
  sluice verify 2026.11.3 --repo https://git.example/releases
  sluice verify dedicated -o json
  sluice verify classes --repo https://git.example/flags`,
		Args: cli.ArgumentCount(0, 1, "CHANNEL, V or ANNOUNCEMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := verifyRepository(cmd, a, args)
			if err != nil {
				return fmt.Errorf("verify: %w", err)
			}
			err = a.PrintResult(found, func() { printProof(a, found) })
			if n := found.Fallen(); err == nil && n > 0 {
				err = fmt.Errorf("%d of %s do not stand", n, words.Count(len(found.Claims), "claim"))
			}
			return err
		},
	}
}

func verifyRepository(cmd *cobra.Command, a *cli.App, args []string) (found proof.Report, err error) {
	ctx := cmd.Context()
	target := a.Repo
	if target == "" {
		target = a.Getenv("SLUICE_REPO")
	}
	if target == "" {
		target = repos.EnclosingFolder(ctx, a)
	}
	if !repos.IsRemote(target) {
		if _, err := os.Stat(target); err != nil {
			return found, cli.Fail(err, "--repo names a folder or a URL")
		}
		shallow, err := repos.RunGit(ctx, a, target, "rev-parse", "--is-shallow-repository")
		if err == nil && shallow == "true" {
			return found, cli.Fail(errors.New("a shallow clone lacks the history that says what counts"),
				"git fetch --unshallow")
		}
	}
	repo, err := repos.OpenLocation(ctx, a, repos.ReleaseLocation(a, target), repos.CommitIdentity{})
	if err != nil {
		return found, err
	}
	defer repo.Close()
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return found, repos.FailFetch(err, target)
	}
	if tip == "" {
		return proof.Report{Claims: []proof.Claim{}}, nil
	}
	files, err := repo.FS(tip)
	switch {
	case err != nil:
		return found, err
	case repos.IsFlags(files):
		return verifyFlags(ctx, a, target, args)
	}
	repo.Loader.AllReleases = true
	d, err := repo.Loader.Load(ctx, tip)
	if err != nil {
		return found, err
	}
	changes, err := repo.Changes(ctx, "", tip)
	if err != nil {
		return found, err
	}
	if found = proof.Of(d, changes); len(args) == 0 {
		return found, nil
	}
	return aboutName(found, d, args[0])
}

// verifyFlags reports on the flags repository at an address.
func verifyFlags(ctx context.Context, a *cli.App, address string, args []string) (found proof.Report, err error) {
	at := repos.FlagsLocation(a, address)
	at.Branch = a.Branch
	repo, err := repos.OpenLocation(ctx, a, at, repos.CommitIdentity{})
	if err != nil {
		return found, err
	}
	defer repo.Close()
	s, err := repo.ReadFlags(ctx)
	if err != nil {
		return found, err
	}
	read, err := announcer.ReadProof(ctx, repo.Repo, s.Commit)
	if err != nil {
		return found, err
	}
	changes, err := repo.Changes(ctx, "", s.Commit)
	if err != nil {
		return found, err
	}
	found = proof.OfFlags(proof.Flags{Commit: s.Commit, Tree: s.Tree, Approvals: read.Approvals, Authors: read.Authors,
		Withheld: read.Withheld, Owners: read.Owners}, changes)
	if len(args) == 0 {
		return found, nil
	}
	if _, err := s.Announcement(args[0]); err != nil {
		return found, err
	}
	return found.About(args[0]), nil
}

func aboutName(all proof.Report, d *plan.Desired, name string) (proof.Report, error) {
	names := repos.ChannelsAndReleases(&edits.Releases{Desired: d})
	if !slices.Contains(names, name) && d.Releases[name] == nil {
		return all, cli.Fail(errors.New("neither a channel nor a release has that name"+words.DidYouMean(name, names)),
			"sluice release list lists releases")
	}
	return all.About(name), nil
}

func printProof(a *cli.App, found proof.Report) {
	rows := make([][]cli.Field, 0, len(found.Claims))
	for _, c := range found.Claims {
		stands, by := cli.Coloured("yes", cli.Green), c.By
		if !c.Stands {
			stands, by = cli.Coloured("NO", cli.Red), c.Why
		}
		rows = append(rows, []cli.Field{stands, cli.Text(string(c.Kind)), cli.Text(c.File),
			cli.Text(cli.OrDash(cmp.Or(c.Release, c.Announcement))),
			cli.Coloured(cli.OrDash(cli.ShortID(c.Commit)), cli.Faint), cli.Text(by)})
	}
	a.Stdout.PrintTable([]string{"STANDS", "WHAT", "FILE", "OF", "COMMIT", "BY, OR WHY NOT"}, rows)
}
