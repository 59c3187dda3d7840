package flagcmd

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/words"
)

func flagKillVerb(a *cli.App) *cobra.Command {
	var reason, until string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "kill KEY --reason WHY",
		Short: "Turn a flag off everywhere, at once, whatever else applies",
		Long: `Asks the control plane (--server), which stores the kill, tells all cells, and then commits it:
connected cells have it within two seconds, whatever is wrong with the repositories or the git host.
The output says how many cells confirmed the kill within --wait, and which did not; a cell that is
offline gets it when it comes back. Without a control plane, the command commits
overrides/kill-KEY.yaml itself.

The flag then has the variant metadata.off. Without one it has its default, and no rule applies,
unless that might turn it on for somebody; if it is not off then, the command says what it gives, and
exits 3. sluice flag lint warns of such flags. Nothing but a commit lifts the kill (sluice flag
unkill): --until says when somebody should look at it again, and ends nothing.`,
		Example: `  sluice flag kill new-editor --reason "loses text" --server unix:///run/sluice.sock
  sluice flag kill new-editor --reason "loses text" --until 2h --flags-repo ssh://git@git.example/flags`,
		Args: cli.ArgumentCount(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var end time.Time
			if until != "" {
				var err error
				if end, err = cli.ParseInstant(until, time.Now().UTC().Truncate(time.Second)); err != nil {
					return cli.UsageError(cmd, "--until %w", err)
				}
				if end.Before(time.Now()) {
					return cli.UsageError(cmd, "--until %s has passed: give a later time", cli.FormatTime(end))
				}
			}
			if !a.DryRun && client.UsesServerForFlags(a) {
				return killByServer(cmd.Context(), a, args[0], peopleapi.NewKill{Reason: reason, Until: end}, wait)
			}
			return repos.CommitDecision(a, cmd, repos.FlagsRepository(),
				edits.KillFlag{Key: args[0], Reason: reason, Until: end})
		},
	}
	f := cmd.Flags()
	cli.RequireReason(cmd, &reason, "reason, shown to everyone it affects")
	f.StringVar(&until, "until", "", "when somebody should look at it again: a duration, or a `TIME` (RFC 3339)")
	cli.AddDurationFlag(f, &wait, "wait", 2*time.Second, "how long to wait for cells to confirm the kill")
	client.AddServerFlag(a, cmd)
	return cmd
}

// killProgress is a kill with the cells that have not confirmed it.
type killProgress struct {
	view.FlagKill
	Waiting []string `json:"unconfirmedCells,omitempty"` // including offline cells
	Unknown bool     `json:"unknownFlag,omitempty"`      // the control plane knows no such flag
}

