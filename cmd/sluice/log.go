package main

import (
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
)

// logged is one move of a channel's head.
type logged struct {
	At       time.Time `json:"at"`
	Kind     plan.Kind `json:"kind"`
	Channel  string    `json:"channel"`
	Release  string    `json:"release"`
	Replaces string    `json:"replaces,omitempty"`
	Sequence int64     `json:"sequence"`
	Hotfix   bool      `json:"hotfix,omitempty"`
	Commit   string    `json:"commit"`
}

func (a *app) logVerb() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "log [CHANNEL]",
		GroupID: groupLook,
		Short:   "Show the deployment history, from git, the newest first",
		Long: `Every move of a channel's head that the engine made, as the repository's history has it. What each rested on is in its
commit: git show COMMIT, or git log channels/CHANNEL/head.yaml.`,
		Args: arguments(0, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := a.open(cmd.Context(), cmd, committer{})
			if err != nil {
				return err
			}
			defer repo.Close()
			s, err := repo.snapshot(cmd.Context())
			if err != nil {
				return err
			}
			names := s.desired.Order
			if len(args) == 1 {
				if _, err := s.channel(args[0]); err != nil {
					return err
				}
				names = args
			}
			list := history(s.desired, names)
			if limit > 0 && len(list) > limit {
				list = list[:limit]
			}
			if done, err := a.encode(list); done {
				return err
			}
			rows := make([][]field, 0, len(list))
			for _, l := range list {
				kind := field{string(l.Kind), green}
				if l.Kind == plan.Rollback {
					kind.colour = red
				}
				if l.Hotfix {
					kind.text += " (hotfix)"
				}
				rows = append(rows, []field{text(stamp(l.At)), kind, text(l.Channel), {l.Release, bold}, text(orDash(l.Replaces)), {short(l.Commit), faint}})
			}
			a.stdout.table([]string{"AT", "WHAT", "CHANNEL", "RELEASE", "REPLACES", "COMMIT"}, rows)
			return nil
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 0, "only the newest so many")
	return cmd
}

func history(d *plan.Desired, names []string) []logged {
	list := []logged{}
	for _, name := range names {
		for _, h := range d.Channels[name].History {
			list = append(list, logged{At: h.Moved, Kind: h.Kind, Channel: name, Release: h.Release, Replaces: h.Replaces, Sequence: h.Sequence, Hotfix: h.Hotfix, Commit: h.Written})
		}
	}
	slices.SortStableFunc(list, func(x, y logged) int { return y.At.Compare(x.At) })
	return list
}
