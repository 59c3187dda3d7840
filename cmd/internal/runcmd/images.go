package runcmd

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/images"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// imageOptions are the flags of serve about images.
type imageOptions struct {
	registries string // file; empty: no images are served
	dir        string // empty: DATA/images
	quota      int64  // GiB
	warmWithin time.Duration
}

func (o *imageOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.registries, "registries", "",
		"serve the releases' images to cells, from the registries in this `FILE`, a Docker config.json (docs/images.md)")
	f.StringVar(&o.dir, "images-dir", "",
		"`DIR` for images, which replicas may share (default: images in the folder of --data)")
	f.Int64Var(&o.quota, "images-quota", 20, "`GiB` that images may take on disk")
	cli.AddDurationFlag(f, &o.warmWithin, "images-warm-within", 10*time.Minute,
		"how long a new head waits for its images before cells begin all the same; 0: not at all")
}

// imageService is what serves images, and tells the engine how much of a head's are here.
type imageService struct {
	*images.Service
	warmWithin time.Duration
}

// openImages opens what serves images; nil: the flags do not ask for it. engine returns the engine, or nil before it
// runs.
func openImages(a *cli.App, cmd *cobra.Command, o imageOptions, engine func() *runningEngine, log zerolog.Logger) (
	*imageService, error) {

	if o.registries == "" {
		if o.dir != "" {
			return nil, cli.UsageError(cmd, "--images-dir is for the images of --registries, which is missing")
		}
		return nil, nil
	}
	if o.quota <= 0 {
		return nil, cli.UsageError(cmd, "--images-quota %d is no room for images", o.quota)
	}
	registries, err := images.OpenRegistries(o.registries)
	if err != nil {
		return nil, cli.Fail(err, "--registries names a file such as ~/.docker/config.json; docs/images.md has an example")
	}
	dir := o.dir
	if dir == "" {
		dir = filepath.Join(a.Data, "images")
	}
	service, err := images.New(images.Options{
		Dir: dir, Quota: o.quota << 30, Registries: registries, Log: log,
		Files: func(release releases.Digest) (fs.FS, string, error) {
			e := engine()
			if e == nil || e.View() == nil {
				return nil, "", errors.New("the release repository has not been read yet")
			}
			commit, version, ok := e.View().Content(release)
			if !ok {
				return nil, "", fs.ErrNotExist
			}
			files, err := e.repo.Repo.FS(commit)
			return files, path.Join(releases.Dir, version), err
		},
		Heads: func() (current, former []releases.Digest) {
			if e := engine(); e != nil && e.View() != nil {
				current, former = e.View().Heads()
			}
			return current, former
		},
	})
	if err != nil {
		return nil, err
	}
	return &imageService{service, o.warmWithin}, nil
}

// warming implements engine.Options.Warming. A release whose images were not looked at yet is not here.
func (s *imageService) warming(release releases.Digest, moved time.Time) (plan.Warming, bool) {
	if s == nil || s.warmWithin <= 0 {
		return plan.Warming{}, false
	}
	w, begun := s.Warming(release)
	return plan.Warming{Images: w.Images, Ready: w.Ready, Bytes: w.Bytes, Here: w.Here,
		Until: moved.Add(s.warmWithin)}, !begun || !w.Complete()
}

// extendOptions adds images to what is served.
func (s *imageService) extendOptions(o *controlplane.Options) {
	if s != nil {
		o.Images, o.Collectors = s.Service, append(o.Collectors, s.Collector())
	}
}

// startLoops fetches images ahead of time until ctx ends.
func (s *imageService) startLoops(ctx context.Context, g *errgroup.Group) {
	if s != nil {
		g.Go(func() error { return s.Run(ctx) })
	}
}
