package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
)

func (a *app) cellFeatureVerb() *cobra.Command {
	return group("feature", "Which features stay off in this cell, whatever is announced", aboutOwner,
		a.featureHoldVerb(), a.featureReleaseVerb())
}

func (a *app) featureHoldVerb() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "hold FEATURE [--reason WHY]", Short: "Keep a feature off in this cell, for as long as its owner wants", Args: arguments(1, 1, "FEATURE"),
		Long:    "Its flags have their off variant here, announced or not, also if they are on now. The release that has its code is begun all the same.",
		Example: `  sluice cell feature hold workspace-classes --reason "after the training in May" --state /var/lib/sluice`,
	}
	folder := a.owned(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the vendor to see")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		feature := args[0]
		if !cells.ValidFeature(feature) {
			return usage(cmd, "%q can't be a feature's name", feature)
		}
		return a.decide(cmd, folder, func(o *cells.Owner) (string, error) {
			said := feature + " is held: it stays off here; sluice cell feature release " + feature + " ends it"
			if slices.Contains(o.Features, feature) {
				said = feature + " was held already"
			} else {
				o.Features = append(o.Features, feature)
			}
			if reason = strings.TrimSpace(reason); reason != "" {
				if o.Reasons == nil {
					o.Reasons = map[string]string{}
				}
				o.Reasons[feature] = reason
			}
			return said, nil
		})
	}
	return cmd
}

func (a *app) featureReleaseVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "release FEATURE", Short: "End the owner's hold of a feature", Args: arguments(1, 1, "FEATURE"),
	}
	folder := a.owned(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		feature := args[0]
		return a.decide(cmd, folder, func(o *cells.Owner) (string, error) {
			i := slices.Index(o.Features, feature)
			if i < 0 {
				return feature + " was not held", nil
			}
			o.Features = slices.Delete(o.Features, i, i+1)
			delete(o.Reasons, feature)
			return feature + " is not held any more: it is on as announced", nil
		})
	}
	return cmd
}

// showHeld shows the features that the owner holds.
func (a *app) showHeld(o *cells.Owner) {
	for _, feature := range o.Features {
		why := ""
		if reason := o.Reasons[feature]; reason != "" {
			why = ": " + reason
		}
		a.stdout.line("%-9s %s", "holds", feature+why)
	}
}

func (a *app) cellFlagsVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "flags", Short: "How feature flags are in this cell: announcements, kills and what is held", Args: arguments(0, 0, ""),
		Long: `Shows what the agent has in force, or had when it ran last: by announcement what it is here, and since when nothing changed. What
single flags evaluate to, the agent answers where --flags-listen says, /flags.json among it.

For the cell's owner, on the cell's machine: nothing is asked of the network.`,
		Example: `  sluice cell flags --state /var/lib/sluice`,
	}
	long := cmd.Long
	folder := a.owned(cmd)
	cmd.Long = long // nothing is decided here
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		v, err := flagserver.LoadInForce(state)
		if err != nil {
			return fmt.Errorf("cell flags: %w", err)
		}
		if done, err := a.encode(v); done {
			return err
		}
		a.showFlags(v)
		return nil
	}
	return cmd
}

func (a *app) showFlags(v *flagserver.InForce) {
	if v == nil {
		a.stdout.line("this cell was told nothing of flags")
		return
	}
	say := func(what, text string) { a.stdout.line("%-9s %s", what, text) }
	say("height", fmt.Sprint(v.Height))
	say("bundle", orDash(string(v.Bundle)))
	say("release", orDash(v.Release))
	if !v.Since.IsZero() {
		say("since", stamp(v.Since))
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
		a.stdout.line("no announcements")
		return
	}
	var rows [][]field
	for _, l := range v.Announcements {
		at := "with the release"
		if !l.At.IsZero() {
			at = l.At.Format(time.RFC3339)
		}
		rows = append(rows, []field{{text: l.ID}, {text: string(l.State)}, {text: at}, {text: orDash(strings.Join(l.Features, ", "))}})
	}
	a.stdout.table([]string{"ANNOUNCEMENT", "STATE", "AT", "FEATURES"}, rows)
}
