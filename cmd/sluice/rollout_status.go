package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
)

func (a *app) rolloutStatusVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [CHANNEL]",
		Short: "Show how far heads have come: waves, cells in flight, failures, and who waits for what",
		Example: `  sluice rollout status --server http://127.0.0.1:7600
  sluice rollout status dedicated --repo releases --data data -o json`,
		Args: arguments(0, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel := ""
			if len(args) == 1 {
				channel = args[0]
			}
			all, err := a.rollouts(cmd.Context(), cmd, channel)
			if err != nil {
				return fmt.Errorf("rollout status: %w", err)
			}
			if done, err := a.encode(map[string]any{"rollouts": all}); done {
				return err
			}
			for i, p := range all {
				if i > 0 {
					a.stdout.line("")
				}
				drawRollout(a.stdout, p, time.Now())
			}
			return nil
		},
	}
	a.serverFlag(cmd)
	return cmd
}

// drawRollout draws one channel: where its head is, its waves, what stops it, and who waits.
func drawRollout(p printer, r plan.Progress, now time.Time) {
	if r.Release == "" {
		p.line("%s has no release yet", p.paint(bold, r.Channel))
		drawBlocked(p, r)
		return
	}
	how := "on its way"
	if r.Finished {
		how = "rolled out"
	}
	p.line("%s  %s, sequence %d, %s, for %s", p.paint(bold, r.Channel), r.Release, r.Sequence, how, ago(now, r.Moved))
	flight := strconv.Itoa(r.InFlight) + " in flight"
	if r.Slots > 0 {
		flight += fmt.Sprintf(", at most %d", r.Slots)
	}
	p.line("  %d of %s healthy on it; %s; %s", r.Healthy, counted(r.Cells, "cell"), flight, failures(p, r))
	if apart := r.Cells - r.Could; apart > 0 && !r.Finished {
		p.line("  %d of them not waited for: silent, never heard of, or held back by something of their own", apart)
	}
	if len(r.Waves) > 0 {
		rows := make([][]field, 0, len(r.Waves))
		for _, w := range r.Waves {
			rows = append(rows, []field{text(fmt.Sprint(w.Wave)), text(fmt.Sprint(w.Cells)), text(soakOf(w)), text(fmt.Sprint(w.Healthy)), waveState(r, w, now)})
		}
		p.indented("  ").table([]string{"WAVE", "CELLS", "SOAK", "SOAKED", ""}, rows)
	}
	drawBlocked(p, r)
	for _, w := range r.Waiting {
		who := someOf(w.Cells)
		if len(w.Cells) > 1 {
			who = fmt.Sprintf("%d cells, %s; of the first", len(w.Cells), who)
		}
		p.line("  %s", p.paint(yellow, w.Gate)+"  "+who+": "+until(w.Reason, w.Until, now))
	}
}

func drawBlocked(p printer, r plan.Progress) {
	for _, b := range r.Blocked {
		p.line("  %s", strings.TrimSpace(b.Release+" "+b.String()))
	}
}

func failures(p printer, r plan.Progress) string {
	s := fmt.Sprintf("%d failed, ", len(r.Failed))
	if r.Budget == 0 {
		s += "the first failure stops it"
	} else {
		s += fmt.Sprintf("failure %d stops it", r.Budget+1)
	}
	if len(r.Failed) == 0 {
		return s
	}
	return p.paint(red, s+": "+someOf(r.Failed))
}

func soakOf(w plan.WaveProgress) string {
	if w.Soak == 0 {
		return "-"
	}
	return span(w.Soak)
}

func waveState(r plan.Progress, w plan.WaveProgress, now time.Time) field {
	switch {
	case w.Through:
		return field{"through", green}
	case w.Wave == r.Wave && !w.Until.IsZero() && w.Soak > 0:
		return field{until("open, soaks", w.Until.UTC(), now), yellow}
	case w.Wave == r.Wave:
		return field{"open", yellow}
	case w.Wave < r.Wave:
		return field{"skipped", yellow}
	}
	return field{"", faint}
}

// someOf names a few of many.
func someOf(all []string) string {
	const few = 3
	if len(all) <= few {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:few], ", "), len(all)-few)
}
