package flagcmd

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
)

func announceListVerb(a *cli.App) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List announcements: state, time, and what is next",
		Long: `Asks the control plane (--server), which knows the cells, or reads the tip of the flags repository
and, for the channels, the release repository (--repo or $SLUICE_REPO).`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := fetchAnnouncements(a, cmd)
			if err != nil {
				return err
			}
			if !all {
				list = slices.DeleteFunc(list, func(s announce.Status) bool { return s.State == announce.Archived })
			}
			return a.PrintResult(list, func() {
				rows := make([][]cli.Field, 0, len(list))
				for _, s := range list {
					next := s.Summary
					if s.Needs != "" {
						next = s.Needs
					}
					rows = append(rows, []cli.Field{cli.Coloured(s.Announcement.ID, cli.Bold), stateField(s.State),
						cli.Text(publicationTime(s)), cli.Text(next)})
				}
				a.Stdout.PrintTable([]string{"ANNOUNCEMENT", "STATE", "AT", "NEXT"}, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list archived announcements too")
	client.AddServerFlag(a, cmd)
	return cmd
}

func announceShowVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an announcement: approvals, which cells will have it, and what the others wait for",
		Long: `Asks the control plane (--server), which knows the cells, or reads the tip of the flags repository
and, for the channels, the release repository (--repo or $SLUICE_REPO).`,
		Example: `  sluice announce show workspace-classes --server http://127.0.0.1:7600`,
		Args:    cli.ArgumentCount(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := fetchAnnouncement(a, cmd, args[0])
			if err != nil {
				return err
			}
			return a.PrintResult(s, func() { printAnnouncement(a, s) })
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

// publicationTime returns when an announcement is published, as written.
func publicationTime(s announce.Status) string {
	if s.Announcement.PublishAt.IsZero() {
		return "-"
	}
	return strings.TrimSpace(strings.Replace(s.Announcement.PublishAt.String(), "T", " ", 1) + " " + s.Zone)
}

func stateField(s announce.State) cli.Field {
	f := cli.Coloured(string(s), cli.Plain)
	switch s {
	case announce.Published, announce.Publishing, announce.Armed:
		f.Colour = cli.Green
	case announce.Held, announce.Draft, announce.Approved, announce.Scheduled:
		f.Colour = cli.Yellow
	case announce.Missed, announce.Retracted:
		f.Colour = cli.Red
	case announce.Cancelled, announce.Archived, announce.Gone:
		f.Colour = cli.Faint
	}
	return f
}

func printAnnouncement(a *cli.App, s announce.Status) {
	p, n := a.Stdout, s.Announcement
	p.PrintLine("%s: %s", p.Paint(cli.Bold, n.ID), n.Title)
	p.PrintLine("%s, at %s", p.Paint(stateField(s.State).Colour, string(s.State)), publicationTime(s))
	if s.Summary != "" && !strings.HasPrefix(s.Needs, s.Summary) {
		p.PrintLine("%s", s.Summary)
	}
	if s.Needs != "" {
		p.PrintLine("%s", p.Paint(cli.Yellow, s.Needs))
	}
	p.PrintLine("features %s; approved by %s", strings.Join(n.Features, ", "),
		cli.OrDash(strings.Join(s.Approvals, ", ")))
	for _, w := range s.Warnings {
		p.PrintLine("%s", p.Paint(cli.Yellow, "warning: "+w))
	}
	var rows [][]cli.Field
	for _, c := range s.Channels {
		cells := cli.OrDash(cli.FormatCounts(c.Counts, cellStates()))
		rows = append(rows, []cli.Field{cli.Coloured(c.Channel, cli.Bold), stateField(c.State),
			cli.Text(cli.FormatTime(c.At)), cli.Text(fmt.Sprintf("%d %%", c.Percent)), cli.Text(cells)})
	}
	if len(rows) > 0 {
		p.PrintLine("")
		p.PrintTable([]string{"CHANNEL", "STATE", "AT", "SHARE", "CELLS"}, rows)
	}
	rows = rows[:0]
	for _, c := range s.Channels {
		for _, cell := range c.Cells {
			state := cli.Coloured(string(cell.State), cellColour(cell.State))
			if !cell.Confirmed {
				state.Text += ", not confirmed"
			}
			rows = append(rows, []cli.Field{cli.Coloured(cell.Cell, cli.Bold), cli.Text(c.Channel), state,
				cli.Text(reasonWithoutState(string(cell.State), cell.Why))})
		}
	}
	if len(rows) > 0 {
		p.PrintLine("")
		p.PrintTable([]string{"CELL", "CHANNEL", "STATE", "WHY"}, rows)
	}
	if n.Notes != "" {
		p.PrintLine("")
		p.PrintText("| ", strings.TrimSpace(n.Notes))
	}
}

// reasonWithoutState returns why a cell is in a state, without repeating the state.
func reasonWithoutState(state, why string) string { return strings.TrimPrefix(why, state+": ") }

func cellColour(s flags.CellState) cli.Colour {
	switch s {
	case flags.On, flags.Ramping:
		return cli.Green
	case flags.Suspended, flags.Killed:
		return cli.Red
	case flags.Waiting, flags.Held, flags.LeftOut:
		return cli.Yellow
	case flags.Armed, flags.Ready, flags.Retired:
	}
	return cli.Plain
}

// cellStates returns the states in the order of reading.
func cellStates() []flags.CellState {
	return []flags.CellState{flags.On, flags.Ramping, flags.Armed, flags.Ready, flags.Waiting, flags.Suspended,
		flags.Killed, flags.Held, flags.LeftOut, flags.Retired}
}

// fetchAnnouncements returns the announcements from the control plane, or from the repositories.
func fetchAnnouncements(a *cli.App, cmd *cobra.Command) ([]announce.Status, error) {
	if client.UsesServerForFlags(a) {
		all := []announce.Status{}
		err := client.EachPage(cmd.Context(), a, "/v1/announcements", url.Values{"limit": {"1000"}},
			func(page peopleapi.Announcements) string {
				all = append(all, page.Announcements...)
				return page.Next
			})
		return all, err
	}
	o, err := openFlagsState(a, cmd, time.Now())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	reportTipFaults(a, o.Flags)
	return append([]announce.Status{}, o.plan.Announcements...), nil
}

func fetchAnnouncement(a *cli.App, cmd *cobra.Command, id string) (s announce.Status, err error) {
	if client.UsesServerForFlags(a) {
		err = client.GetResource(cmd.Context(), a, "/v1/announcements/"+url.PathEscape(id), &s)
		return s, err
	}
	o, err := openFlagsState(a, cmd, time.Now())
	if err != nil {
		return s, err
	}
	defer o.Close()
	reportTipFaults(a, o.Flags)
	if s, ok := o.plan.Detail(id); ok {
		return s, nil
	}
	if _, err := o.Announcement(id); err != nil {
		return s, err
	}
	return s, cli.Fail(fmt.Errorf("announcement %s is not in force yet", id), "sluice flag lint")
}
