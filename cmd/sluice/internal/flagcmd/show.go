package flagcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// flagShown is one flag as flag show tells it.
type flagShown struct {
	flagListed
	Definition json.RawMessage       `json:"definition"`
	Kills      []repository.Override `json:"kills,omitempty"`
	Told       []announce.Status     `json:"told,omitempty"` // its feature's announcements
}

func flagShowVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show KEY",
		Short: "Show a flag: definition, kills, announcements, and its state in each channel or cell",
		Long: `Asks the control plane (--server), which knows the flag's state in every cell and which cells
confirmed a kill, or reads the tip of the flags repository and, for the channels, the release
repository (--repo or $SLUICE_REPO).`,
		Example: `  sluice flag show new-editor --server http://127.0.0.1:7600`,
		Args:    cli.Arguments(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.AsksFlagsServer() {
				return showFlagInCells(cmd.Context(), a, args[0])
			}
			o, err := openOutlook(a, cmd, time.Now())
			if err != nil {
				return err
			}
			defer o.Close()
			d, err := o.Definition(args[0])
			if err != nil {
				return err
			}
			out := o.shown(d)
			return a.Show(out, func() {
				printFlag(a, out)
				warnOfFaults(a, o.Flags)
			})
		},
	}
	cli.ServerFlag(a, cmd)
	return cmd
}

// showFlagInCells shows what the control plane knows of a flag.
func showFlagInCells(ctx context.Context, a *cli.App, key string) error {
	d, err := cli.FlagDetail(ctx, a, key)
	if err != nil {
		return err
	}
	return a.Show(d, func() {
		p := a.Stdout
		p.Line("%s: feature %s, announced by %s", p.Paint(cli.Bold, d.Key), cli.OrDash(d.Feature), cli.OrDash(cli.Some(d.Announcements)))
		if !d.Defined {
			p.Line("%s", p.Paint(cli.Yellow, "the flags repository has no such flag"))
		}
		for _, k := range d.Kills {
			kept := "not committed yet"
			if k.Committed {
				kept = "committed"
			}
			p.Line("%s", p.Paint(cli.Red, fmt.Sprintf("killed by %s: %s; %s, %d of %s confirmed it%s", cli.OrDash(k.By), k.Reason, kept, k.Confirmed, words.Count(k.Cells, "cell"), again(k.Until))))
		}
		if text, err := cli.EncodeAs(cli.AsYAML, d.Definition); err == nil && d.Definition != nil {
			p.Line("\n%s", text)
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
			rows = append(rows, []cli.Field{cli.Coloured(c.Cell, cli.Bold), cli.Text(c.Channel), state, cli.Text(whyOf(string(c.State), c.Why))})
		}
		p.Table([]string{"CELL", "CHANNEL", "IS", "WHY"}, rows)
	})
}

// again says when somebody should look at a kill again.
func again(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return ", to be looked at again at " + cli.Stamp(until)
}

func (o *outlook) shown(d *flags.Definition) flagShown {
	out := flagShown{flagListed: o.listed(d), Definition: d.Encode()}
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

func printFlag(a *cli.App, f flagShown) {
	p := a.Stdout
	p.Line("%s: %s, default %s, in %s:%d", p.Paint(cli.Bold, f.Key), f.State, cli.OrDash(f.Default), f.File, f.Line)
	if f.Feature != "" {
		p.Line("feature %s", f.Feature)
	}
	for _, k := range f.Kills {
		p.Line("%s", p.Paint(cli.Red, fmt.Sprintf("killed by %s: %s%s", cli.OrDash(k.By), k.Reason, again(k.Until))))
	}
	if text, err := cli.EncodeAs(cli.AsYAML, f.Definition); err == nil {
		p.Line("\n%s", text)
	}
	for _, s := range f.Told {
		p.Line("announcement %s: %s: %s", p.Paint(cli.Bold, s.Announcement.ID), p.Paint(howFar(s.State).Colour, string(s.State)), s.Summary)
	}
}
