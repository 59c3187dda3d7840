package ownercmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// clockHelp is the part of the help that both verbs share.
const clockHelp = `The agent takes the time from the control plane, and counts on by the machine's own clocks. In all, the
control plane can move the time at most a day ahead of these clocks; what it says beyond that is refused.
After a reset the next receipt sets the time, even back. Reset it if the control plane's time is right
and refused, for instance after the machine lost its clock while it was off, or if it was wrong when it
was accepted.`

func cellClockVerb(a *cli.App) *cobra.Command {
	show := &cobra.Command{Use: "show", Short: "Show the time that the agent goes by, and what it refused",
		Long: clockHelp, Args: cli.ArgumentCount(0, 0, "")}
	folder := addStateFlags(a, show)
	show.RunE = func(*cobra.Command, []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		c := clock.New(state, clock.Machine{})
		if err := c.Restore(); err != nil {
			return cli.Fail(fmt.Errorf("cell clock show: %w", err), "the next receipt from the control plane repairs it")
		}
		s := c.Status()
		return a.PrintResult(s, func() { a.Stdout.PrintLine("%s", strings.Join(clockLines(s), "\n")) })
	}

	reset := &cobra.Command{Use: "reset", Short: "Let the next receipt set the time, even back",
		Long: clockHelp, Args: cli.ArgumentCount(0, 0, "")}
	resetFolder := addStateFlags(a, reset)
	reset.RunE = func(*cobra.Command, []string) error {
		state, err := resetFolder()
		if err != nil {
			return err
		}
		if err := clock.RequestReset(state); err != nil {
			return fmt.Errorf("cell clock reset: %w", err)
		}
		outcome := "the agent is asked: the next receipt from the control plane sets the time"
		return a.PrintResult(map[string]any{"said": outcome}, func() { a.Stdout.PrintLine("%s", outcome) })
	}
	return cli.Group("clock", "The time by which features turn on in this cell", clockHelp, show, reset)
}

// clockLines returns the status of the time in words.
func clockLines(s clock.Status) []string {
	if s.Time.IsZero() {
		return []string{"time      not known: the control plane has not said it yet"}
	}
	lines := []string{
		"time      " + cli.FormatTime(s.Time),
		fmt.Sprintf("ahead     %s ahead of the machine's own clocks by the control plane's word; the bound is %s",
			cli.FormatDuration(s.Ahead), cli.FormatDuration(clock.MaxAhead)),
	}
	if !s.Refused.IsZero() {
		lines = append(lines, "refused   "+cli.FormatTime(s.Refused)+", which the control plane says: beyond the bound; "+
			"sluice cell clock reset, if it is right")
	}
	if s.Anew {
		lines = append(lines, "reset     the next receipt sets the time")
	}
	return lines
}
