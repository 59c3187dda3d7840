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
	return completed(cmd, len(arguments), func(ctx context.Context, i int) ([]string, error) {
		repo, err := a.open(ctx, cmd, committer{})
		if err != nil {
			return nil, err
		}
		defer repo.Close()
		s, err := repo.snapshot(ctx)
		if err != nil {
			return nil, err
		}
		return arguments[i](s), nil
	})
}

// completeFlags is complete for arguments that the flags repository knows.
func (a *app) completeFlags(cmd *cobra.Command, list func(*flagsSnapshot) []string) *cobra.Command {
	return completed(cmd, 1, func(ctx context.Context, _ int) ([]string, error) {
		repo, err := a.openFlags(ctx, cmd, committer{})
		if err != nil {
			return nil, err
		}
		defer repo.Close()
		s, err := repo.flags(ctx)
		if err != nil {
			return nil, err
		}
		return list(s), nil
	})
}

func completed(cmd *cobra.Command, arguments int, list func(ctx context.Context, i int) ([]string, error)) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= arguments {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		found, err := list(ctx, len(args))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
