package repos

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
)

// nameLister returns the completions of an argument.
type nameLister func(*edits.Releases) []string

func ChannelNames(s *edits.Releases) []string { return s.Desired.Order }

func CellNames(s *edits.Releases) []string { return cli.SortedKeys(s.Desired.Cells) }

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
func Complete(a *cli.App, cmd *cobra.Command, arguments ...nameLister) *cobra.Command {
	return cli.CompleteArguments(cmd, len(arguments), func(ctx context.Context, i int) ([]string, error) {
		s, err := ReleaseRepository().ReadSnapshot(ctx, a, cmd)
		if err != nil {
			return nil, err
		}
		return arguments[i](s), nil
	})
}

// CompleteFromFlags is Complete for one argument, from the flags repository.
func CompleteFromFlags(a *cli.App, cmd *cobra.Command, list func(*edits.Flags) []string) *cobra.Command {
	return cli.CompleteArguments(cmd, 1, func(ctx context.Context, _ int) ([]string, error) {
		s, err := FlagsRepository().ReadSnapshot(ctx, a, cmd)
		if err != nil {
			return nil, err
		}
		return list(s), nil
	})
}

// Listers returns the completions of flags' values that the release repository has, by the placeholder in the flags'
// own help: CHANNEL stands for a channel everywhere.
func Listers(a *cli.App) map[string]cli.Lister {
	all := map[string]cli.Lister{}
	for placeholder, list := range map[string]nameLister{"CHANNEL": ChannelNames, "CELL": CellNames,
		"RELEASE": ReleaseNames} {
		all[placeholder] = func(ctx context.Context, cmd *cobra.Command) ([]string, error) {
			s, err := ReleaseRepository().ReadSnapshot(ctx, a, cmd)
			if err != nil {
				return nil, err
			}
			return list(s), nil
		}
	}
	return all
}
