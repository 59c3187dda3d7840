package cellcmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func cellEditVerb(a *cli.App) *cobra.Command {
	var d edits.ChangeCell
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change a cell's profile, values, labels or pin, or pause it",
		Long: `Changes cells/NAME/cell.yaml in one commit; all other text stays, comments included. A paused cell is
granted nothing new; rollbacks go on. Its owner's own decisions are made on the cell's machine.`,
		Example: `  sluice cell edit acme --value replicas=3 --label region=eu
  sluice cell edit acme --paused "they move house"
  sluice cell edit acme --resume`,
		Args: cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Name = args[0]
			switch {
			case d.Resume && d.Paused != "" || d.Unpin && d.Pin != "":
				return cli.UsageError(cmd, "--resume ends --paused, and --unpin ends --pin: one of each pair")
			case !d.Resume && !d.Unpin && d.Profile+d.Pin+d.Paused == "" && len(d.Values)+len(d.Labels) == 0:
				return cli.UsageError(cmd, "nothing to change is named")
			}
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Profile, "profile", "", "`PROFILE` of the release that the cell runs")
	f.StringToStringVar(&d.Values, "value", nil, "value of a parameter, `NAME=VALUE`; may be repeated")
	f.StringToStringVar(&d.Labels, "label", nil, "label, `KEY=VALUE`, that waves can select by; may be repeated")
	f.StringVar(&d.Pin, "pin", "", "the only `RELEASE` that it may be granted")
	f.BoolVar(&d.Unpin, "unpin", false, "end the pin")
	f.StringVar(&d.Paused, "paused", "", "grant it nothing new for now, and say why")
	f.BoolVar(&d.Resume, "resume", false, "end the pause")
	f.StringVar(&d.Reason, "reason", "", "reason, recorded in the commit")
	return cmd
}

func cellMoveVerb(a *cli.App) *cobra.Command {
	var d edits.ChangeCell
	cmd := &cobra.Command{
		Use:     "move NAME --to CHANNEL",
		Short:   "Move a cell to another channel",
		Example: `  sluice cell move acme --to early`,
		Args:    cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if d.Name = args[0]; d.Channel == "" {
				return cli.UsageError(cmd, "--to CHANNEL is missing")
			}
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Channel, "to", "", "`CHANNEL` to move it to")
	f.StringVar(&d.Reason, "reason", "", "reason, recorded in the commit")
	return cmd
}
