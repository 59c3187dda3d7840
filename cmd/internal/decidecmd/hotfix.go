package decidecmd

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func HotfixVerb(a *cli.App) *cobra.Command {
	var d edits.Hotfix
	ends := ""
	cmd := &cobra.Command{
		Use:     "hotfix V --to CHANNEL --reason WHY | V --to CHANNEL --close WHY",
		GroupID: cli.GroupDecide,
		Short:   "Take a release into a channel past its upstreams, soak and windows",
		Long: `Commits channels/CHANNEL/hotfixes/V.yaml, which names the release's digest: the release needs no
upstream, no soak and no window there, for as long as --for says. Approvals, checks, holds,
quarantine and, without --override-freeze, freezes bind it as any other. What the release lists in
fixes (or --fixes) every later release must list too, until --close, which also ends the lane.`,
		Example: `  sluice hotfix 2026.11.4 --to dedicated --reason CVE-2026-1234
  sluice hotfix 2026.11.4 --to dedicated --close "2026.12.0 has it"`,
		Args: cli.ArgumentCount(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Release = args[0]
			switch {
			case d.Channel == "":
				return cli.UsageError(cmd, "--to CHANNEL is missing")
			case ends != "" && (d.Reason != "" || len(d.Fixes) > 0 || d.OverrideFreeze || cmd.Flags().Changed("for")):
				return cli.UsageError(cmd, "--close ends the lane, and says why: it takes only --to beside it")
			case ends != "":
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(),
					edits.CloseHotfix{Release: d.Release, Channel: d.Channel, Reason: ends})
			case d.Reason == "":
				return cli.UsageError(cmd, "--reason is missing")
			case d.Lasts <= 0:
				return cli.UsageError(cmd, "--for %s is not a positive length of time", d.Lasts)
			}
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Channel, "to", "", "`CHANNEL` to take it into")
	f.StringVar(&d.Reason, "reason", "", "reason, shown to everyone it affects")
	cli.AddDurationFlag(f, &d.Lasts, "for", 72*time.Hour, "how long the lane is open")
	f.StringSliceVar(&d.Fixes, "fixes", nil, "what later releases must list (default: what the release lists)")
	f.BoolVar(&d.OverrideFreeze, "override-freeze", false, "take it in a freeze too")
	f.StringVar(&ends, "close", "", "end the lane and its demands on later releases, and say why")
	return cmd
}
