package lookcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
)

func PlanVerb(a *cli.App) *cobra.Command {
	var file, at string
	cmd := &cobra.Command{
		Use:     "plan",
		GroupID: cli.GroupLook,
		Short:   "Show what the engine would do now, and what is blocked and why",
		Long: `Decides as the engine would, and does nothing. Shows what the engine would promote, roll back and
grant, with the evidence; what is blocked, by which gate and until when; and when the engine would
look again. The same input produces the same bytes. Observations are read from --observed FILE, or
from the store in --data DIR; without either, there are none.

` + observedHelp,
		Example: `  sluice plan --repo https://git.example/releases --data /var/lib/sluice
  sluice plan --observed observed.json --now 2026-11-24T09:00:00Z -o json`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now().UTC()
			if at != "" {
				var err error
				if now, err = time.Parse(time.RFC3339, at); err != nil {
					return cli.UsageError(cmd, "--now %s is not a time like 2026-11-24T09:00:00Z", at)
				}
			}
			observed, err := loadObserved(cmd.Context(), a, file)
			if err != nil {
				return err
			}
			s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			desired := s.Desired.WithCells(&observed)
			if file != "" {
				observed.AssumeGrants(desired)
			}
			made := plan.Make(desired, &observed, now)
			return a.PrintResult(made, func() {
				printPlan(a, made)
				a.PrintNotes(s.Desired.Notes())
				if file == "" && !repos.NamesStore(a) {
					a.PrintNotes([]string{view.NotObserved})
				}
			})
		},
	}
	cmd.Flags().StringVar(&file, "observed", "", "observation `FILE`; - is standard input")
	cmd.Flags().StringVar(&at, "now", "", "decide as of this `INSTANT` (RFC 3339; default: now)")
	return cmd
}

func printPlan(a *cli.App, p plan.Plan) {
	a.Stdout.PrintLine("at commit %s, %s", cli.ShortID(p.Commit), cli.FormatTime(p.Now))
	rows := make([][]cli.Field, 0, len(p.Actions))
	for _, act := range p.Actions {
		what := act.Reason
		if len(act.Evidence) > 0 {
			what = strings.Join(act.Evidence, "; ")
		}
		if act.Kind == plan.Grant {
			what = "to " + words.Some(act.Cells, 5)
		}
		if act.Maintenance != nil {
			what += "; " + act.Maintenance.String()
		}
		rows = append(rows, []cli.Field{cli.Coloured(string(act.Kind), cli.Green), cli.Text(act.Channel),
			cli.Text(act.Release), cli.Text(cli.OrDash(act.Replaces)), cli.Text(what)})
	}
	a.PrintSection("would do", []string{"ACTION", "CHANNEL", "RELEASE", "REPLACES", "BECAUSE"}, rows)
	rows = rows[:0]
	for _, v := range p.Blocked {
		rows = append(rows, []cli.Field{cli.Text(v.Channel), cli.Text(cli.OrDash(v.Cell)),
			cli.Text(cli.OrDash(v.Release)), cli.Coloured(v.Gate, cli.Yellow), cli.Text(cli.FormatTime(v.Until)),
			cli.Text(v.Reason)})
	}
	a.PrintSection("blocked", []string{"CHANNEL", "CELL", "RELEASE", "GATE", "UNTIL", "REASON"}, rows)
	switch {
	case !p.Next.IsZero():
		a.Stdout.PrintLine("\nnext change by time alone: %s", cli.FormatTime(p.Next))
	case len(p.Blocked) > 0:
		a.Stdout.PrintLine("\ntime alone changes nothing: it takes a report, an answer or a commit")
	}
}

// loadObserved reads the observations from a file or, without one, from the store.
func loadObserved(ctx context.Context, a *cli.App, file string) (o plan.Observed, err error) {
	if file == "" {
		return repos.LoadObserved(ctx, a)
	}
	data, err := a.ReadFile(file, maxObservedBytes)
	if err != nil {
		return o, cli.Fail(fmt.Errorf("read the observation file: %w", err),
			"--observed names a JSON file: see sluice help plan")
	}
	o, faults := parseObserved(file, data)
	if n := len(faults); n > 0 {
		a.ReportFaults(faults[:n-1])
		return o, cli.Fail(errors.New(faults[n-1].String()), "sluice help plan describes the file")
	}
	return o, nil
}
