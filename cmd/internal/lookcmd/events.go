package lookcmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/plan"
)

func EventsVerb(a *cli.App) *cobra.Command {
	follow := false
	limit := 20
	cmd := &cobra.Command{
		Use:     "events",
		GroupID: cli.GroupLook,
		Short:   "Show the engine's latest decisions, oldest first, and with -f those to come",
		Long: `Shows promotions, rollbacks, halts and quarantines in the order in which the engine found them in
git. Asks the control plane (--server), or reads the store (--data, --database). With -f it goes on,
until interrupted. The history before the store was made is in sluice log.`,
		Example: `  sluice events -f --server http://127.0.0.1:7600`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !client.UsesServer(a) && a.Data == "" && a.Database == "" {
				return cli.UsageError(cmd, "name the control plane with --server, or its store with --data or --database")
			}
			if limit < 1 || limit > maxEvents {
				return cli.UsageError(cmd, "-n %d is not between 1 and %d", limit, maxEvents)
			}
			ctx, cursor := cmd.Context(), int64(-1)
			for {
				page, err := fetchEvents(ctx, a, cursor, limit)
				switch {
				case follow && ctx.Err() != nil:
					return nil
				case err != nil && cursor < 0:
					return fmt.Errorf("events: %w", err)
				case err != nil:
					a.Stderr.PrintLine("%v", err) // the server may recover
				default:
					if len(page.Decisions) > 0 || cursor < 0 && !follow {
						if err := printEvents(a, page.Decisions); err != nil {
							return err
						}
					}
					cursor, limit = page.Next, maxEvents
				}
				if !follow {
					return nil
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with decisions to come")
	cmd.Flags().IntVarP(&limit, "limit", "n", limit, "begin with the latest `N`")
	client.AddServerFlag(a, cmd)
	return cmd
}

// maxEvents is how many decisions one request returns.
const maxEvents = 1000

// fetchEvents returns decisions after a cursor; < 0: the latest.
func fetchEvents(ctx context.Context, a *cli.App, after int64, limit int) (page peopleapi.Events, err error) {
	if client.UsesServer(a) {
		return page, client.GetResource(ctx, a, fmt.Sprintf("/v1/events?since=%d&limit=%d", after, limit), &page)
	}
	st, err := repos.OpenStore(ctx, a, a.Logger())
	if err != nil {
		return page, err
	}
	defer st.Close()
	page.Decisions, page.Next, err = st.Decisions(ctx, after, limit)
	return page, err
}

func printEvents(a *cli.App, all []plan.Decided) error {
	if all == nil {
		all = []plan.Decided{}
	}
	return a.PrintResult(all, func() {
		for _, d := range all {
			what := fmt.Sprintf("%s %s in %s", d.Kind, d.Release, d.Channel)
			if d.Replaces != "" {
				what += ", which had " + d.Replaces
			}
			a.Stdout.PrintLine("%s  %s, commit %s", cli.FormatTime(d.At), what, cli.ShortID(d.Commit))
		}
	})
}
