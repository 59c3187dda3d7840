// Package demo shows a release on its way to cells on the reader's machine, with the real command as child
// processes, real git and real folders.
//
// It touches nothing outside its folder, and fails if what it announces does not happen. One goroutine runs the
// demo.
package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/lookcmd"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// The releases of fixtures/workspaces, and what happens to them.
const (
	demoFirst = "2026.11.0" // in the repository from the start
	demoGood  = "2026.11.1" // cut, and goes the whole way
	demoBad   = "2026.11.2" // cut, and staging catches it
	demoSoak  = 5 * time.Second
)

func Verb(a *cli.App) *cobra.Command {
	var once, keep bool
	var dir, clusters string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: cli.GroupRun,
		Short:   "Show a release on its way to cells, and a bad one that staging catches, on this machine",
		Long: `Makes a release repository of the sample product, starts the control plane and the agents of one
staging and three dedicated cells as child processes, cuts a release and shows it on its way, with
soak shortened to seconds; then a bad one, which staging catches; then a feature that turns on with
its announcement, and is killed. In one cell the product runs, with users who start workspaces: they
see that an update of its server refuses starts for seconds, and that another refuses none. All of it is
real: git, HTTP, kustomize, folders that are switched. Nothing leaves this machine.

With --clusters the cells are Kubernetes clusters instead of folders, which kubectl shows.

The demo then keeps running for you to look around, until interrupted; with --once it exits by
itself, and fails if any step did.`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout,
				fmt.Errorf("the demo took longer than %s", timeout))
			defer cancel()
			d, err := newDemo(ctx, a, dir)
			if err != nil {
				return err
			}
			if clusters != "" {
				if d.clusters, err = openClusters(clusters, d.app.Env); err != nil {
					return errors.Join(err, d.close(false))
				}
			}
			err = d.runSteps(ctx)
			if err == nil && !once {
				err = d.awaitInterrupt(cmd.Context())
			}
			return errors.Join(err, d.close(keep || !once || err != nil))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "exit when done; exit code 1 if any step failed")
	f.StringVar(&dir, "dir", ".demo", "folder for everything: made anew each time, left for you to look at")
	cli.AddDurationFlag(f, &timeout, "timeout", 2*time.Minute, "limit for the whole demo")
	f.BoolVar(&keep, "keep", true, "leave the folder")
	f.StringVar(&clusters, "clusters", "", "`FOLDER` with a kubeconfig CELL for each cell, of clusters whose content is "+
		"of no value, and whose nodes kwok plays: make demo TARGET=kubernetes makes them")
	cmd.AddCommand(productVerb(a))
	return cmd
}

// runSteps runs the demo. A step fails if what should happen does not, or what must not happen does.
func (d *demo) runSteps(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"make the release repository", d.prepareReleases},
		{"make the flags repository", d.prepareFlags},
		{"start the control plane", d.startServer},
		{"start four cells", d.startCells},
		{"bring every cell to " + demoFirst, func(ctx context.Context) error { return d.awaitRelease(ctx, demoFirst) }},
		{"look at a cluster", d.showBefore},
		{"use the product", d.useProduct},
		{"take " + demoGood + " through staging into dedicated", d.rolloutGoodRelease},
		{"stop " + demoBad + " in staging", d.rejectBadRelease},
		{"turn a feature on with its announcement", d.announceFeature},
		{"take " + demoSmall + " everywhere, without a maintenance", d.rolloutSmallRelease},
		{"check the repository", d.checkRepository},
	} {
		if err := step.do(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
				err = errors.Join(cause, err)
			}
			d.screen.clearView()
			return cli.Fail(fmt.Errorf("demo: %s: %w", step.what, err),
				"look into %s, and %s for what each process said", d.dir, d.path("logs"))
		}
	}
	d.screen.clearView()
	d.printSummary()
	return nil
}

// awaitRelease waits until all cells are healthy on a release.
func (d *demo) awaitRelease(ctx context.Context, version string) error {
	return d.pollUntil(ctx, func() bool {
		return len(d.status.Cells) > 0 && !slices.ContainsFunc(d.status.Cells, func(c view.CellStatus) bool {
			return c.Release != version || c.State != cells.StateHealthy
		})
	})
}

func (d *demo) rolloutGoodRelease(ctx context.Context) error {
	if err := d.cutRelease(ctx, demoGood); err != nil {
		return err
	}
	if err := d.pollUntil(ctx, func() bool { return d.headOf("dedicated") == demoGood }); err != nil {
		return err
	}
	staging, dedicated := d.promotedAt("staging", demoGood), d.promotedAt("dedicated", demoGood)
	if staging.IsZero() || dedicated.Sub(staging) < demoSoak {
		return fmt.Errorf("dedicated got it %s after staging, and the soak is %s", dedicated.Sub(staging), demoSoak)
	}
	d.screen.printEvent("dedicated got %s %s after staging: it soaked for %s first", demoGood,
		cli.FormatDuration(dedicated.Sub(staging)), demoSoak)
	if err := d.awaitRelease(ctx, demoGood); err != nil {
		return err
	}
	if err := d.checkUsers(ctx, demoGood, true); err != nil {
		return err
	}
	return d.clusters.show(ctx, d.screen, demoCell, "after", deployments)
}

