package ownercmd

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/words"
)

func cellMaintenanceVerb(a *cli.App) *cobra.Command {
	return cli.Group("maintenance", "Refuse the product's operations for a while, or see whether they are", ownerHelp,
		maintenanceShowVerb(a), maintenanceBeginVerb(a), maintenanceEndVerb(a))
}

func maintenanceShowVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "show", Short: "Show whether operations are refused, and until when",
		Args: cli.ArgumentCount(0, 0, "")}
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := folder()
		if err != nil {
			return err
		}
		s, err := agent.LoadMaintenance(dir, time.Now())
		if err != nil {
			return cli.Fail(fmt.Errorf("cell maintenance show: %w", err), "the running agent writes the file anew")
		}
		return a.PrintResult(s, func() {
			for _, line := range maintenanceLines(s) {
				a.Stdout.PrintLine("%s", line)
			}
		})
	}
	return cmd
}

// maintenanceLines says a state in words.
func maintenanceLines(s maintenance.State) []string {
	kinds := strings.Join(s.Refused, ", ")
	var lines []string
	switch s.Phase {
	case maintenance.Off:
		return []string{"no maintenance: operations are accepted"}
	case maintenance.Announced:
		lines = append(lines, "announced: "+kinds+" will be refused from "+cli.FormatTime(s.Begins))
	case maintenance.Draining:
		lines = append(lines, "draining: "+kinds+" are refused until "+cli.FormatTime(s.Until)+
			" at the latest; what is under way finishes")
	default:
		lines = append(lines, "drained: "+kinds+" are refused until "+cli.FormatTime(s.Until)+" at the latest")
	}
	if s.Release != "" {
		lines = append(lines, "for the update to "+s.Release)
	}
	if s.Reason != "" {
		lines = append(lines, "why: "+s.Reason)
	}
	return lines
}

func maintenanceBeginVerb(a *cli.App) *cobra.Command {
	var lasts time.Duration
	var until, reason string
	var o maintenance.Owner
	cmd := &cobra.Command{
		Use: "begin {--for DURATION | --until TIME} --reason WHY", Args: cli.ArgumentCount(0, 0, ""),
		Short: "Refuse the product's operations, until an end that comes by itself",
		Long: `From within two seconds on the product may start no operation that an update would refuse, such as the
start of a workspace; those under way finish, and what runs is not touched. Another begin replaces the
end. An update's own maintenance is apart: whichever ends later counts.`,
		Example: `  sluice cell maintenance begin --for 30m --reason "new disks" --state /var/lib/sluice`,
	}
	cli.AddDurationFlag(cmd.Flags(), &lasts, "for", 0, "how long, at most "+words.ExactDuration(maintenance.MaxOwner))
	cmd.Flags().StringVar(&until, "until", "", "`TIME` of the end, such as 2026-11-29T18:00:00Z")
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for people who look at the cell")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		now := time.Now()
		o = maintenance.Owner{Since: now, Until: now.Add(lasts), Reason: reason}
		switch {
		case strings.TrimSpace(reason) == "":
			return cli.UsageError(cmd, "--reason is missing")
		case (lasts != 0) == (until != ""):
			return cli.UsageError(cmd, "--for or --until is missing: a maintenance has an end")
		case until != "":
			if o.Until, err = time.Parse(time.RFC3339, until); err != nil {
				return cli.UsageError(cmd, "--until %q is no time such as 2026-11-29T18:00:00Z", until)
			}
		}
		switch left := o.Until.Sub(now); {
		case left <= 0:
			return cli.UsageError(cmd, "the end is in the past")
		case left > maintenance.MaxOwner:
			return cli.UsageError(cmd, "a maintenance lasts at most %s", words.ExactDuration(maintenance.MaxOwner))
		}
		o.Since, o.Until = o.Since.UTC(), o.Until.UTC()
		return nil
	}
	return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.BeginMaintenance(o) })
}

func maintenanceEndVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "end", Short: "End the owner's maintenance; an update's own goes on",
		Args: cli.ArgumentCount(0, 0, "")}
	return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.EndMaintenance() })
}
