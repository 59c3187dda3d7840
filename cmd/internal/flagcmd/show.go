package flagcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// flagDetails is the output of flag show.
type flagDetails struct {
	flagSummary
	Definition json.RawMessage       `json:"definition"`
	Kills      []repository.Override `json:"kills,omitempty"`
	Told       []announce.Status     `json:"told,omitempty"` // announcements of the flag's feature
}

func flagShowVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show KEY",
		Short: "Show a flag: definition, kills, announcements, and its state in each channel or cell",
		Long: `Asks the control plane (--server), which knows the flag's state in every cell and which cells
confirmed a kill, or reads the tip of the flags repository and, for the channels, the release
repository (--repo or $SLUICE_REPO).`,
		Example: `  sluice flag show new-editor --server http://127.0.0.1:7600`,
		Args:    cli.ArgumentCount(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if client.UsesServerForFlags(a) {
				return printFlagInCells(cmd.Context(), a, args[0])
			}
			o, err := openFlagsState(a, cmd, time.Now())
			if err != nil {
				return err
			}
			defer o.Close()
			d, err := o.Definition(args[0])
			if err != nil {
				return err
			}
			out := o.detailsOf(d)
			return a.PrintResult(out, func() {
				printFlag(a, out)
				reportTipFaults(a, o.Flags)
			})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

// printFlagInCells prints what the control plane knows of a flag.
func printFlagInCells(ctx context.Context, a *cli.App, key string) error {
	d, err := client.FetchFlagDetail(ctx, a, key)
	if err != nil {
		return err
	}
	return a.PrintResult(d, func() {
		p := a.Stdout
		p.PrintLine("%s: feature %s, announced by %s", p.Paint(cli.Bold, d.Key), cli.OrDash(d.Feature),
			cli.OrDash(words.Some(d.Announcements, 5)))
		if !d.Defined {
			p.PrintLine("%s", p.Paint(cli.Yellow, "the flags repository has no such flag"))
		}
		for _, k := range d.Kills {
			committed := "not committed yet"
			if k.Committed {
				committed = "committed"
			}
			p.PrintLine("%s", p.Paint(cli.Red,
				fmt.Sprintf("killed by %s: %s; %s, %d of %s confirmed it%s", cli.OrDash(k.By), k.Reason, committed,
					k.Confirmed, words.Count(k.Cells, "cell"), reviewText(k.Until))))
		}
		if text, err := cli.EncodeAs(cli.AsYAML, d.Definition); err == nil && d.Definition != nil {
			p.PrintLine("")
			p.PrintText("", string(text)) // a flag's YAML never begins a line with text of its own
		}
		rows := make([][]cli.Field, 0, len(d.Cells))
		for _, c := range d.Cells {
			state := cli.Coloured(string(c.State), cellColour(flags.CellState(c.State)))
			switch {
			case c.Offline:
				state.Text += ", offline"
			case !c.Confirmed:
				state.Text += ", not confirmed"
			}
			rows = append(rows, []cli.Field{cli.Coloured(c.Cell, cli.Bold), cli.Text(c.Channel), state,
				cli.Text(reasonWithoutState(string(c.State), c.Why))})
		}
		p.PrintTable([]string{"CELL", "CHANNEL", "IS", "WHY"}, rows)
	})
}

// reviewText returns in words when somebody should look at a kill again.
func reviewText(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return ", to be looked at again at " + cli.FormatTime(until)
}

func (o *flagsState) detailsOf(d *flags.Definition) flagDetails {
	out := flagDetails{flagSummary: o.summaryOf(d), Definition: d.Encode()}
	for _, k := range o.Tree.Overrides {
		if k.Kind == repository.Kill && k.Flag == d.Key {
			out.Kills = append(out.Kills, k)
		}
	}
	for _, id := range out.Announcements {
		if s, ok := o.plan.Detail(id); ok {
			out.Told = append(out.Told, s)
		}
	}
	return out
}

func printFlag(a *cli.App, f flagDetails) {
	p := a.Stdout
	p.PrintLine("%s: %s, default %s, in %s:%d", p.Paint(cli.Bold, f.Key), f.State, cli.OrDash(f.Default), f.File,
		f.Line)
	if f.Feature != "" {
		p.PrintLine("feature %s", f.Feature)
	}
	for _, k := range f.Kills {
		p.PrintLine("%s", p.Paint(cli.Red,
			fmt.Sprintf("killed by %s: %s%s", cli.OrDash(k.By), k.Reason, reviewText(k.Until))))
	}
	if text, err := cli.EncodeAs(cli.AsYAML, f.Definition); err == nil {
		p.PrintLine("")
		p.PrintText("", string(text)) // a flag's YAML never begins a line with text of its own
	}
	for _, s := range f.Told {
		p.PrintLine("announcement %s: %s: %s", p.Paint(cli.Bold, s.Announcement.ID),
			p.Paint(stateField(s.State).Colour, string(s.State)), s.Summary)
	}
}