func (d *demo) rejectBadRelease(ctx context.Context) error {
	d.screen.printEvent("the next release lacks a database migration: it renders, but its server never becomes ready")
	d.invariant = func() error {
		if !d.promotedAt("dedicated", demoBad).IsZero() {
			return fmt.Errorf("%s reached dedicated", demoBad)
		}
		for _, c := range d.status.Cells {
			if c.Channel == "dedicated" && (c.Release == demoBad || c.Granted == demoBad || c.Applying == demoBad) {
				return fmt.Errorf("%s reached %s", demoBad, c.Name)
			}
		}
		return nil
	}
	if err := d.watchServing(d.childContext); err != nil {
		return err
	}
	if err := d.cutRelease(ctx, demoBad); err != nil {
		return err
	}
	if err := d.pollUntil(ctx, func() bool { return !d.promotedAt("staging", demoBad).IsZero() }); err != nil {
		return err
	}
	if err := d.watchBadRelease(ctx); err != nil {
		return err
	}
	if err := d.pollUntil(ctx,
		func() bool { return d.headOf("staging") == demoGood && d.isQuarantined(demoBad) }); err != nil {
		return err
	}
	if err := d.awaitRelease(ctx, demoGood); err != nil {
		return err
	}
	return d.checkServing(ctx)
}

// checkRepository checks the repository with git itself.
func (d *demo) checkRepository(ctx context.Context) error {
	if _, err := d.git(ctx, d.repo, "fsck", "--strict", "--no-dangling"); err != nil {
		return err
	}
	log, err := d.git(ctx, d.repo, "log", "--format=%s", "main", "--", "channels/dedicated/head.yaml")
	if err != nil {
		return err
	}
	if strings.Contains(log, demoBad) {
		return fmt.Errorf("dedicated's history has %s: %s", demoBad, log)
	}
	return d.invariant()
}

// printSummary prints the final status, and how to look at the result.
func (d *demo) printSummary() {
	p := d.app.Stdout
	p.PrintLine("")
	lookcmd.DrawStatus(p, d.status, lookcmd.StatusForm{})
	p.PrintLine("\n%s went through staging into dedicated. %s failed in staging, was rolled back and quarantined, "+
		"and never reached dedicated.", demoGood, demoBad)
	p.PrintLine("%s turned on at its time with the announcement of %s, and was killed.", demoFlag, demoFeature)
	p.PrintLine("%s, which changes nothing that is marked, went everywhere without a maintenance.", demoSmall)
	p.PrintLine("\nThe deployment history is in git:")
	p.PrintLine("  git -C %s log channels/dedicated/head.yaml", d.repo)
	p.PrintLine("  git -C %s show main:quarantine/%s.yaml", d.repo, demoBad)
	p.PrintLine("The history of flags is separate:")
	p.PrintLine("  git -C %s log --oneline", d.flags)
	if d.clusters == nil {
		p.PrintLine("What a cell runs is a folder:")
		p.PrintLine("  ls %s", d.path("cells", "acme", "current"))
	}
}

// awaitInterrupt keeps everything running until ctx ends.
func (d *demo) awaitInterrupt(ctx context.Context) error {
	p := d.app.Stdout
	p.PrintLine("\nThe demo runs until you press Ctrl-C. In a browser:\n  %s", d.consoleURL())
	p.PrintLine("In another terminal:")
	if d.clusters != nil {
		p.PrintLine("  %s get deployments", strings.Join(d.clusters.command("acme"), " "))
	}
	p.PrintLine("  sluice status --watch --server %s", d.server)
	p.PrintLine("  sluice why dedicated --server %s", d.server)
	p.PrintLine("  sluice flag unkill %s --reason mended --flags-repo %s && sluice flag show %s --server %s", demoFlag,
		d.flags, demoFlag, d.server)
	p.PrintLine("  sluice hold dedicated --repo %s --reason \"just trying\"", d.repo)
	err := d.pollUntil(ctx, func() bool { return false })
	if ctx.Err() != nil {
		d.screen.clearView()
		return nil
	}
	return err
}

// headOf returns a channel's current release.
func (d *demo) headOf(channel string) string {
	for _, c := range d.status.Channels {
		if c.Name == channel {
			return c.Release
		}
	}
	return ""
}

// promotedAt returns when a release was promoted to a channel; zero: never.
func (d *demo) promotedAt(channel, version string) time.Time {
	if d.desired == nil || d.desired.Channels[channel] == nil {
		return time.Time{}
	}
	for _, h := range d.desired.Channels[channel].History {
		if h.Release == version && h.Kind == plan.Promote {
			return h.Moved
		}
	}
	return time.Time{}
}

func (d *demo) isQuarantined(version string) bool {
	return d.desired != nil && slices.ContainsFunc(d.desired.Quarantine,
		func(q channels.Quarantine) bool { return q.Release == version })
}
