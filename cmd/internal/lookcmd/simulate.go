package lookcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
)

const maxSimulatedTime = 3 * 366 * 24 * time.Hour

func SimulateVerb(a *cli.App) *cobra.Command {
	var file, from, length, chart string
	cmd := &cobra.Command{
		Use:     "simulate",
		GroupID: cli.GroupLook,
		Short:   "Run a policy on virtual time, with modelled cells",
		Long: `Runs the real engine against the release repository as it is, on virtual time, with modelled cells.
Shows which cells get which release and when, what is blocked, and how long each gate made the
channels wait. Nothing is written but the chart. The scenario says which releases are cut, how long
cells take and how often they fail, when they are out of contact, what people do and what outside
gates answer; docs/simulate.md describes it. The same repository, scenario and start produce the
same output, byte for byte.`,
		Example: `  sluice simulate --repo releases --scenario scenario.yaml --from 2026-12-01T00:00:00Z --for 30d
  sluice simulate --scenario scenario.yaml --branch stricter-policy --for 30d --svg month.svg -o json`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return cli.UsageError(cmd, "--scenario is missing")
			}
			begin := time.Now().UTC().Truncate(24 * time.Hour)
			if from != "" {
				var err error
				if begin, err = time.Parse(time.RFC3339, from); err != nil {
					return cli.UsageError(cmd, "--from %s is not a time like 2026-12-01T00:00:00Z", from)
				}
			}
			var m simulate.Moment
			if err := m.UnmarshalText([]byte(length)); err != nil || !m.At.IsZero() || m.After <= 0 ||
				m.After > maxSimulatedTime {
				return cli.UsageError(cmd, "--for %s is not a duration like 36h or 30d, of at most three years", length)
			}
			scenario, err := loadScenario(a, file)
			if err != nil {
				return err
			}
			result, err := runSimulation(cmd.Context(), a, cmd,
				simulate.Input{Scenario: scenario, From: begin, For: m.After})
			if err != nil {
				return err
			}
			if chart != "" {
				err := os.WriteFile(chart, simulate.SVG(result), 0o644) //nolint:gosec // for everyone to look at
				if err != nil {
					return cli.Fail(fmt.Errorf("write the chart: %w", err), "--svg names the file to write")
				}
			}
			return a.PrintResult(result, func() {
				printSimulation(a, result)
				if chart != "" {
					a.Stdout.PrintLine("\nthe chart is in %s", chart)
				}
			})
		},
	}
	cmd.Flags().StringVar(&file, "scenario", "", "scenario `FILE` (YAML); - is standard input")
	cmd.Flags().StringVar(&from, "from", "", "start at this `INSTANT` (RFC 3339; default: today, 00:00 UTC)")
	cmd.Flags().StringVar(&length, "for", "30d", "how long to simulate, a `DURATION`: 36h, 30d, 2d12h")
	cmd.Flags().StringVar(&chart, "svg", "", "write a chart to this `FILE`")
	return cmd
}

// loadScenario parses a scenario file and reports all its faults.
func loadScenario(a *cli.App, file string) (*simulate.Scenario, error) {
	data, err := a.ReadFile(file, manifest.MaxFile)
	if err != nil {
		return nil, cli.Fail(fmt.Errorf("read the scenario: %w", err),
			"--scenario names a YAML file: docs/simulate.md describes it")
	}
	s, faults := simulate.Parse(file, data)
	if len(faults) == 0 {
		return s, nil
	}
	for _, f := range faults[:len(faults)-1] {
		a.Stderr.PrintLine("%s", f)
	}
	return nil, cli.Fail(errors.New(faults[len(faults)-1].String()), "docs/simulate.md describes the file")
}

// runSimulation simulates the repository's tip with its history.
func runSimulation(ctx context.Context, a *cli.App, cmd *cobra.Command, in simulate.Input) (*simulate.Result, error) {
	repo, err := repos.OpenReleases(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	tip, files, err := repo.ReadTip(ctx, "sluice init --repo "+words.Shell(repo.Address))
	if err != nil {
		return nil, err
	}
	in.Files, in.History, in.Open = files, plan.NewHistory(), repo.FS
	changes, err := repo.Changes(ctx, "", tip)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", repo.Address, err)
	}
	if err := in.History.Advance(changes, repo.FS, new(manifest.Cache)); err != nil {
		return nil, fmt.Errorf("read %s: %w", repo.Address, err)
	}
	result, err := simulate.Run(ctx, in)
	if err != nil {
		return nil, cli.Fail(err,
			"sluice validate lists the faults of a repository; docs/simulate.md describes a scenario")
	}
	return result, nil
}

