// Package lookcmd has the verbs that show what is happening and why: status, plan, why, log, diff, and
// simulate.
//
// They change nothing, and show the engine's decisions, never decisions of their own. A verb runs in one
// goroutine.
package lookcmd

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

func StatusVerb(a *cli.App) *cobra.Command {
	var watch bool
	var form StatusForm
	var every time.Duration
	var page view.StatusPage
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: cli.GroupLook,
		Short:   "Show the channels, their heads, and the cells",
		Long: `Asks the control plane (--server), or reads the repository and the store (--repo, --data). With
--watch, the status is shown again whenever it changes, until interrupted: redrawn in place on a
terminal, appended elsewhere.

Cells that need attention come first. In a large fleet, a few of each kind are named and the others
are counted; --all names every cell. --wide adds, for each channel, how and by which commit its head
moved; for each cell the exact bytes, the last grant, what failed last, how far its clock is off, and
when it exported last.
-o json always has all of that.

  shut out   the key is revoked, or used from two places
  failing    unhealthy, failed, stuck, or went back to an earlier release
  silent     has not reported within staleAfter
  new        has never reported
  held       kept back by its wave, a window, a hold, a maintenance or its owner
  updating   was granted something new, or has started on it
  behind     on another release, with nothing of its own to hold it back
  healthy    on the head of its channel`,
		Example: `  sluice status --server http://127.0.0.1:7600 --watch
  sluice status --repo releases --data data --channel dedicated --wide`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var repo *repos.OpenRepository
			defer func() {
				if repo != nil {
					repo.Close()
				}
			}()
			if !watch {
				s, err := repos.FetchStatus(cmd.Context(), a, cmd, &repo, page)
				if err != nil {
					return err
				}
				return printStatus(a, s, form)
			}
			return watchStatus(a, cmd, &repo, page, every, form)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&watch, "watch", "w", false, "show the status again whenever it changes")
	cli.AddDurationFlag(f, &every, "every", time.Second, "with --watch: how often to check")
	f.StringVar(&page.Channel, "channel", "", "show only this `CHANNEL` and its cells")
	f.BoolVarP(&form.All, "all", "a", false, "name every cell, even in a large fleet")
	f.BoolVar(&form.Wide, "wide", false, "show more columns: digests, commits, grants, failures, clocks")
	client.AddServerFlag(a, cmd)
	return cmd
}

// StatusForm says how much of a status is drawn.
type StatusForm struct {
	All  bool // name every cell, even in a large fleet
	Wide bool // with more columns
}

func printStatus(a *cli.App, s view.Status, form StatusForm) error {
	return a.PrintResult(s, func() { DrawStatus(a.Stdout, s, form) })
}

