package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/edit"
)

func (a *app) flagPromoteVerb() *cobra.Command {
	var to, reason string
	cmd := &cobra.Command{
		Use:   "promote CHANNEL",
		Short: "Give a channel the flags without an announcement as they are now, without the wait",
		Long: `A channel with an upstream has the definitions of flags without an announcement from the commit in heads/CHANNEL.yaml, which the engine
moves once the upstream's cells served them for the time that sluice.yaml calls soak. This commits that file by hand: the tip, or --to.
Announced features are not concerned: theirs are approved.`,
		Example: `  sluice flag promote dedicated --reason "the new limit, today"`,
		Args:    arguments(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel := args[0]
			if !holdID.MatchString(channel) {
				return usage(cmd, "%q can't be a channel's name", channel)
			}
			c := change{what: "promote flags to " + channel, body: reason}
			return a.commitFlags(cmd, c, func(s *flagsSnapshot) (map[string][]byte, error) {
				return s.promoted(cmd.Context(), channel, to)
			}, func() string { return "its cells have them with their next look; sluice flag list tells" })
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`COMMIT` of the flags repository (default: the tip)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the commit")
	return cmd
}

// promoted is the file that gives a channel the flags of a commit; empty: the tip.
func (s *flagsSnapshot) promoted(ctx context.Context, channel, to string) (map[string][]byte, error) {
	head := cmp.Or(to, s.commit)
	if in, err := s.repo.Ancestor(ctx, head, s.commit); err != nil || !in {
		return nil, fail(fmt.Errorf("--to %s is not in the branch's history", to), "git -C CLONE log --first-parent lists its commits: name one in full")
	}
	if s.tree.Invalid && head == s.commit {
		return nil, fail(fmt.Errorf("the tip has faults: %s", fatal(s.tree.Faults)[0]), "mend them first; sluice flag lint tells all")
	}
	if s.tree.Heads[channel].Commit == head || s.sameFlags(channel, head) {
		return nil, errUnchanged
	}
	data, err := edit.New(edit.Fields{{Key: "commit", Value: head}})
	return map[string][]byte{path.Join(flags.HeadsDir, channel+".yaml"): data}, err
}

// sameFlags tells whether the channel's head has the same definitions as a commit: heads and records alone came between.
func (s *flagsSnapshot) sameFlags(channel, commit string) bool {
	then, err := s.repo.FS(s.tree.Heads[channel].Commit)
	if err != nil {
		return false
	}
	now, err := s.repo.FS(commit)
	if err != nil {
		return false
	}
	before, err1 := readAll(then, flags.DefinitionsDir)
	after, err2 := readAll(now, flags.DefinitionsDir)
	return err1 == nil && err2 == nil && maps.EqualFunc(before, after, bytes.Equal)
}
