package ownercmd

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/releases/export"
)

func cellExportVerb(a *cli.App) *cobra.Command {
	return cli.Group("export", "Decide what leaves this cell beside its reports, and read it before it does", ownerHelp,
		exportListVerb(a), exportShowVerb(a), exportApproveVerb(a), exportHoldVerb(a), exportDropVerb(a),
		exportOffVerb(a))
}

// exportState is what sluice cell export list prints.
type exportState struct {
	Release string          `json:"release,omitempty"` // that runs
	Off     bool            `json:"off"`
	Hold    string          `json:"hold"`
	Leaves  []string        `json:"leaves"` // what may leave now
	Asked   []string        `json:"asked"`  // what the release wishes beyond it
	Waiting []exporter.File `json:"waiting"`
}

func loadExports(a *cli.App, cmd *cobra.Command, folder func() (string, error)) (exportState, error) {
	state, err := folder()
	if err != nil {
		return exportState{}, err
	}
	decided, err := agent.LoadOwner(state)
	if err != nil {
		return exportState{}, fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	wish, err := exporter.LoadWish(state)
	if err != nil {
		return exportState{}, fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	waiting, err := exporter.List(state)
	if err != nil {
		return exportState{}, fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	var consent *cells.ExportConsent
	if decided != nil {
		consent = decided.Export
	}
	through := consent.Effective(wish.List)
	return exportState{Release: wish.Release, Off: consent != nil && consent.Off, Hold: consent.HeldFor().String(),
		Leaves: append([]string{}, through.Lines()...), Asked: append([]string{}, export.Wider(wish.List, through)...),
		Waiting: append([]exporter.File{}, waiting...)}, nil
}

func exportListVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Args: cli.ArgumentCount(0, 0, ""),
		Short:   "What may leave this cell, what its release asks for, and what waits",
		Example: `  sluice cell export list --state /var/lib/sluice`}
	folder := findStateFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := loadExports(a, cmd, folder)
		if err != nil {
			return err
		}
		return a.PrintResult(s, func() { printExports(a, s) })
	}
	return cmd
}

func printExports(a *cli.App, s exportState) {
	p := a.Stdout
	switch {
	case s.Off:
		p.PrintLine("off: nothing leaves; sluice cell export approve ends that")
	case len(s.Leaves) == 0:
		p.PrintLine("nothing leaves")
	default:
		p.PrintLine("leaves, %s after it was measured:", s.Hold)
		for _, line := range s.Leaves {
			p.PrintLine("  %s", line)
		}
		p.PrintLine("  metric %s: how much was kept back, by reason", exporter.DroppedMetric)
	}
	if len(s.Asked) > 0 {
		p.PrintLine("%s asks for, and stays here until sluice cell export approve --release %s:", s.Release, s.Release)
		for _, line := range s.Asked {
			p.PrintLine("  %s", line)
		}
	}
	if len(s.Waiting) == 0 {
		p.PrintLine("no file waits")
		return
	}
	var rows [][]cli.Field
	for _, f := range s.Waiting {
		what := "ready"
		switch {
		case f.MayHaveLeft:
			what = "being sent"
		case f.Held:
			what = "held"
		}
		rows = append(rows, []cli.Field{{Text: f.Name}, {Text: fmt.Sprint(f.Size)}, {Text: what}})
	}
	p.PrintTable([]string{"FILE", "BYTES", "IS"}, rows)
}

func exportShowVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "show FILE", Args: cli.ArgumentCount(1, 1, "FILE"),
		Short:   "Print a file that waits, as it will leave this cell: lines of JSON",
		Example: `  sluice cell export show 20261130T001200Z --state /var/lib/sluice`}
	folder := findStateFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		text, err := exporter.Read(state, args[0])
		if err != nil {
			return noFile(cmd, err)
		}
		_, err = a.Stdout.Write(text)
		return err
	}
	return cmd
}

func noFile(cmd *cobra.Command, err error) error {
	err = fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	if errors.Is(err, exporter.ErrNoFile) {
		return cli.Fail(err, "sluice cell export list names what waits; what was sent is gone")
	}
	return err
}

