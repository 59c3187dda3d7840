package lookcmd

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
)

func WaitVerb(a *cli.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "wait CHANNEL [V]",
		GroupID: cli.GroupLook,
		Short:   "Wait until a release is healthy in the cells of a channel",
		Long: `Waits until the channel has release V (without V, the head that it has now) and the release has
reached the cells that it is for. What it waits for is told on standard error as it changes. Ends
with 0 when that is done, with 1 if the channel goes back, is past the release or can't take it, and
with 3 after --timeout. What cells run is asked of the control plane, or read from its store.`,
		Example: `  sluice wait dedicated 2026.11.3 --server http://127.0.0.1:7600`,
		Args:    cli.ArgumentCount(1, 2, "CHANNEL and V, a release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			version := ""
			if len(args) == 2 {
				version = args[1]
			}
			return repos.AwaitRollout(a, cmd, "wait for "+args[0], args[0], version, timeout)
		},
	}
	cli.AddDurationFlag(cmd.Flags(), &timeout, "timeout", 10*time.Minute, "how long to wait")
	client.AddServerFlag(a, cmd)
	return cmd
}
