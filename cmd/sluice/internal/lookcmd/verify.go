package lookcmd

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/proof"
	"github.com/sluice-cd/sluice/internal/words"
)

func VerifyVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "verify [CHANNEL|V]",
		GroupID: cli.GroupLook,
		Short:   "Verify offline what stands in a release repository, and by whose key",
		Long: `Reads the whole history of a clone, or of the repository in --repo, and lists heads, releases, approvals,
the files that owners guard and the audit's head: by whose key each of them stands, or why it does not.
SSH signatures and passkeys' assertions are verified as the engine verifies them. It asks no control plane
and, in a clone, no git host. With CHANNEL or V, a release's version, only what that rests on is listed.
It exits 1 if anything does not stand.

sluice validate finds all faults, also in files whose authors are right.`,
		Example: `  sluice verify
  sluice verify 2026.11.3 --repo https://git.example/releases
  sluice verify dedicated -o json`,
		Args: cli.ArgumentCount(0, 1, "CHANNEL or V, a release's version,"),
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
		target = cli.EnclosingFolder(ctx, a)
	}
	if !cli.IsRemote(target) {
		if _, err := os.Stat(target); err != nil {
			return found, cli.Fail(err, "--repo names a folder or a URL")
		}
		shallow, err := a.RunGit(ctx, target, "rev-parse", "--is-shallow-repository")
		if err == nil && shallow == "true" {
			return found, cli.Fail(errors.New("a shallow clone lacks the history that says what counts"),
				"git fetch --unshallow")
		}
	}
	repo, err := a.OpenLocation(ctx, a.ReleaseLocation(target), cli.CommitIdentity{})
	if err != nil {
		return found, err
	}
	defer repo.Close()
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return found, cli.FailFetch(err, target)
	}
	if tip == "" {
		return proof.Report{Claims: []proof.Claim{}}, nil
	}
	if err := repo.CheckKind(ctx, false); err != nil {
		return found, err
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

func aboutName(all proof.Report, d *plan.Desired, name string) (proof.Report, error) {
	names := cli.ChannelsAndReleases(&edits.Releases{Desired: d})
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
			cli.Text(cli.OrDash(c.Release)), cli.Coloured(cli.OrDash(cli.ShortID(c.Commit)), cli.Faint), cli.Text(by)})
	}
	a.Stdout.PrintTable([]string{"STANDS", "WHAT", "FILE", "RELEASE", "COMMIT", "BY, OR WHY NOT"}, rows)
}
