package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
)

func (a *app) announceListVerb() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List announcements: how far each is, when, and what is next",
		Long: `Asks the control plane (--server), which knows the cells, or reads the tip of the flags repository and, for the channels, the release
repository (--repo or $SLUICE_REPO).`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.announcements(cmd)
			if err != nil {
				return err
			}
			if !all {
				list = slices.DeleteFunc(list, func(s announce.Status) bool { return s.State == announce.Archived })
			}
			if done, err := a.encode(list); done {
				return err
			}
			rows := make([][]field, 0, len(list))
			for _, s := range list {
				next := s.Summary
				if s.Needs != "" {
					next = s.Needs
				}
				rows = append(rows, []field{{s.Announcement.ID, bold}, howFar(s.State), text(timeOf(s)), text(next)})
			}
			a.stdout.table([]string{"ANNOUNCEMENT", "STATE", "AT", "NEXT"}, rows)
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "archived ones too")
	a.serverFlag(cmd)
	return cmd
}

func (a *app) announceShowVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show how far an announcement is: who approved, which cells will have it, and what some wait for",
		Long: `Asks the control plane (--server), which knows the cells, or reads the tip of the flags repository and, for the channels, the release
repository (--repo or $SLUICE_REPO).`,
		Example: `  sluice announce show workspace-classes --server http://127.0.0.1:7600`,
		Args:    arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.announcementStatus(cmd, args[0])
			if err != nil {
				return err
			}
			if done, err := a.encode(s); done {
				return err
			}
			a.printAnnouncement(s)
			return nil
		},
	}
	a.serverFlag(cmd)
	return cmd
}

// timeOf says when an announcement is published, as it is written.
func timeOf(s announce.Status) string {
	if s.Announcement.PublishAt.IsZero() {
		return "-"
	}
	return strings.TrimSpace(strings.Replace(s.Announcement.PublishAt.String(), "T", " ", 1) + " " + s.Zone)
}

func howFar(s announce.State) field {
	f := field{string(s), plain}
	switch s {
	case announce.Published, announce.Publishing, announce.Armed:
		f.colour = green
	case announce.Held, announce.Draft, announce.Approved, announce.Scheduled:
		f.colour = yellow
	case announce.Missed, announce.Retracted:
		f.colour = red
	case announce.Cancelled, announce.Archived:
		f.colour = faint
	}
	return f
}

func (a *app) printAnnouncement(s announce.Status) {
	p, n := a.stdout, s.Announcement
	p.line("%s: %s", p.paint(bold, n.ID), n.Title)
	p.line("%s, at %s", p.paint(howFar(s.State).colour, string(s.State)), timeOf(s))
	if s.Summary != "" && !strings.HasPrefix(s.Needs, s.Summary) {
		p.line("%s", s.Summary)
	}
	if s.Needs != "" {
		p.line("%s", p.paint(yellow, s.Needs))
	}
	p.line("features %s; approved by %s", strings.Join(n.Features, ", "), orDash(strings.Join(s.Approvals, ", ")))
	for _, w := range s.Warnings {
		p.line("%s", p.paint(yellow, "warning: "+w))
	}
	var rows [][]field
	for _, c := range s.Channels {
		cells := orDash(countsOf(c.Counts, cellStates()))
		rows = append(rows, []field{{c.Channel, bold}, howFar(c.State), text(stamp(c.At)), text(fmt.Sprintf("%d %%", c.Percent)), text(cells)})
	}
	if len(rows) > 0 {
		p.line("")
		p.table([]string{"CHANNEL", "STATE", "AT", "SHARE", "CELLS"}, rows)
	}
	rows = rows[:0]
	for _, c := range s.Channels {
		for _, cell := range c.Cells {
			state := field{string(cell.State), cellColour(cell.State)}
			if !cell.Confirmed {
				state.text += ", not confirmed"
			}
			rows = append(rows, []field{{cell.Cell, bold}, text(c.Channel), state, text(whyOf(string(cell.State), cell.Why))})
		}
	}
	if len(rows) > 0 {
		p.line("")
		p.table([]string{"CELL", "CHANNEL", "STATE", "WHY"}, rows)
	}
	if n.Notes != "" {
		p.line("\n%s", strings.TrimSpace(n.Notes))
	}
}

// whyOf is why a cell is in a state, without saying the state again.
func whyOf(state, why string) string { return strings.TrimPrefix(why, state+": ") }

func cellColour(s flags.CellState) colour {
	switch s {
	case flags.On, flags.Ramping:
		return green
	case flags.Suspended, flags.Dead:
		return red
	case flags.Waiting, flags.Kept, flags.Left:
		return yellow
	case flags.Ready, flags.Retired:
	}
	return plain
}

// cellStates in the order in which people read them.
func cellStates() []flags.CellState {
	return []flags.CellState{flags.On, flags.Ramping, flags.Ready, flags.Waiting, flags.Suspended, flags.Dead, flags.Kept, flags.Left, flags.Retired}
}

// countsOf says how many are in which state.
func countsOf[S ~string](counts map[S]int, order []S) string {
	var parts []string
	for _, s := range order {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}

// announcements asks the control plane, or the repositories.
func (a *app) announcements(cmd *cobra.Command) ([]announce.Status, error) {
	if a.asksFlagsServer() {
		return a.serverAnnouncements(cmd.Context())
	}
	o, err := a.outlook(cmd, time.Now())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	a.warnOfFaults(o.flagsSnapshot)
	return append([]announce.Status{}, o.plan.Announcements...), nil
}

// serverAnnouncements reads all pages.
func (a *app) serverAnnouncements(ctx context.Context) ([]announce.Status, error) {
	all := []announce.Status{}
	q := url.Values{"limit": {"1000"}}
	for {
		var page peopleapi.Announcements
		if err := a.ask(ctx, "/v1/announcements?"+q.Encode(), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Announcements...)
		if page.Next == "" {
			return all, nil
		}
		q.Set("after", page.Next)
	}
}

func (a *app) announcementStatus(cmd *cobra.Command, id string) (s announce.Status, err error) {
	if a.asksFlagsServer() {
		err = a.ask(cmd.Context(), "/v1/announcements/"+url.PathEscape(id), &s)
		return s, err
	}
	o, err := a.outlook(cmd, time.Now())
	if err != nil {
		return s, err
	}
	defer o.Close()
	a.warnOfFaults(o.flagsSnapshot)
	if s, ok := o.plan.Detail(id); ok {
		return s, nil
	}
	if _, err := o.announcement(id); err != nil {
		return s, err
	}
	return s, fail(fmt.Errorf("announcement %s is not in force yet", id), "sluice flag lint")
}
