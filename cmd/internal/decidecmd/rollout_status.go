package decidecmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

func rolloutStatusVerb(a *cli.App) *cobra.Command {
	var watch, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status [CHANNEL]",
		Short: "Show how far rollouts are: waves, cells in flight, failures, and what cells wait for",
		Long: `With --watch, the rollouts are shown again whenever they change. With --wait, the command ends when the
channel's head has reached the cells that it is for: with 0, or with 3 if that takes longer than
--timeout.`,
		Example: `  sluice rollout status --server http://127.0.0.1:7600
  sluice rollout status dedicated --repo releases --data data -o json`,
		Args: cli.ArgumentCount(0, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel := ""
			if len(args) == 1 {
				channel = args[0]
			}
			switch {
			case wait && (watch || channel == ""):
				return cli.UsageError(cmd, "--wait takes a channel, and no --watch")
			case wait:
				return repos.AwaitRollout(a, cmd, "rollout status", channel, "", timeout)
			}
			repos.NoteNotObserved(a)
			show := func() (string, error) {
				all, err := repos.FetchRollouts(cmd.Context(), a, cmd, channel)
				if err != nil {
					return "", fmt.Errorf("rollout status: %w", err)
				}
				return cli.Render(a, map[string]any{"rollouts": all}, func(p cli.Printer) {
					for i, r := range all {
						if i > 0 {
							p.PrintLine("")
						}
						drawRollout(p, r, time.Now())
					}
				})
			}
			return cli.ShowOrWatch(a, cmd.Context(), watch, time.Second, "sluice rollout status CHANNEL shows one",
				show)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show them again whenever they change")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the rollout is done")
	cli.AddDurationFlag(cmd.Flags(), &timeout, "timeout", 10*time.Minute, "how long --wait waits")
	client.AddServerFlag(a, cmd)
	return cmd
}

// drawRollout prints one channel: its head, its waves, what stops the rollout, and which cells wait.
func drawRollout(p cli.Printer, r plan.Progress, now time.Time) {
	if r.Release == "" {
		p.PrintLine("%s has no release yet", p.Paint(cli.Bold, r.Channel))
		drawBlocked(p, r)
		return
	}
	how := "on its way"
	if r.Finished {
		how = "rolled out"
	}
	p.PrintLine("%s  %s, sequence %d, %s, for %s", p.Paint(cli.Bold, r.Channel), r.Release, r.Sequence, how,
		cli.Ago(now, r.Moved))
	flight := strconv.Itoa(r.InFlight) + " in flight"
	if r.Slots > 0 {
		flight += fmt.Sprintf(", at most %d", r.Slots)
	}
	p.PrintLine("  %d of %s healthy on it; %s; %s", r.Healthy, words.Count(r.Cells, "cell"), flight, failureText(p, r))
	if apart := r.Cells - r.Could; apart > 0 && !r.Finished {
		p.PrintLine("  %d of them not waited for: silent, never seen, or held back by something of their own", apart)
	}
	if len(r.Waves) > 0 {
		rows := make([][]cli.Field, 0, len(r.Waves))
		for _, w := range r.Waves {
			rows = append(rows, []cli.Field{cli.Text(fmt.Sprint(w.Wave)), cli.Text(fmt.Sprint(w.Cells)),
				cli.Text(soakText(w)), cli.Text(fmt.Sprint(w.Healthy)), waveField(r, w, now)})
		}
		p.WithIndent("  ").PrintTable([]string{"WAVE", "CELLS", "SOAK", "SOAKED", ""}, rows)
	}
	drawBlocked(p, r)
	for _, w := range r.Waiting {
		who := words.Some(w.Cells, 3)
		if len(w.Cells) > 1 {
			who = fmt.Sprintf("%d cells, %s; of the first", len(w.Cells), who)
		}
		p.PrintLine("  %s  %s: %s", p.Paint(cli.Yellow, w.Gate), who, cli.WithUntil(w.Reason, w.Until, now))
	}
}

func drawBlocked(p cli.Printer, r plan.Progress) {
	for _, b := range r.Blocked {
		p.PrintLine("  %s", strings.TrimSpace(b.Release+" "+b.String()))
	}
}

func failureText(p cli.Printer, r plan.Progress) cli.Painted {
	s := fmt.Sprintf("%d failed, ", len(r.Failed))
	if r.Budget == 0 {
		s += "the first failure stops it"
	} else {
		s += fmt.Sprintf("failure %d stops it", r.Budget+1)
	}
	if len(r.Failed) == 0 {
		return p.Paint(cli.Plain, s)
	}
	return p.Paint(cli.Red, s+": "+words.Some(r.Failed, 3))
}

func soakText(w plan.WaveProgress) string {
	if w.Soak == 0 {
		return "-"
	}
	return cli.FormatDuration(w.Soak)
}

func waveField(r plan.Progress, w plan.WaveProgress, now time.Time) cli.Field {
	switch {
	case w.Through:
		return cli.Coloured("through", cli.Green)
	case w.Wave == r.Wave && !w.Until.IsZero() && w.Soak > 0:
		return cli.Coloured(cli.WithUntil("open, soaks", w.Until.UTC(), now), cli.Yellow)
	case w.Wave == r.Wave:
		return cli.Coloured("open", cli.Yellow)
	case w.Wave < r.Wave:
		return cli.Coloured("skipped", cli.Yellow)
	}
	return cli.Coloured("", cli.Faint)
}
