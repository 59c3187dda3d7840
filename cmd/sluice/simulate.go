package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// maxSimulated is the longest time that is simulated.
const maxSimulated = 3 * 366 * 24 * time.Hour

func (a *app) simulateVerb() *cobra.Command {
	var file, from, length, chart string
	cmd := &cobra.Command{
		Use:     "simulate",
		GroupID: groupLook,
		Short:   "Let a policy run on virtual time, with modelled cells",
		Long: `Lets the real engine run on the release repository as it is, on virtual time, with cells that are modelled:
who gets what when, what blocks, and how long each gate made the channels wait. Nothing is written but the
chart. The scenario says which releases are cut, how long cells take and how often they fail, when they are out
of contact, what people do and what outside gates answer; docs/simulate.md describes it. The same repository,
scenario and begin give the same output, byte for byte.`,
		Example: `  sluice simulate --repo releases --scenario scenario.yaml --from 2026-12-01T00:00:00Z --for 30d
  sluice simulate --scenario scenario.yaml --branch stricter-policy --for 30d --svg month.svg -o json`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage(cmd, "--scenario is missing")
			}
			begin := time.Now().UTC().Truncate(24 * time.Hour)
			if from != "" {
				var err error
				if begin, err = time.Parse(time.RFC3339, from); err != nil {
					return usage(cmd, "--from %s is not a time like 2026-12-01T00:00:00Z", from)
				}
			}
			var m simulate.Moment
			if err := m.UnmarshalText([]byte(length)); err != nil || !m.At.IsZero() || m.After <= 0 || m.After > maxSimulated {
				return usage(cmd, "--for %s is not a length of time like 36h or 30d, of at most three years", length)
			}
			scenario, err := a.scenario(file)
			if err != nil {
				return err
			}
			result, err := a.simulate(cmd.Context(), cmd, simulate.Input{Scenario: scenario, From: begin, For: m.After})
			if err != nil {
				return err
			}
			if chart != "" {
				if err := os.WriteFile(chart, simulate.SVG(result), 0o644); err != nil { //nolint:gosec // for everyone to look at
					return fail(fmt.Errorf("write the chart: %w", err), "--svg names a file to be written")
				}
			}
			if done, err := a.encode(result); done {
				return err
			}
			a.printSimulation(result)
			if chart != "" {
				a.stdout.line("\nthe chart is in %s", chart)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "scenario", "", "scenario `FILE`, YAML; - is standard input")
	cmd.Flags().StringVar(&from, "from", "", "begin at this `INSTANT` (RFC 3339; default: today, 00:00 UTC)")
	cmd.Flags().StringVar(&length, "for", "30d", "simulate so `LONG`: 36h, 30d, 2d12h")
	cmd.Flags().StringVar(&chart, "svg", "", "draw a chart into this `FILE`")
	return cmd
}

// scenario reads a scenario file, and says all that is wrong with it.
func (a *app) scenario(file string) (*simulate.Scenario, error) {
	data, err := a.readFile(file, manifest.MaxFile)
	if err != nil {
		return nil, fail(fmt.Errorf("read the scenario: %w", err), "--scenario names a YAML file: docs/simulate.md describes it")
	}
	s, faults := simulate.Parse(file, data)
	if len(faults) == 0 {
		return s, nil
	}
	for _, f := range faults[:len(faults)-1] {
		a.stderr.line("%s", f)
	}
	return nil, fail(errors.New(faults[len(faults)-1].String()), "docs/simulate.md describes the file")
}

// simulate reads the repository's tip and its history, and lets it run.
func (a *app) simulate(ctx context.Context, cmd *cobra.Command, in simulate.Input) (*simulate.Result, error) {
	repo, err := a.open(ctx, cmd, committer{})
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	tip, err := repo.Fetch(ctx)
	if err != nil {
		return nil, fail(fmt.Errorf("read %s: %w", repo.address, err), "is --repo right, and the host reachable?")
	}
	if tip == "" {
		return nil, fail(fmt.Errorf("read %s: it has no commits yet", repo.address), "sluice init --repo %s", repo.address)
	}
	in.History, in.Open = plan.NewHistory(), repo.FS
	if in.Files, err = repo.FS(tip); err != nil {
		return nil, fmt.Errorf("read %s: %w", repo.address, err)
	}
	changes, err := repo.Changes(ctx, "", tip)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", repo.address, err)
	}
	if err := in.History.Advance(changes, repo.FS, new(manifest.Cache)); err != nil {
		return nil, fmt.Errorf("read %s: %w", repo.address, err)
	}
	result, err := simulate.Run(ctx, in)
	if err != nil {
		return nil, fail(err, "sluice validate tells what is wrong with a repository, docs/simulate.md what a scenario may say")
	}
	return result, nil
}

