package decidecmd

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func HoldVerb(a *cli.App) *cobra.Command {
	var d edits.Hold
	lift, all := false, false
	cmd := &cobra.Command{
		Use:     "hold CHANNEL|--all --reason WHY | CHANNEL --lift [ID] | --all --lift",
		GroupID: cli.GroupDecide,
		Short:   "Stop everything but rollbacks in a channel, until somebody lifts the hold",
		Long: `Commits channels/CHANNEL/holds/ID.yaml: nothing is promoted or granted until the file is removed.
With --cell, only grants to those cells stop. --lift removes the hold; its ID is needed only if
there are several (with --cell, several of just those cells). Holds that the engine set after a
rollback or a halt are lifted the same way. --all stops every channel in one commit, and with --lift
it ends that; other holds stay.`,
		Example: `  sluice hold dedicated --reason "incident 512"
  sluice hold dedicated --cell acme --reason "their trade fair"
  sluice hold dedicated --lift
  sluice hold --all --reason "incident 512"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return cli.ArgumentCount(0, 0, "")(cmd, args)
			}
			return cli.ArgumentCount(1, 2, "CHANNEL (or --all)")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				return holdAll(a, cmd, d, lift)
			}
			d.Channel = args[0]
			switch {
			case lift && len(args) == 2 && d.ID != "" && d.ID != args[1]:
				return cli.UsageError(cmd, "name one hold: %s or --id %s", args[1], d.ID)
			case lift:
				if len(args) == 2 {
					d.ID = args[1]
				}
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), edits.LiftHold(d))
			case len(args) == 2:
				return cli.UsageError(cmd, "unexpected argument %q; to lift a hold: --lift", args[1])
			case d.Reason == "":
				return cli.UsageError(cmd, "--reason is missing")
			}
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Reason, "reason", "", "reason, shown to everyone it affects")
	f.StringVar(&d.ID, "id", "", "ID of the hold (default: made from the time)")
	f.StringSliceVar(&d.Cells, "cell", nil, "hold only this `CELL`; may be repeated")
	f.BoolVar(&lift, "lift", false, "remove the hold")
	f.BoolVar(&all, "all", false, "hold every channel")
	return cmd
}

func holdAll(a *cli.App, cmd *cobra.Command, d edits.Hold, lift bool) error {
	switch {
	case len(d.Cells) > 0 || d.ID != "":
		return cli.UsageError(cmd, "--all takes neither --cell nor --id")
	case lift:
		return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), edits.LiftAll{Reason: d.Reason})
	case d.Reason == "":
		return cli.UsageError(cmd, "--reason is missing")
	}
	return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), edits.HoldAll{Reason: d.Reason})
}

func FreezeVerb(a *cli.App) *cobra.Command {
	var d edits.Freeze
	var from, until string
	lift := false
	cmd := &cobra.Command{
		Use:     "freeze CHANNEL --until T --reason WHY | CHANNEL --lift",
		GroupID: cli.GroupDecide,
		Short:   "Stop everything but rollbacks in a channel for a while",
		Long: `Adds a freeze to the channel's policy in one commit in your name; comments are kept. From --from
(default: now) to --until, nothing but rollbacks is promoted or granted there. T is an RFC 3339
time, or a duration: from now for --from, from --from for --until. --lift ends the channel's freezes
now, and drops those to come.`,
		Example: `  sluice freeze dedicated --from 2026-12-20T00:00:00Z --until 2027-01-05T00:00:00Z --reason holidays
  sluice freeze dedicated --until 48h --reason "conference"
  sluice freeze dedicated --lift`,
		Args: cli.ArgumentCount(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Channel, d.From = args[0], time.Now().UTC().Truncate(time.Second)
			if lift {
				if from+until != "" {
					return cli.UsageError(cmd, "--lift takes neither --from nor --until")
				}
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(),
					edits.LiftFreeze{Channel: d.Channel, Reason: d.Reason})
			}
			var err error
			if from != "" {
				if d.From, err = cli.ParseInstant(from, d.From); err != nil {
					return cli.UsageError(cmd, "--from %w", err)
				}
			}
			if until == "" || d.Reason == "" {
				return cli.UsageError(cmd, "--until or --reason is missing")
			}
			if d.Until, err = cli.ParseInstant(until, d.From); err != nil {
				return cli.UsageError(cmd, "--until %w", err)
			}
			switch {
			case !d.From.Before(d.Until):
				return cli.UsageError(cmd, "--until %s is not after --from %s", cli.FormatTime(d.Until),
					cli.FormatTime(d.From))
			case d.Until.Before(time.Now()):
				return cli.UsageError(cmd, "--until %s has passed: the freeze would stop nothing", cli.FormatTime(d.Until))
			}
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "when it begins: `T` (default: now)")
	f.StringVar(&until, "until", "", "when it ends: `T`")
	f.BoolVar(&lift, "lift", false, "end the freezes")
	f.StringVar(&d.Reason, "reason", "", "reason, shown to everyone it affects")
	return cmd
}

func RollbackVerb(a *cli.App) *cobra.Command {
	var d edits.Rollback
	cmd := &cobra.Command{
		Use:     "rollback CHANNEL --reason WHY",
		GroupID: cli.GroupDecide,
		Short:   "Request that a channel go back to an earlier release",
		Long: `Commits a request for an earlier release. The engine answers with a rollback, in force at once for
all cells, and leaves a hold on the channel: nothing moves forward until you lift it (sluice hold
CHANNEL --lift). Without --to, the channel goes back to its newest earlier head that is not
quarantined. To keep a release from coming back, quarantine it.`,
		Example: `  sluice rollback dedicated --reason "workspaces start slowly"
  sluice rollback dedicated --to 2026.11.1 --reason "workspaces start slowly"`,
		Args: cli.ArgumentCount(1, 1, "CHANNEL"),
	}
	cmd.Flags().StringVar(&d.To, "to", "", "`RELEASE` to go back to")
	cli.RequireReason(cmd, &d.Reason, "reason, recorded in the commit")
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(), func(args []string) edits.Decision[*edits.Releases] {
		d.Channel = args[0]
		return d
	})
}

func QuarantineVerb(a *cli.App) *cobra.Command {
	var d edits.Quarantine
	lift := false
	cmd := &cobra.Command{
		Use:     "quarantine V --reason WHY | V --lift",
		GroupID: cli.GroupDecide,
		Short:   "Keep a release out of all channels, or of some",
		Long: `Commits quarantine/V.yaml: from then on no channel (or none named by --channel) takes the release,
and no cell is granted it. Channels that run it and have "onFailure: rollback" go back to their last
good release. --channel adds to the channels that are kept from it already, and with --lift ends the
quarantine in those alone.`,
		Example: `  sluice quarantine 2026.11.2 --reason "loses workspaces"
  sluice quarantine 2026.11.2 --lift`,
		Args: cli.ArgumentCount(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch d.Release = args[0]; {
			case lift:
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), edits.LiftQuarantine(d))
			case d.Reason == "":
				return cli.UsageError(cmd, "--reason is missing")
			}
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Reason, "reason", "", "reason, shown to everyone it affects")
	f.StringSliceVar(&d.Channels, "channel", nil, "only in this `CHANNEL`; may be repeated")
	f.BoolVar(&lift, "lift", false, "end the quarantine")
	return cmd
}
