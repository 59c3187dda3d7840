package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/engine/edits"
)

// completionTimeout bounds how long a shell waits for completions.
const completionTimeout = 3 * time.Second

// nameLister returns the completions of an argument.
type nameLister func(*edits.Releases) []string

func ChannelNames(s *edits.Releases) []string { return s.Desired.Order }

func CellNames(s *edits.Releases) []string { return SortedKeys(s.Desired.Cells) }

func ReleaseNames(s *edits.Releases) []string {
	var all []string
	for _, r := range s.Desired.Versions {
		all = append(all, r.Version.String())
	}
	return all
}

// EverythingWithAWhy returns what sluice why explains.
func EverythingWithAWhy(s *edits.Releases) []string {
	return slices.Concat(CellNames(s), ChannelNames(s), ReleaseNames(s))
}

func ChannelsAndReleases(s *edits.Releases) []string {
	return append(slices.Clone(ChannelNames(s)), ReleaseNames(s)...)
}

// Complete completes cmd's arguments, in order, from the release repository. An error completes nothing: the
// command itself will report it.
func Complete(a *App, cmd *cobra.Command, arguments ...nameLister) *cobra.Command {
	return setCompletion(cmd, len(arguments), func(ctx context.Context, i int) ([]string, error) {
		s, err := a.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
		if err != nil {
			return nil, err
		}
		return arguments[i](s), nil
	})
}

// CompleteFromFlags is Complete for one argument, from the flags repository.
func CompleteFromFlags(a *App, cmd *cobra.Command, list func(*edits.Flags) []string) *cobra.Command {
	return setCompletion(cmd, 1, func(ctx context.Context, _ int) ([]string, error) {
		s, err := a.FlagsRepository().ReadSnapshot(ctx, a, cmd)
		if err != nil {
			return nil, err
		}
		return list(s), nil
	})
}

func setCompletion(cmd *cobra.Command, arguments int,
	list func(ctx context.Context, i int) ([]string, error)) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion,
		cobra.ShellCompDirective) {
		if len(args) >= arguments {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		found, err := list(ctx, len(args))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// CompleteFlagValues completes the values of all flags below root, by the placeholder in the flag's own help: CHANNEL
// stands for a channel everywhere. Values that name no such thing are completed as files.
func CompleteFlagValues(a *App, root *cobra.Command) {
	listers := map[string]nameLister{"CHANNEL": ChannelNames, "CELL": CellNames, "RELEASE": ReleaseNames}
	fixed := map[string][]string{
		"FORM": {AsTable, AsJSON, AsYAML}, "ROLE": {"viewer", "operator", "approver", "admin"},
		"LEVEL": {"debug", "info", "warn", "error"},
	}
	complete := func(cmd *cobra.Command, f *pflag.Flag) {
		place, _ := pflag.UnquoteUsage(f)
		list, known := listers[place]
		values := fixed[place]
		if !known && values == nil {
			return
		}
		// The error would say that the flag has a completion already.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion,
			cobra.ShellCompDirective) {
			if !known {
				return values, cobra.ShellCompDirectiveNoFileComp
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
			defer cancel()
			s, err := a.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return list(s), cobra.ShellCompDirectiveNoFileComp
		})
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { complete(root, f) })
	for _, cmd := range allBelow(root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { complete(cmd, f) })
	}
}

func allBelow(cmd *cobra.Command) (all []*cobra.Command) {
	for _, below := range cmd.Commands() {
		all = append(append(all, below), allBelow(below)...)
	}
	return all
}
