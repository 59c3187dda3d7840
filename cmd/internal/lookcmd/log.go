package lookcmd

import (
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/plan"
)

// logEntry is one move of a channel's head.
type logEntry struct {
	At       time.Time `json:"at"`
	Kind     plan.Kind `json:"kind"`
	Channel  string    `json:"channel"`
	Release  string    `json:"release"`
	Replaces string    `json:"replaces,omitempty"`
	Sequence int64     `json:"sequence"`
	Hotfix   bool      `json:"hotfix,omitempty"`
	Commit   string    `json:"commit"`
}

func LogVerb(a *cli.App) *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "log [CHANNEL]",
		GroupID: cli.GroupLook,
		Short:   "Show the deployment history from git, newest first",
		Long: `Lists every move of a channel's head that the engine made, as recorded in the repository's history.
The evidence for each move is in its commit: git show COMMIT, or git log channels/CHANNEL/head.yaml.`,
		Args: cli.ArgumentCount(0, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			names := s.Desired.Order
			if len(args) == 1 {
				if _, err := s.Channel(args[0]); err != nil {
					return err
				}
				names = args
			}
			list := logEntries(s.Desired, names)
			if limit > 0 && len(list) > limit {
				list = list[:limit]
			}
			return a.PrintResult(list, func() {
				rows := make([][]cli.Field, 0, len(list))
				for _, l := range list {
					kind := cli.Coloured(string(l.Kind), cli.Green)
					if l.Kind == plan.Rollback {
						kind.Colour = cli.Red
					}
					if l.Hotfix {
						kind.Text += " (hotfix)"
					}
					rows = append(rows, []cli.Field{cli.Text(cli.FormatTime(l.At)), kind, cli.Text(l.Channel),
						cli.Coloured(l.Release, cli.Bold), cli.Text(cli.OrDash(l.Replaces)),
						cli.Coloured(cli.ShortID(l.Commit), cli.Faint)})
				}
				a.Stdout.PrintTable([]string{"AT", "WHAT", "CHANNEL", "RELEASE", "REPLACES", "COMMIT"}, rows)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 0, "show only the newest `N`")
	return cmd
}

func logEntries(d *plan.Desired, names []string) []logEntry {
	list := []logEntry{}
	for _, name := range names {
		for _, h := range d.Channels[name].History {
			list = append(list, logEntry{At: h.Moved, Kind: h.Kind, Channel: name, Release: h.Release,
				Replaces: h.Replaces, Sequence: h.Sequence, Hotfix: h.Hotfix, Commit: h.Written})
		}
	}
	slices.SortStableFunc(list, func(x, y logEntry) int { return y.At.Compare(x.At) })
	return list
}
