// Package ownercmd has the verbs of a cell's owner, on the cell's own machine: what is offered and what runs,
// decisions, and the owner's page.
//
// They read and write the agent's state folder and ask nothing of the control plane, so they need nothing of the
// engine. A verb runs in one goroutine, and never reads the cell's private key.
package ownercmd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// ownerHelp ends the help of every verb of a cell's owner.
const ownerHelp = `For the cell's owner, on the cell's machine: nothing is asked of the network. The decision is
written to owner.yaml in the agent's state folder; the agent notices it within two seconds and
enforces it. The vendor sees it and can't override it. It applies to everything new, even a
rollback; only the cell's own return to its last good release is exempt.`

// CellVerb returns the verb cell as a program has it that runs in cells alone.
func CellVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("cell", "Decide as this cell's owner, and see what runs and is offered",
		`The cell's owner decides here, on the cell's own machine: the vendor sees these decisions and can't
override them. What the vendor does with cells, such as adding one, takes the whole command of sluice.`,
		append(Verbs(a), RetryVerb(a))...)
	cmd.GroupID = cli.GroupCells
	return cmd
}

// Verbs returns the verbs of cell that run on the cell's own machine alone.
func Verbs(a *cli.App) []*cobra.Command {
	return []*cobra.Command{
		cellOwnerVerb(a), cellPauseVerb(a), cellUnpauseVerb(a), cellPinVerb(a), cellUnpinVerb(a),
		cellWindowVerb(a), cellApprovalVerb(a), cellApproveVerb(a), cellDiffVerb(a), cellFeatureVerb(a),
		cellFlagsVerb(a), cellClockVerb(a), cellMaintenanceVerb(a), cellExportVerb(a), cellDebugVerb(a),
		cellUIVerb(a), cellVerifyVerb(a),
	}
}

// addStateFlags adds the flags that name the agent's state folder, and the help of the owner's verbs. It returns a
// function that finds the folder.
func addStateFlags(a *cli.App, cmd *cobra.Command) func() (string, error) {
	if cmd.Long == "" {
		cmd.Long = ownerHelp
	} else {
		cmd.Long += "\n\n" + ownerHelp
	}
	return findStateFolder(a, cmd)
}

// findStateFolder adds the flags that name the agent's state folder, and returns a function that finds the folder.
func findStateFolder(a *cli.App, cmd *cobra.Command) func() (string, error) {
	var state, dir string
	cmd.Flags().StringVar(&state, "state", "", "state `FOLDER` of the agent (default $SLUICE_STATE, else DIR/.agent)")
	cmd.Flags().StringVar(&dir, "dir", "", "`DIR` that the agent was given as --dir")
	return func() (string, error) {
		found := a.StateDir(state, dir)
		if found == "" {
			return "", cli.UsageError(cmd, "--state is missing: the agent's state folder")
		}
		if info, err := os.Stat(found); err != nil || !info.IsDir() {
			return "", cli.Fail(fmt.Errorf("%sthere is no folder %s", cli.CommandPrefix(cmd), found),
				"--state names the folder that sluice agent was given; its default is .agent in the agent's --dir")
		}
		return found, nil
	}
}

// changeOwner makes a decision of the owner's and prints the outcome.
func changeOwner(a *cli.App, cmd *cobra.Command, folder func() (string, error), d owner.Decision) error {
	state, err := folder()
	if err != nil {
		return err
	}
	outcome := ""
	now, err := agent.ChangeOwner(state, func(o *cells.Owner) (err error) {
		outcome, err = d.Change(o)
		return err
	})
	var invalid *agent.OwnerError
	var refused *owner.Refusal
	switch {
	case errors.As(err, &invalid):
		return cli.Fail(fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err),
			"fix the file, or remove it to decide anew; until then the agent starts nothing new")
	case errors.As(err, &refused):
		return cli.Fail(err, "%s", refused.Next)
	case err != nil:
		return fmt.Errorf("%s: %w", strings.TrimSuffix(cli.CommandPrefix(cmd), ": "), err)
	}
	return a.PrintResult(map[string]any{"said": outcome, "owner": now}, func() { a.Stdout.PrintLine("%s", outcome) })
}

// ownerVerb makes cmd a decision of the owner's. cmd.PreRunE checks the command line.
func ownerVerb(a *cli.App, cmd *cobra.Command, decide func(args []string) owner.Decision) *cobra.Command {
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return changeOwner(a, cmd, folder, decide(args)) }
	return cmd
}

