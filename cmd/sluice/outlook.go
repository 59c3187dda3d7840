package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
)

// outlook is what the flags repository says, and what follows for channels and cells as far as they are known here. Close it.
type outlook struct {
	*flagsSnapshot
	view  *view.View // of the release repository; nil: it was not named
	input announce.Input
	plan  announce.Plan
}

func (o *outlook) Close() { o.repo.Close() }

// outlook decides as the announcer would at now, from the repositories and the store in --data, and does nothing.
func (a *app) outlook(cmd *cobra.Command, now time.Time) (*outlook, error) {
	ctx := cmd.Context()
	v, err := a.namedView(ctx, cmd)
	if err != nil {
		return nil, err
	}
	repo, err := a.openFlags(ctx, cmd, committer{})
	if err != nil {
		return nil, err
	}
	s, err := repo.flags(ctx)
	if err != nil {
		repo.Close()
		return nil, err
	}
	o := &outlook{flagsSnapshot: s, view: v}
	if o.input, err = announcer.Look(ctx, repo.Repo, s.commit, v, now); err != nil {
		repo.Close()
		return nil, fmt.Errorf("read %s: %w", repo.address, err)
	}
	if v == nil {
		o.input.Channels = s.channels()
	}
	o.plan = announce.Make(o.input)
	return o, nil
}

// namedView is the view of the release repository, with all releases, if it was named.
func (a *app) namedView(ctx context.Context, cmd *cobra.Command) (*view.View, error) {
	if a.repo == "" && a.getenv("SLUICE_REPO") == "" {
		return nil, nil
	}
	repo, err := a.open(ctx, cmd, committer{})
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	repo.loader.All = true
	return a.view(ctx, repo)
}

// channels are those that the flags repository itself knows: the engine wrote something for them, so that they have an upstream.
func (s *flagsSnapshot) channels() (all []announce.Channel) {
	names := sortedKeys(s.tree.Heads)
	for _, of := range s.tree.Records {
		names = append(names, sortedKeys(of)...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		all = append(all, announce.Channel{Name: name, After: []string{"its upstream"}})
	}
	return all
}