func (a *app) printSimulation(r *simulate.Result) {
	a.stdout.line("%s to %s, from commit %s: %d cells, %d releases cut, seed %d", stamp(r.From), stamp(r.Until), short(r.Commit), r.Summary.Cells, r.Summary.Releases, r.Seed)
	rows := make([][]field, 0, len(r.Timeline))
	for _, e := range r.Timeline {
		rows = append(rows, []field{text(stamp(e.At)), {e.Kind, colourOf(e.Kind)}, text(orDash(e.Channel)), text(orDash(e.Release)), text(story(e))})
	}
	a.section("timeline", []string{"AT", "WHAT", "CHANNEL", "RELEASE", ""}, rows)
	rows = nil
	for _, c := range r.Channels {
		for _, o := range c.Rollouts {
			rows = append(rows, []field{
				text(c.Name), text(o.Release), text(o.Kind), text(stamp(o.Moved)), text(after(o.Moved, o.First)), text(after(o.Moved, o.Half)),
				text(after(o.Moved, o.Finished)), text(fmt.Sprintf("%d of %d", o.Arrived, c.Cells)), text(fmt.Sprint(o.Failed)),
			})
		}
	}
	a.section("rollouts", []string{"CHANNEL", "RELEASE", "BY", "MOVED", "FIRST CELL", "HALF", "FINISHED", "CELLS", "FAILED"}, rows)
	rows = nil
	for _, v := range r.Waits {
		longest := span(time.Duration(v.Longest) * time.Second)
		if v.Open {
			longest += ", still"
		}
		rows = append(rows, []field{
			text(v.Channel), {v.Gate, yellow}, text(longest), text(stamp(v.From)), text(orDash(v.Release)),
			text(fmt.Sprintf("%s in %d", span(time.Duration(v.Total)*time.Second), v.Times)), text(v.Reason),
		})
	}
	a.section("longest waits", []string{"CHANNEL", "GATE", "LONGEST", "FROM", "RELEASE", "IN ALL", "REASON"}, rows)
	s := r.Summary
	a.stdout.line("\n%s, %s, %s, %d quarantined; %s, %d arrived, %d failed; %s", counted(s.Promotions, "promotion"), counted(s.Rollbacks, "rollback"),
		counted(s.Halts, "halt"), s.Quarantined, counted(s.Granted, "grant"), s.Arrived, s.Failed, counted(s.Plans, "plan"))
	for _, c := range r.Channels {
		a.stdout.line("%s ends at %s, %d of %s on it", c.Name, orDash(c.Head), c.Cells-c.Behind, counted(c.Cells, "cell"))
	}
}

func colourOf(kind string) colour {
	switch kind {
	case "promote", "finished", "accepted":
		return green
	case "blocked", "hold":
		return yellow
	case "rollback", "halt", "quarantine", "failed":
		return red
	}
	return plain
}

// story says in words what an event adds to its kind.
func story(e simulate.Event) string {
	var parts []string
	if e.Wave > 0 {
		parts = append(parts, fmt.Sprintf("wave %d", e.Wave))
	}
	if e.Gate != "" {
		parts = append(parts, e.Gate)
	}
	if e.Cells > 0 {
		parts = append(parts, cellsNamed(e.Cells, e.Names))
	}
	if e.For > 0 {
		parts = append(parts, "for "+span(time.Duration(e.For)*time.Second))
	}
	if e.Text != "" {
		parts = append(parts, e.Text)
	}
	return strings.Join(parts, ": ")
}

func cellsNamed(n int, names []string) string {
	s := fmt.Sprintf("%d cells", n)
	if n == 1 {
		s = "1 cell"
	}
	if len(names) > 0 {
		s += " (" + strings.Join(names, ", ")
		if n > len(names) {
			s += " …"
		}
		s += ")"
	}
	return s
}

// after says how long after from something was; a dash if it was not.
func after(from, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(t.Sub(from))
}