func exportApproveVerb(a *cli.App) *cobra.Command {
	var release string
	cmd := &cobra.Command{Use: "approve [--release V]", Args: cli.ArgumentCount(0, 0, ""),
		Short: "Agree to what the release that runs here asks for",
		Long: `Writes the list of sluice cell export list to owner.yaml. A later release that asks for more
exports what was agreed to, until approve is called again; one that asks for less needs no approval.
What is no longer agreed to, and waits, is removed. With --release nothing is agreed to if another
release runs by now than the one whose list was read.`,
		Example: `  sluice cell export approve --release 2026.11.3 --state /var/lib/sluice`}
	cmd.Flags().StringVar(&release, "release", "", "agree only to the list of release `V`")
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		wish, err := exporter.LoadWish(state)
		switch {
		case err != nil:
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		case wish.Release == "":
			return cli.Fail(fmt.Errorf("%snothing runs here, or the agent has not said yet what it asks for",
				cli.CommandPrefix(cmd)), "try again when sluice cell owner shows what runs")
		case release != "" && release != wish.Release:
			return cli.Fail(fmt.Errorf("%s%s runs here, not %s", cli.CommandPrefix(cmd), wish.Release, release),
				"sluice cell export list shows what it asks for")
		}
		return changeOwner(a, cmd, folder, owner.ApproveExport(wish.Release, wish.List))
	}
	return cmd
}

func exportHoldVerb(a *cli.App) *cobra.Command {
	var hold time.Duration
	cmd := &cobra.Command{Use: "hold DURATION", Args: cli.ArgumentCount(1, 1, "DURATION"),
		Short:   "Set how long a file waits before it leaves",
		Example: `  sluice cell export hold 1h --state /var/lib/sluice`}
	cmd.PreRunE = func(cmd *cobra.Command, args []string) (err error) {
		if hold, err = time.ParseDuration(args[0]); err != nil || hold < cells.MinHold || hold > cells.MaxHold {
			return cli.UsageError(cmd, "%q can't be a hold: it is from 1m to %s", args[0], cells.MaxHold)
		}
		return nil
	}
	return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.HoldExport(hold) })
}

func exportOffVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "off", Args: cli.ArgumentCount(0, 0, ""),
		Short: "Let nothing leave any more, and remove what waits",
		Long: `From within two seconds on nothing leaves, and what waits is removed; what is being sent is cut off.
The vendor sees that something is missing, and that the owner's word changed.`,
		Example: `  sluice cell export off --state /var/lib/sluice`}
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := changeOwner(a, cmd, folder, owner.StopExport()); err != nil {
			return err
		}
		state, err := folder()
		if err != nil {
			return err
		}
		if _, err := exporter.Drop(state); err != nil { // the agent does so too, if it lives
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		return nil
	}
	return cmd
}

func exportDropVerb(a *cli.App) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "drop {FILE... | --all}", Args: cli.ArgumentCount(0, 1000, "FILE"),
		Short: "Remove files that wait; the vendor sees the gap",
		Long: `Removes files before they leave. One that is being sent (sluice cell export list) is cut off within a
second or two, and may have left already; the output says so.`,
		Example: `  sluice cell export drop 20261130T001200Z --state /var/lib/sluice`}
	cmd.Flags().BoolVar(&all, "all", false, "remove all that waits")
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return cli.UsageError(cmd, "FILE or --all is missing")
		}
		return nil
	}
	folder := findStateFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		dropped, err := exporter.Drop(state, slices.Compact(args)...)
		if err != nil {
			return noFile(cmd, err)
		}
		result := exportDropped{Removed: len(dropped)}
		for _, f := range dropped {
			if f.MayHaveLeft {
				result.MayHaveLeft = append(result.MayHaveLeft, f.Name)
			}
		}
		return a.PrintResult(result, func() {
			a.Stdout.PrintLine("removed: %d", result.Removed)
			for _, name := range result.MayHaveLeft {
				a.Stdout.PrintLine("%s was being sent, and may have left already", name)
			}
		})
	}
	return cmd
}

// exportDropped is what sluice cell export drop prints.
type exportDropped struct {
	Removed     int      `json:"removed"`
	MayHaveLeft []string `json:"mayHaveLeft,omitempty"`
}
