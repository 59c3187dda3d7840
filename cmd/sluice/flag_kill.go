package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
)

func (a *app) flagKillVerb() *cobra.Command {
	var reason, until string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "kill KEY --reason WHY",
		Short: "Turn a flag off everywhere, at once, whatever else holds",
		Long: `Asks the control plane (--server), which keeps the kill, tells all cells, and then commits it: connected cells have it within two seconds,
whatever is wrong with the repositories or the git host. It says how many confirmed it within --wait, and which did not: a cell that
is offline has it when it comes back. Without a control plane it commits overrides/kill-KEY.yaml itself.

The flag then has the variant metadata.off, or its default, and no rule counts. Nothing but a commit lifts it (sluice flag unkill):
--until says when somebody should look at it again, and ends nothing.`,
		Example: `  sluice flag kill new-editor --reason "loses text" --server unix:///run/sluice.sock
  sluice flag kill new-editor --reason "loses text" --until 2h --flags-repo ssh://git@git.example/flags`,
		Args: arguments(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			var end time.Time
			if until != "" {
				var err error
				if end, err = instant(until, time.Now().UTC().Truncate(time.Second)); err != nil {
					return usage(cmd, "--until %w", err)
				}
			}
			if a.asksFlagsServer() {
				return a.killNow(cmd.Context(), args[0], peopleapi.NewKill{Reason: reason, Until: end}, wait)
			}
			return a.commitKill(cmd, args[0], reason, end)
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "why, for everyone who meets it")
	f.StringVar(&until, "until", "", "when somebody should look again: a duration, or a time (RFC 3339)")
	f.DurationVar(&wait, "wait", 2*time.Second, "how long to wait for cells to confirm it")
	a.serverFlag(cmd)
	return cmd
}

// asksFlagsServer tells whether a control plane is to be asked. A flags repository named by a flag goes before the environment.
func (a *app) asksFlagsServer() bool {
	if a.server == "" && a.flagsRepo == "" {
		a.server = a.getenv("SLUICE_SERVER")
	}
	return a.server != ""
}

// killed is how far a kill is.
type killed struct {
	view.FlagKill
	Waiting []string `json:"unconfirmedCells,omitempty"` // cells that did not confirm it, those that are offline included
}

// killNow has the control plane kill a flag, and waits for cells to say that they have it.
func (a *app) killNow(ctx context.Context, key string, k peopleapi.NewKill, wait time.Duration) error {
	var answer peopleapi.Killed
	if err := a.call(ctx, http.MethodPost, "/v1/flags/"+url.PathEscape(key)+"/kill", k, &answer); err != nil {
		if f := new(failure); errors.As(err, &f) && f.next == nobodyThere {
			err = fail(f.err, "while it is down: sluice flag kill %s --reason WHY --flags-repo REPOSITORY commits it, and it is told once serve is back", key)
		}
		return wrapFailure("kill "+key, err)
	}
	seen := killed{FlagKill: answer.FlagKill}
	for end := time.Now().Add(wait); ; {
		now, err := a.killOf(ctx, key, answer.FlagKill)
		if err == nil {
			seen = now
		}
		if err == nil && seen.Unconfirmed == 0 && seen.Cells > 0 || !time.Now().Before(end) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	if done, err := a.encode(seen); done {
		return err
	}
	a.stdout.line("kill %s: kept; %d of %s confirmed that it is off", key, seen.Confirmed, counted(seen.Cells, "cell"))
	if len(seen.Waiting) > 0 {
		a.stdout.line("%s", a.stdout.paint(yellow, fmt.Sprintf("not confirmed: %s; they have it as soon as they are reached (sluice flag show %s)", some(seen.Waiting), key)))
	}
	if answer.Warning != "" {
		a.stdout.line("%s", a.stdout.paint(yellow, answer.Warning))
	}
	a.stdout.line("next: the control plane commits it; sluice flag unkill %s --reason WHY lifts it", key)
	return nil
}

// killOf is how far a kill is now.
func (a *app) killOf(ctx context.Context, key string, which view.FlagKill) (killed, error) {
	d, err := a.flagDetail(ctx, key)
	if err != nil {
		return killed{}, err
	}
	i := slices.IndexFunc(d.Kills, func(k view.FlagKill) bool { return k.Reason == which.Reason && k.By == which.By })
	if i < 0 {
		return killed{FlagKill: which}, nil
	}
	now := killed{FlagKill: d.Kills[i]}
	for _, c := range d.Cells {
		if c.State == view.FlagState(flags.Dead) && !c.Confirmed {
			now.Waiting = append(now.Waiting, c.Cell)
		}
	}
	return now, nil
}

// flagDetail asks the control plane for a flag with all its cells.
func (a *app) flagDetail(ctx context.Context, key string) (all peopleapi.FlagDetail, err error) {
	q := url.Values{"limit": {"10000"}}
	for {
		var page peopleapi.FlagDetail
		if err := a.ask(ctx, "/v1/flags/"+url.PathEscape(key)+"?"+q.Encode(), &page); err != nil {
			return all, err
		}
		page.Cells = append(all.Cells, page.Cells...)
		if all = page; page.Next == "" {
			return all, nil
		}
		q.Set("after", page.Next)
	}
}
