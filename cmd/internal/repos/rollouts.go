package repos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// FetchRollouts returns the progress of rollouts, from the control plane or from the repository and the store.
// With a channel, the result is that channel's alone.
func FetchRollouts(ctx context.Context, a *cli.App, cmd *cobra.Command, channel string) ([]plan.Progress, error) {
	if client.UsesServer(a) {
		var all peopleapi.Rollouts
		err := client.GetResource(ctx, a, "/v1/rollouts?channel="+url.QueryEscape(channel), &all)
		if err == nil && channel != "" && len(all.Rollouts) != 1 {
			err = fmt.Errorf("the control plane returned %d rollouts instead of one", len(all.Rollouts))
		}
		return all.Rollouts, err
	}
	v, err := LocalView(ctx, a, cmd, false)
	if err != nil {
		return nil, err
	}
	if channel != "" {
		if _, err := (&edits.Releases{Desired: v.Desired}).Channel(channel); err != nil {
			return nil, err
		}
	}
	return view.Rollouts(v, channel), nil
}

// AwaitRollout waits as awaitRollout does, and prints the end; what begins its error.
func AwaitRollout(a *cli.App, cmd *cobra.Command, what, channel, version string, timeout time.Duration) error {
	err := CheckObserved(a)
	if _, wrong := releases.ParseVersion(version); err == nil && version != "" && wrong != nil {
		err = cli.Fail(wrong, "sluice release list shows the versions that there are")
	}
	var p plan.Progress
	if err == nil {
		p, err = awaitRollout(cmd.Context(), a, cmd, channel, version, timeout)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return a.PrintResult(p, func() {
		a.Stdout.PrintLine("%s: %s is rolled out, healthy in %d of %s", p.Channel, p.Release, p.Healthy,
			words.Count(p.Cells, "cell"))
	})
}

// awaitRollout waits until a channel's head, or a release in it, has reached the cells that it is for, and tells on
// standard error what it waits for. It fails if the channel leaves the release, and is blocked if that takes too long.
func awaitRollout(ctx context.Context, a *cli.App, cmd *cobra.Command, channel, version string,
	timeout time.Duration) (p plan.Progress, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last, seen, began := "", version, time.Now()
	for {
		all, err := FetchRollouts(ctx, a, cmd, channel)
		switch {
		case ctx.Err() != nil:
		case err != nil && p.Channel == "" && isStarting(a, err) && time.Since(began) < startTime:
		case err != nil && p.Channel == "":
			return p, err
		case err != nil:
			a.Stderr.PrintLine("%v", err) // the server may recover
		default:
			left := p.Release != "" && p.Release == seen && all[0].Release != seen
			if p = all[0]; seen == "" {
				seen = p.Release // wait for what is there now
			}
			waits, outcome := judgeProgress(p, seen)
			switch {
			case left:
				return p, cli.Fail(fmt.Errorf("%s left %s for %s", channel, seen, p.Release), "sluice why %s", seen)
			case outcome != "":
				return p, cli.Fail(fmt.Errorf("%s will not have %s: %s", channel, seen, outcome), "sluice why %s", seen)
			case isPast(p, seen) && (!client.UsesServer(a) || time.Since(began) > readTime):
				return p, cli.Fail(fmt.Errorf("%s is past %s: it runs %s", channel, seen, p.Release),
					"sluice why %s", seen)
			case waits == "":
				return p, nil
			case waits != last:
				last = waits
				a.Stderr.PrintLine("%s %s", a.Stderr.Paint(cli.Faint, time.Now().Format(time.TimeOnly)), last)
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return p, cli.Blocked(fmt.Errorf("not done within %s: %s", cli.FormatDuration(timeout),
					cli.OrDash(last)), "sluice why %s", channel)
			}
			return p, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// judgeProgress returns what a release waits for in a channel; empty: it is rolled out. never says why it will not be.
func judgeProgress(p plan.Progress, version string) (waits, never string) {
	var reasons []string
	for _, b := range p.Blocked {
		if b.Release != "" && b.Release != version || b.Code == reason.RequestWaits {
			continue
		}
		final := b.Code == reason.Quarantine || b.Code == reason.VersionPassed || b.Code == reason.Prerelease
		if b.Release == version && final {
			return "", b.Reason
		}
		reasons = append(reasons, b.String())
	}
	if p.Release != version || version == "" {
		if v, err := releases.ParseVersion(version); err == nil && v.IsPrerelease() && p.NoPrereleases {
			return "", reason.Prerelease.Words(p.Channel)
		}
		if len(reasons) == 0 {
			reasons = []string{"the engine has not promoted it yet"}
		}
		return strings.Join(slices.Compact(reasons), "; "), ""
	}
	if p.Finished && (p.Healthy > 0 || p.Cells == 0) {
		return "", ""
	}
	reasons = append(reasons, fmt.Sprintf("%d of %s healthy on it", p.Healthy, words.Count(p.Cells, "cell")))
	for _, w := range p.Waiting {
		reasons = append(reasons, fmt.Sprintf("%s: %s", w.Gate, w.Reason))
	}
	return strings.Join(slices.Compact(reasons), "; "), ""
}

// isPast reports whether a channel runs a greater release, and no one asked for this one.
func isPast(p plan.Progress, version string) bool {
	wanted, err := releases.ParseVersion(version)
	head, wrong := releases.ParseVersion(p.Release)
	return err == nil && wrong == nil && wanted.Less(head) &&
		!slices.ContainsFunc(p.Blocked, func(b channels.Verdict) bool { return b.Release == version })
}

// readTime is how long a control plane may take to read a commit that nobody announces, such as a request to go back.
const readTime = 75 * time.Second

// startTime is how long a control plane may take to start while somebody waits for it.
const startTime = 20 * time.Second

// isStarting reports whether an error may be that of a control plane that has not started yet.
func isStarting(a *cli.App, err error) bool {
	no := new(client.Refusal)
	return client.UsesServer(a) && (!errors.As(err, &no) || no.Status == http.StatusServiceUnavailable)
}
