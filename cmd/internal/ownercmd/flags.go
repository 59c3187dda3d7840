package ownercmd

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

func cellFeatureVerb(a *cli.App) *cobra.Command {
	return cli.Group("feature", "Hold features off in this cell, whatever is announced", ownerHelp,
		featureHoldVerb(a), featureReleaseVerb(a))
}

func featureHoldVerb(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "hold FEATURE [--reason WHY]", Short: "Keep a feature off in this cell until its owner releases it",
		Args: cli.ArgumentCount(1, 1, "FEATURE"),
		Long: `The feature's flags have their off variant in this cell, announced or not, even if they are on now.
A release that contains the feature's code starts all the same.`,
		Example: `  sluice cell feature hold workspace-classes --reason "after the training in May" --state /var/lib/sluice`,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "reason, visible to the vendor")
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !cells.ValidFeature(args[0]) {
			return cli.UsageError(cmd, "%q can't be a feature's name", args[0])
		}
		return nil
	}
	return ownerVerb(a, cmd, func(args []string) owner.Decision { return owner.HoldFeature(args[0], reason) })
}

func featureReleaseVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "release FEATURE", Short: "End the owner's hold on a feature",
		Args: cli.ArgumentCount(1, 1, "FEATURE")}
	return ownerVerb(a, cmd, func(args []string) owner.Decision { return owner.ReleaseFeature(args[0]) })
}

func printHeldFeatures(a *cli.App, o *cells.Owner) {
	for _, feature := range o.Features {
		why := ""
		if reason := o.Reasons[feature]; reason != "" {
			why = ": " + reason
		}
		a.Stdout.PrintLine("%-9s %s", "holds", feature+why)
	}
}

func cellFlagsVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "flags", Short: "Show the feature flags of this cell: announcements, kills and holds",
		Args: cli.ArgumentCount(0, 0, ""),
		Long: `Shows what the agent has in force, or had when it last ran: the state of each announcement in this
cell, and since when nothing has changed. What a single flag evaluates to, the agent answers at the
address of its --flags-listen, as does /flags.json there.

For the cell's owner, on the cell's machine: nothing is asked of the network.`,
		Example: `  sluice cell flags --state /var/lib/sluice`,
	}
	long := cmd.Long
	folder := addStateFlags(a, cmd)
	cmd.Long = long // without ownerHelp: nothing is decided here
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		v, err := flagserver.LoadInForce(state)
		if err != nil {
			return fmt.Errorf("cell flags: %w", err)
		}
		return a.PrintResult(v, func() { printFlags(a, v) })
	}
	return cmd
}

func printFlags(a *cli.App, v *flagserver.InForce) {
	if v == nil {
		a.Stdout.PrintLine("this cell has received no flags")
		return
	}
	say := func(what, text string) { a.Stdout.PrintLine("%-9s %s", what, text) }
	say("height", fmt.Sprint(v.Height))
	say("bundle", cli.OrDash(string(v.Bundle)))
	say("release", cli.OrDash(v.Release))
	if !v.Since.IsZero() {
		say("since", cli.FormatTime(v.Since))
	}
	if v.Fault != "" {
		say("fault", v.Fault)
	}
	for _, k := range v.Killed {
		why := ""
		if k.Reason != "" {
			why = ": " + k.Reason
		}
		say("killed", k.Flag+why)
	}
	for _, f := range v.Held {
		say("holds", f)
	}
	if len(v.Announcements) == 0 {
		a.Stdout.PrintLine("no announcements")
		return
	}
	var rows [][]cli.Field
	for _, l := range v.Announcements {
		at := "with the release"
		if !l.At.IsZero() {
			at = l.At.Format(time.RFC3339)
		}
		rows = append(rows, []cli.Field{{Text: l.ID}, {Text: string(l.State)}, {Text: at},
			{Text: cli.OrDash(strings.Join(l.Features, ", "))}})
	}
	a.Stdout.PrintTable([]string{"ANNOUNCEMENT", "STATE", "AT", "FEATURES"}, rows)
}
