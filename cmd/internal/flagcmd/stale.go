package flagcmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
)

func flagStaleVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stale",
		Short: "List flags that are on everywhere for good, and after which release their code can go",
		Long: `A flag is stale if it has no rule, an announcement of its feature is published for everyone in every
channel, and every release that is a channel's head or runs in a cell contains the feature; or if it
was never more than a constant. The next release can do without asking for the flag; once no cell
runs an older release, the flag can be removed, and its announcement archived (archived: true).

Which releases cells run is asked of the control plane (--server) or read from the store in --data;
the features are in the release repository (--repo or $SLUICE_REPO).`,
		Example: `  sluice flag stale --repo releases --server http://127.0.0.1:7600`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			server := a.Server
			if server == "" {
				server = a.Getenv("SLUICE_SERVER")
			}
			o, err := openFlagsState(a, cmd, time.Now())
			if err != nil {
				return err
			}
			defer o.Close()
			if o.view == nil {
				return cli.UsageError(cmd,
					"which release contains which feature is in the release repository: name it with --repo, or "+
						"set SLUICE_REPO")
			}
			if a.Server = server; a.Server == "" && !repos.NamesStore(a) {
				return cli.UsageError(cmd, "which releases cells run is not known here: name the control plane with "+
					"--server, or its store with --data")
			}
			if a.Server != "" {
				status, err := client.FetchServerStatus(cmd.Context(), a, "")
				if err != nil {
					return err
				}
				o.input.Releases = o.releasesInUse(status)
			}
			list := announce.Stale(o.input)
			if done, err := a.PrintEncoded(append([]announce.StaleFlag{}, list...)); done {
				return err
			}
			if len(list) == 0 {
				a.Stdout.PrintLine("no flag is stale")
				return nil
			}
			next := "" // the newest release that may still ask
			if n := len(o.input.Releases); n > 0 {
				next = o.input.Releases[n-1].Version
			}
			rows := make([][]cli.Field, 0, len(list))
			for _, f := range list {
				rows = append(rows, []cli.Field{cli.Coloured(f.Key, cli.Bold), cli.Text(cli.OrDash(f.Feature)),
					cli.Text(f.Variant), cli.Text(cli.OrDash(f.Since)), cli.Text(cli.OrDash(next)),
					cli.Text(fmt.Sprintf("%s:%d", f.File, f.Line))})
			}
			a.Stdout.PrintTable([]string{"FLAG", "FEATURE", "ALWAYS", "CONTAINED SINCE", "CODE CAN GO AFTER", "FILE"},
				rows)
			return nil
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

// releasesInUse returns the releases that are a channel's head or run in a cell, newest last.
func (o *flagsState) releasesInUse(s view.Status) (all []announce.Release) {
	runs := map[string]bool{}
	for _, c := range s.Channels {
		runs[c.Release] = true
	}
	for _, c := range s.Cells {
		runs[c.Release] = true
	}
	for _, r := range o.view.Desired.Versions {
		if runs[r.Version.String()] {
			all = append(all, announce.Release{Version: r.Version.String(), Features: r.Features})
		}
	}
	return all
}
