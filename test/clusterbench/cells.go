package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/cluster"
	"github.com/sluice-cd/sluice/test/figures"
)

// fluxPublished is what Flux's authors published for 100 Kustomizations, on another machine: a bearing, no comparison.
const fluxPublished = "Flux: 26 s for 100 Kustomizations, as published, on another machine"

// cell is a cell in a namespace of its own, on a cluster that it shares with others.
type cell struct {
	name   string
	target *kubernetes.Target
}

// measureCells has a release go to many cells at once, and measures until the last is healthy on it.
func measureCells(ctx context.Context, c *cluster.Cluster, s sizes) (rows []figures.Row, err error) {
	state, err := os.MkdirTemp("", "sluice-clusterbench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	var all []cell
	defer func() {
		for _, is := range all {
			is.target.Close()
		}
	}()
	for i := range s.cells {
		is := cell{name: fmt.Sprintf("cell-%03d", i)}
		dir := state + "/" + is.name
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		if out, err := c.Kubectl(ctx, "", "create", "namespace", is.name); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		config, _, err := kubernetes.Connect(c.Kubeconfig, "")
		if err != nil {
			return nil, err
		}
		config.Dial = (&net.Dialer{}).DialContext // connections of its own, as each agent has
		is.target, err = kubernetes.New(kubernetes.Options{Cell: is.name, Config: config, StateDir: dir,
			Namespace: is.name})
		if err != nil {
			return nil, err
		}
		all = append(all, is)
	}
	for _, pass := range []struct{ what, version string }{
		{"%d cells in namespaces, from nothing until the last is healthy", "1.0.0"},
		{"%d cells in namespaces, a new release until the last is healthy", "1.1.0"},
	} {
		start := time.Now()
		var group errgroup.Group
		for _, is := range all {
			group.Go(func() error { return is.install(ctx, pass.version) })
		}
		if err := group.Wait(); err != nil {
			return rows, err
		}
		rows = append(rows, figures.NoteRow(figure(pass.what, s.cells), figures.Time(time.Since(start)), fluxPublished))
	}
	return rows, nil
}

// install applies a release of a small product, and returns once it is healthy.
func (c cell) install(ctx context.Context, version string) error {
	r := cells.Rendered{Assignment: cells.Assignment{Release: version, Digest: releases.DigestBytes([]byte(version))},
		Files: map[string][]byte{"web.yaml": fmt.Appendf(nil, `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: server, image: "web:%s"}]}
`, version),
			"service.yaml": []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n" +
				"spec: {selector: {app: web}, ports: [{port: 80}]}\n"),
			"config.yaml": fmt.Appendf(nil, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n"+
				"data: {version: %q}\n", version),
			"account.yaml": []byte("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n"),
		}}
	if err := c.target.Apply(ctx, r); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	for {
		err := c.target.Health(ctx)
		var unhealthy *cells.Unhealthy
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &unhealthy):
			return fmt.Errorf("%s: %w", c.name, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.target.Changed():
		case <-time.After(time.Second):
		}
	}
}
