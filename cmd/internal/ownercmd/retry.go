package ownercmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// RetryVerb has the agent of this machine try again what failed.
func RetryVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry",
		Short: "Try again what failed in a cell, without a new release for all",
		Long: `A release that failed in a cell is not tried again there until the channel moves on. If what made it
fail is over, ask for another try; each request counts once.

For the cell's owner, on the cell's machine: nothing is asked of the network. The agent of
the state folder tries again within seconds, or after its next start, as the owner's own decisions allow.`,
		Example: `  sluice cell retry --state /var/lib/sluice`,
		Args:    cli.ArgumentCount(0, 0, ""),
	}
	folder := findStateFolder(a, cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
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
