package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
)

func (a *app) statusVerb() *cobra.Command {
	var watch, all bool
	var every time.Duration
	var page view.StatusPage
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "Show where everything is: channels, their heads, cells",
		Long: `Asks the control plane (--server), or reads the repository and the store (--repo, --data). --watch shows it again
whenever it changes, until it is interrupted: on a terminal in place, elsewhere below.

Cells that somebody should look at come first. Where there are many, a few of each kind are named and the others counted: --all names them all.
  shut out   the key is revoked, or used from two places      held      its turn, a window, a hold or its owner keeps it back
  failing    unhealthy, failed, stuck, or went back           updating  has been given or has begun something new
  silent     has not reported within staleAfter               behind    on another release, and nothing of its own holds it
  new        has never reported                               healthy   on the head of its channel`,
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
				return a.printStatus(s, all)
			}
			return a.watch(cmd, &repo, page, every, all)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes")
	f.DurationVar(&every, "every", time.Second, "with --watch: how often to look")
	f.StringVar(&page.Channel, "channel", "", "only this `CHANNEL` and its cells")
	f.BoolVarP(&all, "all", "a", false, "name every cell, also where there are many")
	a.serverFlag(cmd)
	return cmd
}

func (a *app) printStatus(s view.Status, all bool) error {
	if done, err := a.encode(s); done {
		return err
	}
	drawStatus(a.stdout, s, all)
	return nil
}

// watch shows the status until ctx ends. What only time changes makes no new picture where it can't be drawn in place.
func (a *app) watch(cmd *cobra.Command, repo **opened, page view.StatusPage, every time.Duration, all bool) error {
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
				if err := a.printStatus(s, all); err != nil {
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
func signature(s view.Status) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Commit, s.Diverged != nil, len(s.Faults))
	if f := s.Flags; f != nil {
		fmt.Fprintln(&b, f.Commit, f.Fault, f.Killed, f.Announcements)
	}
	for _, c := range s.Channels {
		fmt.Fprintln(&b, c.Name, c.Release, c.Sequence, c.Request, c.Refused, c.Holds, c.Cells, c.OnHead, c.Healthy, c.Failing, c.Blocked)
	}
	for _, c := range s.Cells {
		fmt.Fprintln(&b, c.Name, c.Channel, c.Release, c.State, c.Condition, c.Message, c.Applying, c.Granted, c.Failures, c.Blocked)
	}
	return b.String()
}

// drawStatus draws the channels and, of the cells, those first that somebody should look at.
func drawStatus(p printer, s view.Status, all bool) {
	if s.Diverged != nil {
		p.line("%s", p.paint(red, fmt.Sprintf("the branch was force-pushed: %s is no longer in it. Nothing moves until that is acknowledged.", short(s.Diverged.Seen))))
	}
	if n := len(fatal(s.Faults)); n > 0 {
		p.line("%s", p.paint(red, fmt.Sprintf("%s in the repository, the first: %s (sluice validate)", counted(n, "fault"), fatal(s.Faults)[0])))
	}
	rows := make([][]field, 0, len(s.Channels))
	for _, c := range s.Channels {
		rows = append(rows, []field{{c.Name, bold}, text(orDash(c.Release)), text(fmt.Sprint(c.Sequence)), text(ago(s.Now, c.Since)), healthyOf(c), waits(c)})
	}
	p.table([]string{"CHANNEL", "RELEASE", "SEQUENCE", "FOR", "HEALTHY", "WAITS FOR"}, rows)
	drawFlags(p, s.Flags)
	if len(s.Cells) > 0 {
		p.line("")
		drawCells(p, s, all)
	}
}

// healthyOf counts a channel's cells: the healthy ones, and the others by what is with them.
func healthyOf(c view.ChannelStatus) field {
	now := c.Counts[view.ConditionHealthy] // c.Healthy has those too that fell silent since
	healthy := field{fmt.Sprintf("%d of %d", now, c.Cells), green}
	if now < c.Cells {
		healthy.colour = yellow
	}
	for _, is := range conditions {
		if n := c.Counts[is]; n > 0 && is != view.ConditionHealthy {
			healthy.text += fmt.Sprintf(", %d %s", n, conditionWord(is))
		}
	}
	if c.Counts[view.ConditionFailing]+c.Counts[view.ConditionShutOut] > 0 {
		healthy.colour = red
	}
	return healthy
}

// waits sums up what keeps a channel from moving.
func waits(c view.ChannelStatus) field {
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

// drawFlags says in a line where flags are.
func drawFlags(p printer, f *view.FlagsSummary) {
	if f == nil {
		return
	}
	announced := countsOf(f.Announcements, []announce.State{
		announce.Draft, announce.Approved, announce.Scheduled, announce.Armed, announce.Publishing, announce.Published,
		announce.Held, announce.Missed, announce.Cancelled, announce.Retracted, announce.Archived,
	})
	p.line("\nflags: commit %s, height %d; announcements: %s", orDash(short(f.Commit)), f.Height, orDash(announced))
	if len(f.Killed) > 0 {
		p.line("%s", p.paint(red, "killed: "+some(f.Killed)))
	}
	if f.Fault != "" {
		p.line("%s", p.paint(red, f.Fault))
	}
}

// drawn is what drawStatus prints, as lines.
func drawn(p printer, s view.Status) string {
	var b bytes.Buffer
	q := p
	q.Writer = &b
	drawStatus(q, s, false)
	return b.String()
}
