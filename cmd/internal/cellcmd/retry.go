package cellcmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
)

func cellRetryVerb(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "retry [NAME]",
		Short: "Try again what failed in a cell, without a new release for all",
		Long: `A release that failed in a cell is not tried again there until the channel moves on. If what made it
fail is over, ask for another try; each request counts once.

With NAME, for the vendor: a commit in your name sets retry in the cell's cell.yaml, and the engine
grants the cell its channel's head once more, as waves, windows and holds allow.

Without, for the cell's owner, on the cell's machine: nothing is asked of the network. The agent of
the state folder tries again within seconds, or after its next start, as the owner's own decisions allow.`,
		Example: `  sluice cell retry acme --reason "their database is back"
  sluice cell retry --state /var/lib/sluice`,
		Args: cli.ArgumentCount(0, 1, "[NAME]"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "reason, recorded in the commit")
	folder := findStateFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			if cmd.Flags().Changed("state") || cmd.Flags().Changed("dir") {
				return cli.UsageError(cmd, "name the cell, or its agent's folder on its own machine, not both")
			}
			return cli.CommitDecision(a, cmd, a.ReleaseRepository(), edits.RetryCell{Name: args[0], Reason: reason})
		}
		if a.DryRun {
			return cli.UsageError(cmd, "--dry-run is for the vendor's commit: name the cell")
		}
		if reason != "" {
			return cli.UsageError(cmd, "--reason is for the vendor's commit: name the cell")
		}
		state, err := folder()
		if err != nil {
			return err
		}
		tried, err := agent.RequestRetry(state)
		switch {
		case err != nil:
			return fmt.Errorf("cell retry: %w", err)
		case tried == nil:
			return cli.Fail(fmt.Errorf("cell retry: what the cell was told to run last has not failed here"),
				"sluice cell owner shows what it runs, and what it waits for")
		}
		outcome := "the agent is asked to try " + tried.Release + " again"
		return a.PrintResult(map[string]any{"said": outcome, "release": tried.Release},
			func() { a.Stdout.PrintLine("%s", outcome) })
	}
	return cmd
}