func cellPauseVerb(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "pause --reason WHY", Short: "Start nothing new in this cell until its owner ends the pause",
		Args:    cli.ArgumentCount(0, 0, ""),
		Example: `  sluice cell pause --reason "quarter end" --state /var/lib/sluice`,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return cli.UsageError(cmd, "--reason is missing")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "reason, visible to the vendor")
	return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.Pause(reason) })
}

func cellUnpauseVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "unpause", Short: "End the owner's pause", Args: cli.ArgumentCount(0, 0, "")}
	return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.Unpause() })
}

func cellPinVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pin RELEASE", Short: "Start no other release than one in this cell",
		Args: cli.ArgumentCount(1, 1, "RELEASE"),
		Long: `Pins the bytes that run here or are offered under that version, by their digest. A version that neither
runs nor is offered is pinned by its name alone.`,
		Example: `  sluice cell pin 2026.11.3 --state /var/lib/sluice`,
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if _, err := releases.ParseVersion(args[0]); err != nil {
				return cli.UsageError(cmd, "%w", err)
			}
			return nil
		},
	}
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		offered, err := agent.LoadOffer(state)
		if err != nil {
			return fmt.Errorf("cell pin: %w", err)
		}
		digest, err := owner.DigestToPin(candidates(offered), offered.Running, args[0])
		var refused *owner.Refusal
		if errors.As(err, &refused) {
			return cli.Fail(fmt.Errorf("cell pin: %w", err), "%s", refused.Next)
		}
		return changeOwner(a, cmd, folder, owner.Pin(args[0], digest))
	}
	return cmd
}

func cellUnpinVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "unpin", Short: "End the owner's pin", Args: cli.ArgumentCount(0, 0, "")}
	return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.Unpin() })
}

func cellWindowVerb(a *cli.App) *cobra.Command {
	return cli.Group("window", "Set when something new may start in this cell; without windows, at any time", ownerHelp,
		windowAddVerb(a), windowListVerb(a), windowRemoveVerb(a))
}

func windowAddVerb(a *cli.App) *cobra.Command {
	var w window.Window
	cmd := &cobra.Command{
		Use: "add --opens CRON --for DURATION", Short: "Add a window", Args: cli.ArgumentCount(0, 0, ""),
		Long: `Outside all windows nothing new starts; what started inside a window is finished. A window opens at
each instant that the cron line names.`,
		Example: `  sluice cell window add --opens "0 22 * * SAT" --for 4h --zone Europe/Berlin --state /var/lib/sluice`,
	}
	f := cmd.Flags()
	f.StringVar(&w.Opens, "opens", "", "`CRON` line of five fields: minute, hour, day of month, month, day of week")
	cli.AddDurationFlag(f, &w.For, "for", 0, "how long it stays open")
	f.StringVar(&w.Zone, "zone", "", "IANA `ZONE` (default: UTC)")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, wrong := range w.Compile() {
			return cli.UsageError(cmd, "--%s: %s", wrong.Field, wrong.Reason)
		}
		return nil
	}
	return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.AddWindow(w, time.Now()) })
}

func windowListVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the owner's windows, numbered", Args: cli.ArgumentCount(0, 0, "")}
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, _, err := loadOwner(a, cmd, folder)
		if err != nil {
			return err
		}
		return a.PrintResult(append([]window.Window{}, o.Windows...), func() { printWindows(a, o) })
	}
	return cmd
}

func printWindows(a *cli.App, o *cells.Owner) {
	if len(o.Windows) == 0 {
		a.Stdout.PrintLine("%s", owner.AnyTime)
		return
	}
	var rows [][]cli.Field
	for i, w := range o.Windows {
		zone := w.Zone
		if zone == "" {
			zone = "UTC"
		}
		rows = append(rows, []cli.Field{{Text: strconv.Itoa(i + 1)}, {Text: w.Opens},
			{Text: words.ExactDuration(w.For)}, {Text: zone}})
	}
	a.Stdout.PrintTable([]string{"", "OPENS", "FOR", "ZONE"}, rows)
}

func windowRemoveVerb(a *cli.App) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "remove NUMBER | --all", Short: "Remove a window, by its number in the list",
		Args: cli.ArgumentCount(0, 1, "NUMBER"),
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all windows")
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) == 1) {
			return cli.UsageError(cmd, "NUMBER or --all is missing")
		}
		return nil
	}
	return ownerVerb(a, cmd, func(args []string) owner.Decision {
		if all {
			return owner.RemoveWindows()
		}
		return owner.RemoveWindow(args[0])
	})
}