func printSimulation(a *cli.App, r *simulate.Result) {
	a.Stdout.PrintLine("%s to %s, from commit %s: %s, %s cut, seed %d", cli.FormatTime(r.From),
		cli.FormatTime(r.Until), cli.ShortID(r.Commit),
		words.Count(r.Summary.Cells, "cell"), words.Count(r.Summary.Releases, "release"), r.Seed)
	rows := make([][]cli.Field, 0, len(r.Timeline))
	for _, e := range r.Timeline {
		rows = append(rows, []cli.Field{cli.Text(cli.FormatTime(e.At)), cli.Coloured(e.Kind, eventColour(e.Kind)),
			cli.Text(cli.OrDash(e.Channel)), cli.Text(cli.OrDash(e.Release)), cli.Text(eventText(e))})
	}
	a.PrintSection("timeline", []string{"AT", "WHAT", "CHANNEL", "RELEASE", ""}, rows)
	rows = nil
	for _, c := range r.Channels {
		for _, o := range c.Rollouts {
			rows = append(rows, []cli.Field{
				cli.Text(c.Name), cli.Text(o.Release), cli.Text(o.Kind), cli.Text(cli.FormatTime(o.Moved)),
				cli.Text(elapsed(o.Moved, o.First)), cli.Text(elapsed(o.Moved, o.Half)),
				cli.Text(elapsed(o.Moved, o.Finished)), cli.Text(fmt.Sprintf("%d of %d", o.Arrived, c.Cells)),
				cli.Text(fmt.Sprint(o.Failed)),
			})
		}
	}
	a.PrintSection("rollouts",
		[]string{"CHANNEL", "RELEASE", "BY", "MOVED", "FIRST CELL", "HALF", "FINISHED", "CELLS", "FAILED"}, rows)
	rows = nil
	for _, v := range r.Waits {
		longest := cli.FormatDuration(time.Duration(v.Longest) * time.Second)
		if v.Open {
			longest += ", still"
		}
		rows = append(rows, []cli.Field{
			cli.Text(v.Channel), cli.Coloured(v.Gate, cli.Yellow), cli.Text(longest), cli.Text(cli.FormatTime(v.From)),
			cli.Text(cli.OrDash(v.Release)),
			cli.Text(fmt.Sprintf("%s in %d", cli.FormatDuration(time.Duration(v.Total)*time.Second), v.Times)),
			cli.Text(v.Reason),
		})
	}
	a.PrintSection("longest waits", []string{"CHANNEL", "GATE", "LONGEST", "FROM", "RELEASE", "IN ALL", "REASON"}, rows)
	s := r.Summary
	a.Stdout.PrintLine("\n%s, %s, %s, %d quarantined; %s, %d arrived, %d failed; %s",
		words.Count(s.Promotions, "promotion"), words.Count(s.Rollbacks, "rollback"),
		words.Count(s.Halts, "halt"), s.Quarantined, words.Count(s.Granted,
			"grant"), s.Arrived, s.Failed, words.Count(s.Plans, "plan"))
	for _, c := range r.Channels {
		a.Stdout.PrintLine("%s ends at %s, %d of %s on it", c.Name, cli.OrDash(c.Head), c.Cells-c.Behind,
			words.Count(c.Cells, "cell"))
	}
}

func eventColour(kind string) cli.Colour {
	switch kind {
	case "promote", "finished", "accepted":
		return cli.Green
	case "blocked", "hold":
		return cli.Yellow
	case "rollback", "halt", "quarantine", "failed":
		return cli.Red
	}
	return cli.Plain
}

// eventText returns in words what an event adds to its kind.
func eventText(e simulate.Event) string {
	var parts []string
	if e.Wave > 0 {
		parts = append(parts, fmt.Sprintf("wave %d", e.Wave))
	}
	if e.Gate != "" {
		parts = append(parts, e.Gate)
	}
	if e.Cells > 0 {
		parts = append(parts, cellsText(e.Cells, e.Names))
	}
	if e.For > 0 {
		parts = append(parts, "for "+cli.FormatDuration(time.Duration(e.For)*time.Second))
	}
	if e.Text != "" {
		parts = append(parts, e.Text)
	}
	return strings.Join(parts, ": ")
}

func cellsText(n int, names []string) string {
	s := words.Count(n, "cell")
	if len(names) > 0 {
		s += " (" + strings.Join(names, ", ")
		if n > len(names) {
			s += " …"
		}
		s += ")"
	}
	return s
}

// elapsed returns the time between two instants; a dash if t never came.
func elapsed(from, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return cli.FormatDuration(t.Sub(from))
}