// killByServer asks the control plane to kill a flag, and waits for cells to confirm the kill.
func killByServer(ctx context.Context, a *cli.App, key string, k peopleapi.NewKill, wait time.Duration) error {
	var response peopleapi.Killed
	err := client.CallServer(ctx, a, http.MethodPost, "/v1/flags/"+url.PathEscape(key)+"/kill", k, &response)
	if err != nil {
		if next, _ := cli.NextStep(err); next == client.ServerDownHint {
			err = cli.Fail(err,
				"while the control plane is down, commit the kill, which cells get once serve is back: sluice "+
					"flag kill %s --reason WHY --flags-repo REPOSITORY", key)
		}
		return fmt.Errorf("kill %s: %w", key, err)
	}
	progress := killProgress{FlagKill: response.FlagKill}
	for end := time.Now().Add(wait); ; {
		now, err := fetchKillProgress(ctx, a, key, response.FlagKill)
		if err == nil {
			progress = now
		}
		if err == nil && progress.Unconfirmed == 0 && progress.Cells > 0 || !time.Now().Before(end) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	err = a.PrintResult(progress, func() {
		confirmed := "confirmed that it is off"
		if progress.NotOff != "" || progress.Unknown {
			confirmed = "confirmed the kill"
		}
		a.Stdout.PrintLine("kill %s: stored; %d of %s %s", key, progress.Confirmed,
			words.Count(progress.Cells, "cell"), confirmed)
		if len(progress.Waiting) > 0 {
			a.Stdout.PrintLine("%s", a.Stdout.Paint(cli.Yellow,
				fmt.Sprintf("not confirmed: %s; they get it as soon as they are reached (sluice flag show %s)",
					words.Some(progress.Waiting, 5), key)))
		}
		if response.Warning != "" {
			a.Stdout.PrintLine("%s", a.Stdout.Paint(cli.Yellow, response.Warning))
		}
		a.Stdout.PrintLine("next: the control plane commits it; %s lifts it",
			cli.CompleteNext(a, "sluice flag unkill "+key+" --reason WHY"))
	})
	switch {
	case err != nil:
		return err
	case progress.Unknown:
		return cli.Blocked(fmt.Errorf("kill %s: the control plane knows no such flag%s", key, likeFlag(ctx, a, key)),
			"if the key is misspelt, kill the right flag; sluice flag unkill %s --reason WHY takes this kill back", key)
	case progress.NotOff != "":
		return cli.Blocked(fmt.Errorf("kill %s: it is not off: %s", key, progress.NotOff), "%s",
			cmp.Or(progress.Next, view.NotOffHint))
	}
	return nil
}

// likeFlag asks whether a flag of the control plane's was meant, as it ends a sentence; empty: none is alike.
func likeFlag(ctx context.Context, a *cli.App, key string) string {
	list, _, err := listServerFlags(ctx, a)
	if err != nil {
		return ""
	}
	var keys []string
	for _, f := range list {
		if f.Key != key { // which is listed, since it is killed
			keys = append(keys, f.Key)
		}
	}
	return words.DidYouMean(key, keys)
}

// fetchKillProgress returns the current progress of a kill.
func fetchKillProgress(ctx context.Context, a *cli.App, key string, which view.FlagKill) (killProgress, error) {
	d, err := client.FetchFlagDetail(ctx, a, key)
	if err != nil {
		return killProgress{}, err
	}
	i := slices.IndexFunc(d.Kills, func(k view.FlagKill) bool { return k.Reason == which.Reason && k.By == which.By })
	if i < 0 {
		return killProgress{FlagKill: which}, nil
	}
	now := killProgress{FlagKill: d.Kills[i], Unknown: !d.Defined}
	for _, c := range d.Cells {
		if c.State == view.FlagState(flags.Killed) && !c.Confirmed {
			now.Waiting = append(now.Waiting, c.Cell)
		}
	}
	return now, nil
}

func flagUnkillVerb(a *cli.App) *cobra.Command {
	var d edits.UnkillFlag
	cmd := &cobra.Command{
		Use:   "unkill KEY --reason WHY",
		Short: "Lift the kill of a flag, in one commit in your name",
		Long: `Removes the flag's kills from overrides/ in one commit to the flags repository; nothing but a commit
lifts a kill. The flag then follows its rules and announcements again.`,
		Example: `  sluice flag unkill new-editor --reason "fixed in 2026.11.4"`,
		Args:    cli.ArgumentCount(1, 1, "KEY"),
	}
	cli.RequireReason(cmd, &d.Reason, "reason, recorded in the commit")
	return repos.RunDecision(a, cmd, repos.FlagsRepository(), func(args []string) edits.Decision[*edits.Flags] {
		d.Key = args[0]
		return d
	})
}

func flagPromoteVerb(a *cli.App) *cobra.Command {
	var d edits.PromoteFlags
	cmd := &cobra.Command{
		Use:   "promote CHANNEL",
		Short: "Move a channel to the current definitions of flags without an announcement, without waiting",
		Long: `A channel with an upstream takes the definitions of flags without an announcement from the commit in
heads/CHANNEL.yaml, which the engine moves once the upstream's cells have served a commit for the
soak set in sluice.yaml. This command commits that file by hand: with the tip, or --to. Announced
features are not affected: their definitions are approved.`,
		Example: `  sluice flag promote dedicated --reason "the new limit, today"`,
		Args:    cli.ArgumentCount(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if d.Channel = args[0]; !edits.ValidName(d.Channel) {
				return cli.UsageError(cmd, "%q can't be a channel's name", d.Channel)
			}
			if err := checkPlaces(a, cmd, args, nil); err != nil {
				return fmt.Errorf("promote flags to %s: %w", d.Channel, err)
			}
			return repos.CommitDecision(a, cmd, repos.FlagsRepository(), d)
		},
	}
	cmd.Flags().StringVar(&d.To, "to", "", "`COMMIT` of the flags repository (default: the tip)")
	cmd.Flags().StringVar(&d.Reason, "reason", "", "reason, recorded in the commit")
	return cmd
}