// watchStatus prints the status until ctx ends. Where the status can't be drawn in place, changes that only
// time brings print nothing.
func watchStatus(a *cli.App, cmd *cobra.Command, repo **repos.OpenRepository, page view.StatusPage, every time.Duration,
	form StatusForm) error {
	ctx := cmd.Context()
	before := ""
	for {
		s, err := repos.FetchStatus(ctx, a, cmd, repo, page)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && before == "":
			return err
		case err != nil:
			a.Stderr.PrintLine("%v", err)
		default:
			if key := statusFingerprint(s); key != before || a.Stdout.Terminal && a.Output == cli.AsTable {
				if a.Stdout.Terminal && a.Output == cli.AsTable {
					fmt.Fprint(a.Stdout, "\x1b[H\x1b[2J")
				} else if before != "" && a.Output == cli.AsTable {
					a.Stdout.PrintLine("")
				}
				before = key
				if a.Stdout.Terminal && a.Output == cli.AsTable {
					fmt.Fprint(a.Stdout, a.Stdout.FitScreen(statusText(a.Stdout, s, form), "sluice status shows all"))
				} else if err := printStatus(a, s, form); err != nil {
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

// statusFingerprint returns a status without what time alone changes.
func statusFingerprint(s view.Status) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Commit, s.Unread, s.Diverged != nil, len(s.Faults))
	if f := s.Flags; f != nil {
		fmt.Fprintln(&b, f.Commit, f.Fault, f.Killed, f.Announcements)
	}
	for _, c := range s.Channels {
		fmt.Fprintln(&b, c.Name, c.Release, c.Sequence, c.Request, c.Refused, c.Holds, c.Cells, c.OnHead, c.Healthy,
			c.Failing, c.Blocked)
	}
	for _, c := range s.Cells {
		fmt.Fprintln(&b, c.Name, c.Channel, c.Release, c.State, c.Condition, c.Message, c.Applying, c.Granted,
			c.Failures, c.Blocked, c.Maintenance.String())
	}
	return b.String()
}

// DrawStatus prints the channels and the cells, with the cells that need attention first.
func DrawStatus(p cli.Printer, s view.Status, form StatusForm) {
	if s.Unread != nil {
		p.PrintLine("%s", p.Paint(cli.Red, s.Unread.String()))
	}
	if s.Diverged != nil {
		p.PrintLine("%s", p.Paint(cli.Red,
			fmt.Sprintf("the branch was rewritten: it no longer contains %s, which was acted upon. "+
				"Nothing moves until a person accepts that: sluice why CHANNEL", cli.ShortID(s.Diverged.Seen))))
	}
	if n := len(edits.Fatal(s.Faults)); n > 0 {
		p.PrintLine("%s", p.Paint(cli.Red,
			fmt.Sprintf("%s in the repository, the first: %s (sluice validate)", words.Count(n, "fault"),
				edits.Fatal(s.Faults)[0])))
	}
	drawChannels(p, s, form.Wide)
	drawFlags(p, s.Flags)
	drawImages(p, s.Images)
	drawExports(p, s.Cells)
	if len(s.Cells) > 0 {
		p.PrintLine("")
		drawCells(p, s, form)
	}
	if len(s.Notes) > 0 {
		p.PrintLine("")
	}
	for _, note := range s.Notes {
		p.PrintLine("note: %s", note)
	}
}

func drawChannels(p cli.Printer, s view.Status, wide bool) {
	heading := []string{"CHANNEL", "RELEASE", "SEQUENCE", "FOR", "HEALTHY"}
	if wide {
		heading = append(heading, "ON HEAD", "MOVED BY", "REPLACES", "DIGEST", "COMMIT", "AFTER")
	}
	rows := make([][]cli.Field, 0, len(s.Channels))
	for _, c := range s.Channels {
		row := []cli.Field{cli.Coloured(c.Name, cli.Bold), cli.Text(cli.OrDash(c.Release)),
			cli.Text(fmt.Sprint(c.Sequence)), cli.Text(cli.Ago(s.Now, c.Since)), healthyField(c)}
		if wide {
			row = append(row, cli.Text(fmt.Sprintf("%d of %d", c.OnHead, c.Cells)), movedField(c),
				cli.Text(cli.OrDash(c.Replaces)), cli.Text(cli.OrDash(cli.ShortID(string(c.Digest)))),
				cli.Text(cli.OrDash(cli.ShortID(c.Commit))), cli.Text(cli.OrDash(strings.Join(c.After, ", "))))
		}
		rows = append(rows, append(row, waitsField(c)))
	}
	p.PrintTable(append(heading, "WAITS FOR"), rows)
}

// movedField says how a channel's head came to its release.
func movedField(c view.ChannelStatus) cli.Field {
	f := cli.Text(cli.OrDash(string(c.Kind)))
	if c.Hotfix {
		f.Text += " (hotfix)"
	}
	if c.Kind == plan.Rollback {
		f.Colour = cli.Red
	}
	return f
}

// healthyField counts a channel's healthy cells, and the others by condition.
func healthyField(c view.ChannelStatus) cli.Field {
	now := c.Counts[view.ConditionHealthy] // c.Healthy includes cells that have fallen silent since
	healthy := cli.Coloured(fmt.Sprintf("%d of %d", now, c.Cells), cli.Green)
	if now < c.Cells {
		healthy.Colour = cli.Yellow
	}
	for _, is := range conditions {
		if n := c.Counts[is]; n > 0 && is != view.ConditionHealthy {
			healthy.Text += fmt.Sprintf(", %d %s", n, conditionWord(is))
		}
	}
	if c.Counts[view.ConditionFailing]+c.Counts[view.ConditionShutOut] > 0 {
		healthy.Colour = cli.Red
	}
	return healthy
}

// waitsField sums up what keeps a channel from moving.
func waitsField(c view.ChannelStatus) cli.Field {
	var parts []string
	colour := cli.Yellow
	for _, h := range c.Holds {
		parts, colour = append(parts, "hold: "+h.Why()), cli.Red
	}
	if c.Refused != "" {
		parts, colour = append(parts, c.Refused), cli.Red
	}
	if r := c.Request; r != nil {
		part := fmt.Sprintf("%s asked for %s", r.By, cli.OrDash(r.Release))
		if r.Reason != "" {
			part += ": " + r.Reason
		}
		parts = append(parts, part)
	}
	for _, b := range c.Blocked {
		if b.Code == reason.Hold && len(c.Holds) > 0 || b.Code == reason.RequestWaits {
			continue
		}
		part := strings.TrimSpace(b.Release + " " + b.Gate)
		switch b.Code {
		case reason.Frozen, reason.Quarantine, reason.QuarantineStays: // a person's own words
			part += ": " + b.Reason
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	const few = 3
	if len(parts) > few {
		parts = append(parts[:few], fmt.Sprintf("%d more", len(parts)-few))
	}
	return cli.Coloured(strings.Join(parts, "; "), colour)
}

// drawFlags prints the state of flags.
func drawFlags(p cli.Printer, f *view.FlagsSummary) {
	if f == nil {
		return
	}
	announced := cli.FormatCounts(f.Announcements, []announce.State{
		announce.Draft, announce.Approved, announce.Scheduled, announce.Armed, announce.Publishing, announce.Published,
		announce.Held, announce.Missed, announce.Cancelled, announce.Retracted, announce.Archived, announce.Gone,
	})
	p.PrintLine("\nflags: commit %s, height %d; announcements: %s", cli.OrDash(cli.ShortID(f.Commit)), f.Height,
		cli.OrDash(announced))
	if len(f.Killed) > 0 {
		p.PrintLine("%s", p.Paint(cli.Red, "killed: "+words.Some(f.Killed, 5)))
	}
	if f.Fault != "" {
		p.PrintLine("%s", p.Paint(cli.Red, f.Fault))
	}
}

func drawImages(p cli.Printer, i *view.ImagesSummary) {
	if i == nil {
		return
	}
	p.PrintLine("")
	p.PrintLine("images: %s by cells, %d from disk; %s fetched, %s served; %s of %s on disk",
		words.Count(int(i.Pulls), "pull"), i.Hits, words.Bytes(i.FetchedBytes), words.Bytes(i.ServedBytes),
		words.Bytes(i.UsedBytes), words.Bytes(i.QuotaBytes))
	if i.Lacking > 0 {
		p.PrintLine("images: %s of channels' heads still to be fetched: %s known to be missing",
			words.Count(int(i.Lacking), "image"), words.Bytes(i.LackingBytes))
	}
	if i.Fault != "" {
		p.PrintLine("images: %s", p.Paint(cli.Red, i.Fault+": the list before stays in force"))
	}
}

// StatusText returns what DrawStatus prints.
func StatusText(p cli.Printer, s view.Status) string { return statusText(p, s, StatusForm{}) }

func statusText(p cli.Printer, s view.Status, form StatusForm) string {
	var b bytes.Buffer
	q := p
	q.Writer = &b
	DrawStatus(q, s, form)
	return b.String()
}
