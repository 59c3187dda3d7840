package cellcmd

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// ownerHelp ends the help of every verb of a cell's owner.
const ownerHelp = `For the cell's owner, on the cell's machine: nothing is asked of the network. The decision is
written to owner.yaml in the agent's state folder; the agent notices it within two seconds and
enforces it. The vendor sees it and can't override it. It applies to everything new, even a
rollback; only the cell's own return to its last good release is exempt.`

// ownerVerbs returns the verbs of cell that run on the cell's own machine.
func ownerVerbs(a *cli.App) []*cobra.Command {
	return []*cobra.Command{
		cellOwnerVerb(a), cellPauseVerb(a), cellUnpauseVerb(a), cellPinVerb(a), cellUnpinVerb(a),
		cellWindowVerb(a), cellApprovalVerb(a), cellApproveVerb(a), cellDiffVerb(a), cellFeatureVerb(a),
		cellFlagsVerb(a), cellClockVerb(a), cellMaintenanceVerb(a), cellExportVerb(a),
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

// changeOwner changes the owner's decisions and prints the outcome.
func changeOwner(a *cli.App, cmd *cobra.Command, folder func() (string, error),
	change func(*cells.Owner) (outcome string, err error)) error {
	state, err := folder()
	if err != nil {
		return err
	}
	outcome := ""
	now, err := agent.ChangeOwner(state, func(o *cells.Owner) (err error) {
		outcome, err = change(o)
		return err
	})
	var invalid *agent.OwnerError
	switch {
	case errors.As(err, &invalid):
		return cli.Fail(fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err),
			"fix the file, or remove it to decide anew; until then the agent starts nothing new")
	case err != nil:
		return fmt.Errorf("%s: %w", strings.TrimSuffix(cli.CommandPrefix(cmd), ": "), err)
	}
	return a.PrintResult(map[string]any{"said": outcome, "owner": now}, func() { a.Stdout.PrintLine("%s", outcome) })
}

// ownerVerb makes cmd change the owner's decisions. cmd.PreRunE checks the command line.
func ownerVerb(a *cli.App, cmd *cobra.Command,
	change func(o *cells.Owner, args []string) (outcome string, err error)) *cobra.Command {
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return changeOwner(a, cmd, folder, func(o *cells.Owner) (string, error) { return change(o, args) })
	}
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
	return ownerVerb(a, cmd, func(o *cells.Owner, _ []string) (string, error) {
		o.Paused = reason
		return "paused: nothing new starts; sluice cell unpause ends it", nil
	})
}

func cellUnpauseVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "unpause", Short: "End the owner's pause", Args: cli.ArgumentCount(0, 0, "")}
	return ownerVerb(a, cmd,
		func(o *cells.Owner, _ []string) (string, error) { return clearDecision(&o.Paused, "paused"), nil })
}

// clearDecision ends a decision of the owner and returns the outcome in words.
func clearDecision(what *string, was string) string {
	if *what == "" {
		return "it was not " + was
	}
	*what = ""
	return "no longer " + was
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
		digest, err := digestToPin(offered, args[0])
		if err != nil {
			return err
		}
		return changeOwner(a, cmd, folder, func(o *cells.Owner) (string, error) {
			o.Pin, o.PinDigest = args[0], digest
			return "pinned to " + pinText(o) + ": no other release starts; sluice cell unpin ends it", nil
		})
	}
	return cmd
}

// digestToPin returns the digest of a version that runs, or else is offered; "": it does neither.
func digestToPin(o agent.Offer, version string) (releases.Digest, error) {
	if r := o.Running; r != nil && r.Release == version {
		return r.Digest, nil
	}
	var found releases.Digest
	for _, c := range candidates(o) {
		switch {
		case c.Release != version:
		case found != "" && found != c.Digest:
			return "", cli.Fail(fmt.Errorf("cell pin: %s is offered with two digests, %s and %s", version, found,
				c.Digest),
				"ask the vendor which one is right, and sluice cell pause meanwhile")
		default:
			found = c.Digest
		}
	}
	return found, nil
}

// pinText returns the owner's pin in words; "" if there is none.
func pinText(o *cells.Owner) string {
	switch {
	case o.Pin == "":
		return ""
	case o.PinDigest == "":
		return o.Pin + " by name alone (sluice cell pin takes the digest of what runs or is offered)"
	}
	return o.Pin + " " + string(o.PinDigest)
}

func cellUnpinVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "unpin", Short: "End the owner's pin", Args: cli.ArgumentCount(0, 0, "")}
	return ownerVerb(a, cmd,
		func(o *cells.Owner, _ []string) (string, error) {
			o.PinDigest = ""
			return clearDecision(&o.Pin, "pinned"), nil
		})
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
	return ownerVerb(a, cmd, func(o *cells.Owner, _ []string) (string, error) {
		if slices.ContainsFunc(o.Windows, func(other window.Window) bool { return sameWindow(other, w) }) {
			return "there is such a window already", nil
		}
		o.Windows = append(o.Windows, w)
		_, why, until := window.JudgeAny(o.Windows, time.Now())
		return "nothing new starts outside " + countText(len(o.Windows), "window") + windowsState(why, until), nil
	})
}

func sameWindow(a, b window.Window) bool {
	return a.Opens == b.Opens && a.For == b.For && a.Zone == b.Zone
}

// windowsState returns in words whether the windows are open now.
func windowsState(shut string, until time.Time) string {
	switch {
	case shut == "" && until.IsZero():
		return "; open now"
	case shut == "":
		return "; open now, until " + cli.FormatTime(until)
	default:
		return "; shut now: " + shut
	}
}

func countText(n int, thing string) string {
	if n == 1 {
		return "this " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
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
		a.Stdout.PrintLine("no windows: something new may start at any time")
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
	return ownerVerb(a, cmd, func(o *cells.Owner, args []string) (string, error) {
		if all {
			o.Windows = nil
			return "no windows: something new may start at any time", nil
		}
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 || n > len(o.Windows) {
			return "", cli.Fail(fmt.Errorf("there is no window %q", args[0]), "sluice cell window list numbers them")
		}
		o.Windows = slices.Delete(o.Windows, n-1, n)
		return "removed; " + leftText(len(o.Windows)), nil
	})
}

func leftText(n int) string {
	if n == 0 {
		return "something new may start at any time"
	}
	return strconv.Itoa(n) + " left"
}
