package lookcmd

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
)

func WhyVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "why CELL|CHANNEL|V",
		GroupID: cli.GroupLook,
		Short:   "Explain what a cell or channel runs, what it should run, and every verdict between",
		Long: `Of a cell or a channel: what it runs, what it should run, and everything that keeps it from that. Of a
release, by its version: where it is in each channel, or what it waits for there. With -o json, the
verdicts have their gates, codes and instants.`,
		Example: `  sluice why dedicated --server http://127.0.0.1:7600
  sluice why 2026.11.3
  sluice why acme --repo https://git.example/releases --data /var/lib/sluice`,
		Args: cli.ArgumentCount(1, 1, "CELL, CHANNEL or V, a release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			why, err := fetchWhy(a, cmd, args[0])
			if err != nil {
				return fmt.Errorf("why %s: %w", args[0], err)
			}
			return a.PrintResult(why, func() {
				for i, line := range why.Lines {
					colour := cli.Plain
					if i == 0 {
						colour = cli.Bold
					}
					a.Stdout.PrintLine("%s", a.Stdout.Paint(colour, line))
				}
			})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

func fetchWhy(a *cli.App, cmd *cobra.Command, name string) (why view.Explanation, err error) {
	ctx := cmd.Context()
	if client.UsesServer(a) {
		return why, client.GetResource(ctx, a, "/v1/why/"+url.PathEscape(name), &why)
	}
	v, err := repos.LocalView(ctx, a, cmd, false)
	if err != nil {
		return why, err
	}
	var refused time.Time
	err = repos.ReadStore(ctx, a, func(st repos.Store) (err error) {
		refused, err = auth.FormerKeyRefused(ctx, st, name)
		return err
	})
	if err != nil {
		return why, err
	}
	why, ok := view.Why(v, name, refused)
	if !ok {
		names := repos.EverythingWithAWhy(&edits.Releases{Desired: v.Desired})
		return why, cli.Fail(errors.New("neither a cell, a channel nor a release has that name"+
			words.DidYouMean(name, names)),
			"sluice status lists channels and cells; sluice release list lists releases")
	}
	err = repos.ReadStore(ctx, a, func(st repos.Store) error {
		return exports.New(st.Records(), nil).AddToWhy(ctx, &why, v.Plan.Now)
	})
	return why, err
}
