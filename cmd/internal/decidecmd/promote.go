// Package decidecmd has the verbs of people's decisions: promote, approve, hold, freeze, rollback, quarantine,
// and rollout.
//
// Each makes one commit in the caller's name; package edits decides its contents, and the engine acts on it. A
// verb runs in one goroutine.
package decidecmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/reason"
)

func PromoteVerb(a *cli.App) *cobra.Command {
	var d edits.Promote
	var wait, cancel bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "promote V --to CHANNEL | CHANNEL V | CHANNEL --cancel",
		GroupID: cli.GroupDecide,
		Short:   "Request a release in a channel",
		Long: `Commits a request: the channel's head.yaml with another release, and nothing else changed. The
engine answers with a promotion of its own that names you, or with a verdict. Gates apply to
requests too, unless the channel says "people: free". With --wait, the verdicts are shown as they
change until the engine has answered; the exit code is 3 if that takes longer than --timeout.
Verdicts that depend on cells' reports need --server or --data. --cancel takes a request back, as long
as the engine has not answered it.`,
		Example: `  sluice promote 2026.11.3 --to dedicated
  sluice promote dedicated --cancel
  sluice promote dedicated 2026.11.3 --wait --server http://127.0.0.1:7600`,
		Args: cli.ArgumentCount(1, 2, "the release's version"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch d.Release = args[0]; {
			case cancel && (wait || d.Channel != "" && len(args) == 2):
				return cli.UsageError(cmd, "--cancel takes the channel alone")
			case cancel:
				// The form that asked is accepted too: V --to CHANNEL, CHANNEL V. It takes back no other request.
				undo := edits.CancelRequest{Channel: args[0], Reason: d.Reason}
				if d.Channel != "" {
					undo.Channel, undo.Release = d.Channel, args[0]
				} else if len(args) == 2 {
					undo.Release = args[1]
				}
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), undo)
			case d.Channel != "" && len(args) == 2:
				return cli.UsageError(cmd, "name the channel once: --to %s or %s", d.Channel, args[0])
			case len(args) == 2:
				d.Channel, d.Release = args[0], args[1]
			case d.Channel == "":
				return cli.UsageError(cmd, "the channel is missing")
			}
			return pushPromotion(a, cmd, d, wait, timeout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Channel, "to", "", "`CHANNEL` to promote to")
	f.StringVar(&d.Reason, "reason", "", "reason, recorded in the commit")
	f.BoolVar(&cancel, "cancel", false, "take a request back")
	f.BoolVar(&wait, "wait", false, "wait for the engine's answer")
	cli.AddDurationFlag(f, &timeout, "timeout", 10*time.Minute, "how long --wait waits")
	client.AddServerFlag(a, cmd)
	return cmd
}

func pushPromotion(a *cli.App, cmd *cobra.Command, d edits.Promote, wait bool, timeout time.Duration) error {
	repo, p, err := repos.ReleaseRepository().OpenPusher(a, cmd)
	if err != nil {
		return repos.DecisionError(d, err)
	}
	defer repo.Close()
	if !wait || a.DryRun {
		return repos.PushOrShow(cmd.Context(), a, repo, p, d)
	}
	if _, err := p.Push(cmd.Context(), d); err != nil {
		return err
	}
	return awaitAnswer(cmd.Context(), a, repo, d, timeout)
}

// awaitAnswer prints the verdicts on a request until the engine has answered.
func awaitAnswer(ctx context.Context, a *cli.App, repo *repos.OpenRepository, d edits.Promote,
	timeout time.Duration) error {
	what, _ := d.Message()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := ""
	for {
		s, err := repo.ReadReleases(ctx)
		if err == nil {
			c, err := s.Channel(d.Channel)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			if e := c.Effective; e != nil && e.Release == d.Release {
				return repos.PrintDone(a, edits.Result{Commit: e.Written, Summary: what})
			}
			if c.Request == nil || c.Request.Release != d.Release {
				return cli.Blocked(fmt.Errorf("%s: it is no longer requested", what),
					"sluice log %s shows what happened", d.Channel)
			}
			if now := blockingVerdicts(ctx, a, repo, d.Channel, d.Release); now != last && ctx.Err() == nil {
				last = now
				a.Stderr.PrintLine("%s %s", a.Stderr.Paint(cli.Faint, time.Now().Format(time.TimeOnly)), last)
			}
		} else if ctx.Err() == nil {
			a.Stderr.PrintLine("%v", err) // the host may recover
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return cli.Blocked(fmt.Errorf("%s: not answered within %s: %s", what, cli.FormatDuration(timeout),
					cli.OrDash(last)), "sluice why %s; the request stands", d.Channel)
			}
			return ctx.Err()
		case <-time.After(pollInterval(a, repo)):
		}
	}
}

// pollInterval returns how often to read the repository while waiting.
func pollInterval(a *cli.App, repo *repos.OpenRepository) time.Duration {
	if repos.IsRemote(repo.Address) {
		return 3 * time.Second
	}
	return 200 * time.Millisecond
}

// blockingVerdicts returns in words what blocks a release in a channel, as far as observations are known here.
func blockingVerdicts(ctx context.Context, a *cli.App, repo *repos.OpenRepository, channel, version string) string {
	const unknown = "waits for the engine (--server or --data would show for what)"
	if repos.CheckObserved(a) != nil {
		return unknown
	}
	s, err := repos.FetchStatus(ctx, a, nil, &repo, view.StatusPage{Channel: channel})
	if err != nil {
		return err.Error()
	}
	var gates []string
	for _, c := range s.Channels {
		for _, b := range c.Blocked {
			if b.Code != reason.RequestWaits && c.Name == channel && (b.Release == version || b.Release == "") &&
				!slices.Contains(gates, b.String()) {
				gates = append(gates, b.String())
			}
		}
	}
	if len(gates) == 0 {
		return "waits for the engine"
	}
	return strings.Join(gates, "; ")
}
