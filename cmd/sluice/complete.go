package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// completeWithin bounds how long a shell waits for names.
const completeWithin = 3 * time.Second

// names lists what a shell may complete an argument to.
type names func(*snapshot) []string

func channelNames(s *snapshot) []string { return s.desired.Order }

func cellNames(s *snapshot) []string { return sortedKeys(s.desired.Cells) }

func releaseNames(s *snapshot) []string {
	var all []string
	for _, r := range s.desired.Versions {
		all = append(all, r.Version.String())
	}
	return all
}

func cellsAndChannels(s *snapshot) []string { return append(cellNames(s), channelNames(s)...) }

func channelsAndReleases(s *snapshot) []string {
	return append(slices.Clone(channelNames(s)), releaseNames(s)...)
}

// complete gives cmd's arguments, in order, to the shell. What goes wrong completes nothing: the command itself will say.
func (a *app) complete(cmd *cobra.Command, arguments ...names) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(arguments) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		repo, err := a.open(ctx, cmd, committer{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer repo.Close()
		s, err := repo.snapshot(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return arguments[len(args)](s), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
