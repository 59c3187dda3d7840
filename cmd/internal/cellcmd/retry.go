package cellcmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/ownercmd"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

// cellRetryVerb is the owner's verb and, with the name of a cell, the vendor's.
func cellRetryVerb(a *cli.App) *cobra.Command {
	var reason string
	cmd := ownercmd.RetryVerb(a)
	cmd.Use, cmd.Args = "retry [NAME]", cli.ArgumentCount(0, 1, "[NAME]")
	cmd.Long = `A release that failed in a cell is not tried again there until the channel moves on. If what made it
fail is over, ask for another try; each request counts once.

With NAME, for the vendor: a commit in your name sets retry in the cell's cell.yaml, and the engine
grants the cell its channel's head once more, as waves, windows and holds allow.

Without, for the cell's owner, on the cell's machine: nothing is asked of the network. The agent of
the state folder tries again within seconds, or after its next start, as the owner's own decisions allow.`
	cmd.Example = `  sluice cell retry acme --reason "their database is back"
  sluice cell retry --state /var/lib/sluice`
	cmd.Flags().StringVar(&reason, "reason", "", "reason, recorded in the commit")
	asOwner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 1 && (cmd.Flags().Changed("state") || cmd.Flags().Changed("dir")):
			return cli.UsageError(cmd, "name the cell, or its agent's folder on its own machine, not both")
		case len(args) == 1:
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(),
				edits.RetryCell{Name: args[0], Reason: reason})
		case a.DryRun:
			return cli.UsageError(cmd, "--dry-run is for the vendor's commit: name the cell")
		case reason != "":
			return cli.UsageError(cmd, "--reason is for the vendor's commit: name the cell")
		}
		return asOwner(cmd, args)
	}
	return cmd
}
