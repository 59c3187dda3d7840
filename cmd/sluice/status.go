package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane"
)

func (a *app) statusVerb() *cobra.Command {
	var watch bool
	var every time.Duration
	var page controlplane.StatusPage
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "Show where everything is: channels, their heads, cells",
		Long: `Asks the control plane (--server), or reads the repository and the store (--repo, --data). --watch shows it again
whenever it changes, until it is interrupted: on a terminal in place, elsewhere below.`,
		Example: `  sluice status --server http://127.0.0.1:7600 --watch
  sluice status --repo releases --data data --channel dedicated -o json`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var repo *opened
			defer func() {
				if repo != nil {
					repo.Close()
				}
			}()
			if !watch {
				s, err := a.status(cmd.Context(), cmd, &repo, page)
				if err != nil {
					return err
				}
				return a.printStatus(s)
			}
			return a.watch(cmd, &repo, page, every)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes")
	f.DurationVar(&every, "every", time.Second, "with --watch: how often to look")
	f.StringVar(&page.Channel, "channel", "", "only this `CHANNEL` and its cells")
	a.serverFlag(cmd)
	return cmd
}

func (a *app) printStatus(s controlplane.Status) error {
	if done, err := a.encode(s); done {
		return err
	}
	drawStatus(a.stdout, s)
	return nil
}

// watch shows the status until ctx ends. What only time changes makes no new picture where it can't be drawn in place.
func (a *app) watch(cmd *cobra.Command, repo **opened, page controlplane.StatusPage, every time.Duration) error {
	if every <= 0 {
		return usage(cmd, "--every %s: give a positive duration", every)
	}
	ctx := cmd.Context()
	before := ""
	for {
		s, err := a.status(ctx, cmd, repo, page)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && before == "":
			return err
		case err != nil:
			a.stderr.line("%v", err)
		default:
			if key := signature(s); key != before || a.stdout.terminal && a.output == asTable {
				if a.stdout.terminal && a.output == asTable {
					fmt.Fprint(a.stdout, "\x1b[H\x1b[2J")
				} else if before != "" && a.output == asTable {
					a.stdout.line("")
				}
				before = key
				if err := a.printStatus(s); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// signature is a status without what time alone changes.
func signature(s controlplane.Status) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Commit, s.Diverged != nil, len(s.Faults))
	for _, c := range s.Channels {
		fmt.Fprintln(&b, c.Name, c.Release, c.Sequence, c.Request, c.Refused, c.Holds, c.Cells, c.OnHead, c.Healthy, c.Failing, c.Blocked)
	}
	for _, c := range s.Cells {
		fmt.Fprintln(&b, c.Name, c.Channel, c.Release, c.State, c.Message, c.Applying, c.Granted, c.Failures, c.Blocked)
	}
	return b.String()
}

// drawStatus draws the two tables and, below each channel that waits, why.
func drawStatus(p printer, s controlplane.Status) {
	if s.Diverged != nil {
		p.line("%s", p.paint(red, fmt.Sprintf("the branch was force-pushed: %s is no longer in it. Nothing moves until that is acknowledged.", short(s.Diverged.Seen))))
	}
	if n := len(fatal(s.Faults)); n > 0 {
		p.line("%s", p.paint(red, fmt.Sprintf("%d faults in the repository, the first: %s (sluice validate)", n, fatal(s.Faults)[0])))
	}
	rows := make([][]field, 0, len(s.Channels))
	for _, c := range s.Channels {
		healthy := field{fmt.Sprintf("%d of %d", c.Healthy, c.Cells), green}
		if c.Healthy < c.Cells {
			healthy.colour = yellow
		}
		if c.Failing > 0 {
			healthy.text, healthy.colour = healthy.text+fmt.Sprintf(", %d failing", c.Failing), red
		}
		rows = append(rows, []field{{c.Name, bold}, text(orDash(c.Release)), text(fmt.Sprint(c.Sequence)), text(ago(s.Now, c.Since)), healthy, waits(c)})
	}
	p.table([]string{"CHANNEL", "RELEASE", "SEQUENCE", "FOR", "HEALTHY", "WAITS FOR"}, rows)
	if len(s.Cells) == 0 {
		return
	}
	p.line("")
	rows = rows[:0]
	for _, c := range s.Cells {
		rows = append(rows, []field{{c.Name, bold}, text(c.Channel), text(orDash(c.Release)), {string(c.State), stateColour(c.State)}, text(ago(s.Now, c.LastReport)), cellNote(c)})
	}
	p.table([]string{"CELL", "CHANNEL", "RELEASE", "STATE", "HEARD", "NOTE"}, rows)
}

// waits sums up what keeps a channel from moving.
func waits(c controlplane.ChannelStatus) field {
	var parts []string
	colour := yellow
	for _, h := range c.Holds {
		parts, colour = append(parts, "hold: "+h.Reason), red
	}
	if c.Refused != "" {
		parts, colour = append(parts, c.Refused), red
	}
	if r := c.Request; r != nil {
		parts = append(parts, fmt.Sprintf("%s asked for %s", r.By, orDash(r.Release)))
	}
	for _, b := range c.Blocked {
		if b.Gate == "hold" && len(c.Holds) > 0 {
			continue
		}
		if part := strings.TrimSpace(b.Release + " " + b.Gate); !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	const few = 3
	if len(parts) > few {
		parts = append(parts[:few], fmt.Sprintf("%d more", len(parts)-few))
	}
	return field{strings.Join(parts, "; "), colour}
}

func stateColour(s cells.State) colour {
	switch s {
	case cells.StateHealthy:
		return green
	case cells.StateUnhealthy, cells.StateFailed, cells.StateStuck:
		return red
	case cells.StateApplying:
		return yellow
	case cells.StatePending:
	}
	return plain
}

func cellNote(c controlplane.CellStatus) field {
	switch {
	case c.Applying != "":
		return field{"applying " + c.Applying, yellow}
	case c.Message != "":
		return text(c.Message)
	case len(c.Blocked) > 0:
		return field{c.Blocked[0].String(), yellow}
	case c.Granted != "" && c.Granted != c.Release:
		return field{"granted " + c.Granted, yellow}
	case c.State == cells.StateHealthy && c.SoakSeconds > 0:
		return field{"healthy for " + span(time.Duration(c.SoakSeconds*float64(time.Second))), faint}
	}
	return text("")
}

// drawn is what drawStatus prints, as lines.
func drawn(p printer, s controlplane.Status) string {
	var b bytes.Buffer
	q := p
	q.Writer = &b
	drawStatus(q, s)
	return b.String()
}
