package releasecmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/cmd/internal/trial"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// cutOptions are the flags of release cut.
type cutOptions struct {
	version  string
	from     string
	fixes    []string
	features []string
	forward  bool
	message  string
	wait     string // the channel; empty: it does not wait
}

func cutVerb(a *cli.App) *cobra.Command {
	c := cutOptions{}
	sign, key := false, ""
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "cut V --from DIR",
		Short: "Make a release from a kustomize folder",
		Long: `Puts the files of DIR into the release repository as releases/V, in one commit in your name. DIR
must contain a kustomization.yaml; what that names outside DIR (a base, say) is taken too. If DIR
has no release.yaml, one is added; what is missing in it is filled in: the version, and the commit
of DIR if DIR lies in a git repository (files that git ignores are then left out). V is
[v]N.N.N[-pre], and is used once: a release never changes.

Everything is checked before anything is written: the release is rendered as cells would, with each
profile and with the values of the cells in the repository.`,
		Example: `  sluice release cut 2026.11.3 --from deploy --fixes CVE-2026-1234
  sluice release cut 2.0.0 --from deploy --features ssh-gateway --forward-only --sign
  sluice release cut 2.0.1 --from deploy --wait staging --server http://127.0.0.1:7600`,
		Args: cli.ArgumentCount(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.version = args[0]
			if c.from == "" {
				return cli.UsageError(cmd, "--from, the folder with the kustomization, is missing")
			}
			sign = sign || key != ""
			if c.wait != "" && !a.DryRun { // before anything is written
				if err := repos.CheckObserved(a); err != nil {
					return fmt.Errorf("cut %s: --wait: %w", c.version, err)
				}
			}
			if err := cutRelease(a, cmd, c, sign, key); err != nil || c.wait == "" || a.DryRun {
				return err
			}
			return repos.AwaitRollout(a, cmd, "wait for "+c.wait, c.wait, c.version, timeout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.from, "from", "", "`DIR` with the kustomization")
	f.StringSliceVar(&c.fixes, "fixes", nil, "what the release fixes, such as CVEs")
	f.StringSliceVar(&c.features, "features", nil,
		"features whose code the release contains")
	f.BoolVar(&c.forward, "forward-only", false, "cells never go back from the release")
	f.StringVarP(&c.message, "message", "m", "", "body of the commit message")
	f.BoolVar(&sign, "sign", false, "sign the commit with your SSH key (git's user.signingKey, or --key)")
	f.StringVar(&key, "key", "", "`FILE` with the private SSH key to sign with")
	f.StringVar(&c.wait, "wait", "",
		"then wait until the release is healthy in the cells of `CHANNEL`, as sluice wait does")
	cli.AddDurationFlag(f, &timeout, "timeout", 10*time.Minute, "how long --wait waits")
	client.AddServerFlag(a, cmd)
	return cmd
}

func cutRelease(a *cli.App, cmd *cobra.Command, c cutOptions, sign bool, key string) error {
	ctx, what := cmd.Context(), "cut "+c.version
	version, err := releases.ParseVersion(c.version)
	if err != nil {
		return fmt.Errorf("%s: %w", what, cli.Fail(err, "a version is [v]N.N.N[-pre], as in 2026.11.3 or 1.4.0-rc.1"))
	}
	from, err := readSource(ctx, a, c.from)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	from.warnDirty(a)
	if err := c.writeReleaseYAML(&from); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	d, faults := edits.NewCut(version, from.files, c.message)
	a.ReportFaults(faults)
	if n := len(edits.Fatal(faults)); n > 0 {
		return cli.Fail(fmt.Errorf("%s: %s has faults (%d), see above", what, c.from, n),
			"fix them there; nothing was written")
	}
	repo, p, err := repos.ReleaseRepository().OpenPusher(a, cmd)
	if err != nil {
		return repos.DecisionError(d, err)
	}
	defer repo.Close()
	s, err := p.ReadSnapshot(ctx)
	if err != nil {
		return repos.DecisionError(d, err)
	}
	if c.wait != "" {
		if _, err := s.Channel(c.wait); err != nil {
			return repos.DecisionError(d, err)
		}
	}
	if err := tryCut(ctx, a, d, s.Desired); err != nil {
		return repos.DecisionError(d, err)
	}
	if sign {
		signer, err := repos.FindSigner(ctx, a, key, nil)
		switch {
		case err != nil:
			return repos.DecisionError(d, err)
		case signer == nil:
			return cli.Fail(fmt.Errorf("%s: there is no SSH key to sign with", what),
				"name one: --key FILE, or git config --global user.signingKey FILE")
		}
		p = repos.WithSigner(p, repo, signer)
	}
	return repos.PushOrShow(ctx, a, repo, p, d)
}

// tryCut renders the release as the cells in the repository would, and prints what is wrong with it.
func tryCut(ctx context.Context, a *cli.App, d edits.Cut, desired *plan.Desired) error {
	r, err := trial.Open(a)
	if err != nil {
		return err
	}
	defer r.Close()
	stored, files := d.Release()
	faults, err := r.Check(ctx, trial.FolderOf(files, stored), desired)
	if err != nil {
		return err
	}
	a.ReportFaults(faults)
	if n := len(edits.Fatal(faults)); n > 0 {
		return cli.Fail(fmt.Errorf("no cell could run it (faults: %d, see above)", n),
			"fix the folder; nothing was written")
	}
	return nil
}
