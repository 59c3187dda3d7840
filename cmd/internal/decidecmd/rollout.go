package decidecmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func RolloutVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("rollout", "Show how a head reaches its cells; halt or resume the rollout, or skip a wave",
		`A head reaches the cells of its channel in waves, as rollout: in channel.yaml says. Each decision
made here is a commit to the release repository: halt adds a hold, and resume removes it.`,
		repos.Complete(a, rolloutStatusVerb(a), repos.ChannelNames),
		repos.Complete(a, rolloutHaltVerb(a), repos.ChannelNames),
		repos.Complete(a, rolloutResumeVerb(a), repos.ChannelNames),
		repos.Complete(a, rolloutSkipVerb(a), repos.ChannelNames),
	)
	cmd.GroupID = cli.GroupDecide
	return cmd
}

func rolloutHaltVerb(a *cli.App) *cobra.Command {
	d := edits.Hold{ID: edits.HaltID}
	cmd := &cobra.Command{
		Use:   "halt CHANNEL --reason WHY",
		Short: "Halt the rollout: no more cells start, and nothing is promoted",
		Long: `Commits channels/CHANNEL/holds/rollout.yaml. Cells that have started go on to the end; only
rollbacks are granted. To take the release back as well, run sluice rollback.`,
		Example: `  sluice rollout halt dedicated --reason "support sees slow starts"`,
		Args:    cli.ArgumentCount(1, 1, "CHANNEL"),
	}
	cli.RequireReason(cmd, &d.Reason, "reason, shown to everyone it affects")
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(), func(args []string) edits.Decision[*edits.Releases] {
		d.Channel = args[0]
		return d
	})
}

func rolloutResumeVerb(a *cli.App) *cobra.Command {
	var d edits.Resume
	cmd := &cobra.Command{
		Use:   "resume CHANNEL [HOLD]",
		Short: "Resume a halted rollout where it stopped",
		Long: `Removes the hold that halts the rollout: the one that sluice rollout halt left or, if the engine
halted it, the engine's. HOLD says which if there are several.`,
		Example: `  sluice rollout resume dedicated`,
		Args:    cli.ArgumentCount(1, 2, "CHANNEL"),
	}
	cmd.Flags().StringVar(&d.Reason, "reason", "", "reason, recorded in the commit")
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(), func(args []string) edits.Decision[*edits.Releases] {
		if d.Channel = args[0]; len(args) == 2 {
			d.Hold = args[1]
		}
		return d
	})
}

func rolloutSkipVerb(a *cli.App) *cobra.Command {
	var d edits.SkipWave
	cmd := &cobra.Command{
		Use:   "skip-wave CHANNEL --reason WHY",
		Short: "Open the next wave without waiting for the soak of the earlier ones",
		Long: `Commits channels/CHANNEL/skips/SEQUENCE.yaml, which applies only to the channel's current head. It
skips the waves' soak and nothing else: quarantine, holds, windows, freezes, maxInFlight and the
failure budget still apply.

Which wave is open is asked of the control plane (--server) or read from the store (--data,
--database). With --wave, which names the wave to open, neither is needed.`,
		Example: `  sluice rollout skip-wave dedicated --reason "it soaked in staging for a week" --server unix:///run/sluice.sock
  sluice rollout skip-wave dedicated --wave 3 --reason "urgent"`,
		Args: cli.ArgumentCount(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Channel = args[0]
			return skipWave(a, cmd, d)
		},
	}
	cli.RequireReason(cmd, &d.Reason, "reason, recorded in the commit")
	cmd.Flags().IntVar(&d.Wave, "wave", 0, "`WAVE` to open (default: the one after the open wave)")
	client.AddServerFlag(a, cmd)
	return cmd
}

func skipWave(a *cli.App, cmd *cobra.Command, d edits.SkipWave) (err error) {
	if d.Wave == 0 {
		if _, err = repos.FindAuthor(cmd.Context(), a); err == nil {
			d.Wave, d.Seen, err = findNextWave(a, cmd, d.Channel)
		}
		if err != nil {
			return fmt.Errorf("skip a wave of %s: %w", d.Channel, err)
		}
	}
	return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
}

// findNextWave returns the wave after the open one, and the sequence of its head.
func findNextWave(a *cli.App, cmd *cobra.Command, channel string) (wave int, sequence int64, err error) {
	if repos.CheckObserved(a) != nil {
		return 0, 0, cli.Fail(fmt.Errorf("which wave is open is not known here"),
			"ask the control plane with --server, or name the wave to open with --wave")
	}
	all, err := repos.FetchRollouts(cmd.Context(), a, cmd, channel)
	if err != nil {
		return 0, 0, err
	}
	p := all[0]
	switch {
	case p.Wave == 0:
		return 0, 0, cli.Fail(fmt.Errorf("%s has no rollout in waves under way", channel), "sluice rollout status %s",
			channel)
	case p.Wave == len(p.Waves):
		return 0, 0, cli.Fail(fmt.Errorf("the last wave, %d, is open already", p.Wave), "sluice rollout status %s",
			channel)
	}
	return p.Wave + 1, p.Sequence, nil
}
