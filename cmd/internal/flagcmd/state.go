package flagcmd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
)

// flagsState is the tip of the flags repository, with what follows for channels and cells as far as they are
// known here. The caller closes it.
type flagsState struct {
	*edits.Flags
	repo  *repos.OpenRepository
	view  *view.View // of the release repository; nil: none is named
	input announce.Input
	plan  announce.Plan
}

func (o *flagsState) Close() { o.repo.Close() }

// openFlagsState decides as the announcer would at now, from the repositories and the store in --data, and
// changes nothing.
func openFlagsState(a *cli.App, cmd *cobra.Command, now time.Time) (*flagsState, error) {
	ctx := cmd.Context()
	v, err := namedReleasesView(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	repo, err := repos.OpenFlags(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	s, err := repo.ReadFlags(ctx)
	if err != nil {
		repo.Close()
		return nil, err
	}
	o := &flagsState{Flags: s, repo: repo, view: v}
	if o.input, err = announcer.ReadInput(ctx, repo.Repo, s.Commit, v, now); err != nil {
		repo.Close()
		return nil, fmt.Errorf("read %s: %w", repo.Address, err)
	}
	if v == nil {
		o.input.Channels = knownChannels(s)
	}
	o.plan = announce.Make(o.input)
	return o, nil
}

// namedReleasesView returns the view of the release repository with all releases; nil: no release repository is
// named.
func namedReleasesView(ctx context.Context, a *cli.App, cmd *cobra.Command) (*view.View, error) {
	if a.Repo == "" && a.Getenv("SLUICE_REPO") == "" {
		return nil, nil
	}
	return repos.LocalView(ctx, a, cmd, true)
}

// checkPlaces refuses a channel or a cell that the release repository does not have, if one is named and can be read: a
// flags repository takes any name, and serves no cell by it.
func checkPlaces(a *cli.App, cmd *cobra.Command, channels, cells []string) error {
	if a.Repo == "" && a.Getenv("SLUICE_REPO") == "" {
		return nil
	}
	s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
	if err != nil {
		return nil //nolint:nilerr // what is decided goes to the flags repository
	}
	for _, name := range channels {
		if _, err := s.Channel(name); err != nil {
			return err
		}
	}
	for _, name := range cells {
		if _, err := s.Cell(name); err != nil {
			return err
		}
	}
	return nil
}

// knownChannels returns the channels for which the engine has written to the flags repository; such channels
// have an upstream.
func knownChannels(s *edits.Flags) (all []announce.Channel) {
	names := cli.SortedKeys(s.Tree.Heads)
	for _, of := range s.Tree.Records {
		names = append(names, cli.SortedKeys(of)...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		all = append(all, announce.Channel{Name: name, After: []string{"its upstream"}})
	}
	return all
}
