package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
)

// flagShown is one flag as flag show tells it.
type flagShown struct {
	flagListed
	Definition json.RawMessage   `json:"definition"`
	Kills      []flags.Override  `json:"kills,omitempty"`
	Told       []announce.Status `json:"told,omitempty"` // its feature's announcements
}

func (a *app) flagShowVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show KEY",
		Short: "Show a flag: what it is, where it stands, kills, and what it is in each channel or cell",
		Long: `Asks the control plane (--server), which knows what the flag is in every cell and which cells confirmed a kill; or reads the tip of the
flags repository and, for the channels, the release repository (--repo or $SLUICE_REPO).`,
		Example: `  sluice flag show new-editor --server http://127.0.0.1:7600`,
		Args:    arguments(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.asksFlagsServer() {
				return a.showFlagInCells(cmd.Context(), args[0])
			}
			o, err := a.outlook(cmd, time.Now())
			if err != nil {
				return err
			}
			defer o.Close()
			d, err := o.definition(args[0])
			if err != nil {
				return err
			}
			out := o.shown(d)
			if done, err := a.encode(out); done {
				return err
			}
			a.printFlag(out)
			a.warnOfFaults(o.flagsSnapshot)
			return nil
		},
	}
	a.serverFlag(cmd)
	return cmd
}

// showFlagInCells shows what the control plane knows of a flag.
func (a *app) showFlagInCells(ctx context.Context, key string) error {
	d, err := a.flagDetail(ctx, key)
	if err != nil {
		return err
	}
	if done, err := a.encode(d); done {
		return err
	}
	p := a.stdout
	p.line("%s: feature %s, announced by %s", p.paint(bold, d.Key), orDash(d.Feature), orDash(some(d.Announcements)))
	if !d.Defined {
		p.line("%s", p.paint(yellow, "the flags repository has no such flag"))
	}
	for _, k := range d.Kills {
		kept := "not committed yet"
		if k.Committed {
			kept = "committed"
		}
		p.line("%s", p.paint(red, fmt.Sprintf("killed by %s: %s; %s, %d of %s confirmed it%s", orDash(k.By), k.Reason, kept, k.Confirmed, counted(k.Cells, "cell"), again(k.Until))))
	}
	if text, err := encodeAs(asYAML, d.Definition); err == nil && d.Definition != nil {
		p.line("\n%s", text)
	}
	rows := make([][]field, 0, len(d.Cells))
	for _, c := range d.Cells {
		state := field{string(c.State), cellColour(flags.CellState(c.State))}
		switch {
		case c.Offline:
			state.text += ", offline"
		case !c.Confirmed:
			state.text += ", not confirmed"
		}
		rows = append(rows, []field{{c.Cell, bold}, text(c.Channel), state, text(whyOf(string(c.State), c.Why))})
	}
	p.table([]string{"CELL", "CHANNEL", "IS", "WHY"}, rows)
	return nil
}

// again says when somebody should look at a kill again.
func again(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return ", to be looked at again at " + stamp(until)
}

func (o *outlook) shown(d *flags.Definition) flagShown {
	out := flagShown{flagListed: o.listed(d), Definition: d.Encode()}
	for _, k := range o.tree.Overrides {
		if k.Kind == flags.Kill && k.Flag == d.Key {
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

func (a *app) printFlag(f flagShown) {
	p := a.stdout
	p.line("%s: %s, default %s, in %s:%d", p.paint(bold, f.Key), f.State, orDash(f.Default), f.File, f.Line)
	if f.Feature != "" {
		p.line("feature %s", f.Feature)
	}
	for _, k := range f.Kills {
		p.line("%s", p.paint(red, fmt.Sprintf("killed by %s: %s%s", orDash(k.By), k.Reason, again(k.Until))))
	}
	if text, err := encodeAs(asYAML, f.Definition); err == nil {
		p.line("\n%s", text)
	}
	for _, s := range f.Told {
		p.line("announcement %s: %s: %s", p.paint(bold, s.Announcement.ID), p.paint(howFar(s.State).colour, string(s.State)), s.Summary)
	}
}
