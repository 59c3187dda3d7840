package releasecmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func ChannelVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("channel", "Add channels", "", channelAddVerb(a))
	cmd.GroupID = cli.GroupAuthor
	return cmd
}

func channelAddVerb(a *cli.App) *cobra.Command {
	var d edits.AddChannel
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a channel to the pipeline",
		Long: `Commits channels/NAME/channel.yaml. Without --after the channel takes new releases at once; with it,
those that every named channel accepted: after their cells were healthy on it for --soak or, without
that, once the rollout there is finished. The file may say more: docs/formats.md.`,
		Example: `  sluice channel add early --after staging --soak 24h
  sluice channel add lab --promote manual`,
		Args: cli.ArgumentCount(1, 1, "NAME"),
	}
	promote := "auto"
	f := cmd.Flags()
	f.StringSliceVar(&d.After, "after", nil, "upstream `CHANNEL`; may be repeated")
	cli.AddDurationFlag(f, &d.Soak, "soak", 0, "how long cells of the upstream channels must be healthy on a release")
	f.StringVar(&promote, "promote", promote, "who begins promotions: auto (the engine) or manual (a person)")
	f.StringVar(&d.Description, "description", "", "what the channel is for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d.Name, d.Manual = args[0], promote == "manual"
		if promote != "auto" && promote != "manual" {
			return cli.UsageError(cmd, "--promote %q is neither auto nor manual", promote)
		}
		return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
	}
	return cmd
}
