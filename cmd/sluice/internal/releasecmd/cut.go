package releasecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/cleantext"
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
}

func cutVerb(a *cli.App) *cobra.Command {
	c := cutOptions{}
	sign := false
	key := ""
	cmd := &cobra.Command{
		Use:   "cut V --from DIR",
		Short: "Make a release from a kustomize folder",
		Long: `Puts the files of DIR into the release repository as releases/V, in one commit in your name. DIR
must contain a kustomization.yaml. If it has no release.yaml, one is added, with the commit of DIR
if DIR lies in a git repository (files that git ignores are then left out). Everything is checked
before anything is written. V is [v]N.N.N[-pre], and is used once: a release never changes.`,
		Example: `  sluice release cut 2026.11.3 --from deploy --fixes CVE-2026-1234
  sluice release cut 2.0.0 --from deploy --features ssh-gateway --forward-only --sign`,
		Args: cli.ArgumentCount(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.version = args[0]
			if c.from == "" {
				return cli.UsageError(cmd, "--from, the folder with the kustomization, is missing")
			}
			if key != "" {
				sign = true
			}
			return cutRelease(a, cmd, c, sign, key)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.from, "from", "", "`DIR` with the kustomization")
	f.StringSliceVar(&c.fixes, "fixes", nil, "what the release fixes, such as CVEs (only without a release.yaml)")
	f.StringSliceVar(&c.features, "features", nil,
		"features whose code the release contains (only without a release.yaml)")
	f.BoolVar(&c.forward, "forward-only", false, "cells never go back from the release (only without a release.yaml)")
	f.StringVarP(&c.message, "message", "m", "", "body of the commit message")
	f.BoolVar(&sign, "sign", false, "sign the commit with your SSH key (git's user.signingKey, or --key)")
	f.StringVar(&key, "key", "", "`FILE` with the private SSH key to sign with")
	return cmd
}

func cutRelease(a *cli.App, cmd *cobra.Command, c cutOptions, sign bool, key string) error {
	ctx, what := cmd.Context(), "cut "+c.version
	version, err := releases.ParseVersion(c.version)
	if err != nil {
		return fmt.Errorf("%s: %w", what, cli.Fail(err, "a version is [v]N.N.N[-pre], as in 2026.11.3 or 1.4.0-rc.1"))
	}
	files, err := readReleaseFiles(ctx, a, c)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	d, faults := edits.NewCut(version, files, c.message)
	a.ReportFaults(faults)
	if n := len(edits.Fatal(faults)); n > 0 {
		return cli.Fail(fmt.Errorf("%s: %s has faults (%d), see above", what, c.from, n),
			"fix them there; nothing was written")
	}
	repo, p, err := a.ReleaseRepository().OpenPusher(a, cmd)
	if err != nil {
		return cli.DecisionError(d, err)
	}
	defer repo.Close()
	if sign {
		signer, err := a.FindSigner(ctx, key, nil)
		switch {
		case err != nil:
			return cli.DecisionError(d, err)
		case signer == nil:
			return cli.Fail(fmt.Errorf("%s: there is no SSH key to sign with", what),
				"name one: --key FILE, or git config --global user.signingKey FILE")
		}
		p = cli.WithSigner(p, repo, signer)
	}
	done, err := p.Push(ctx, d)
	if err != nil {
		return err
	}
	return a.PrintDone(done)
}

// Limits of a folder, before the release's own limits are checked.
const (
	maxCutFiles = 10_000
	maxCutBytes = 64 << 20
)

// readReleaseFiles reads the folder, and adds a release.yaml if there is none.
func readReleaseFiles(ctx context.Context, a *cli.App, c cutOptions) (map[string][]byte, error) {
	names, source, err := listFiles(ctx, a, c.from)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	total := 0
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(c.from, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and still in git's index
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, cli.Fail(fmt.Errorf("%s is not a regular file", name),
				"a release holds only files: put a copy there")
		}
		if info.Mode()&0o111 != 0 {
			a.Stderr.PrintLine("%s: warning: is executable, and will not be in the release", name)
		}
		data, err := readAtMost(filepath.Join(c.from, filepath.FromSlash(name)), maxCutBytes-total)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		total += len(data)
		files[name] = data
	}
	if len(files) == 0 {
		return nil, cli.Fail(fmt.Errorf("%s holds no files", c.from),
			"--from names the folder with the kustomization.yaml")
	}
	if _, there := files["release.yaml"]; there {
		if c.forward || len(c.fixes)+len(c.features) > 0 {
			return nil, cli.Fail(fmt.Errorf("%s has a release.yaml, which says what the release fixes and contains",
				c.from),
				"put it there, or leave out the flags")
		}
		return files, nil
	}
	files["release.yaml"], err = releaseYAML(c, source)
	return files, err
}

func releaseYAML(c cutOptions, source releases.Source) ([]byte, error) {
	type manifest struct {
		APIVersion string          `yaml:"apiVersion"`
		Kind       string          `yaml:"kind"`
		Version    string          `yaml:"version"`
		Source     releases.Source `yaml:"source,omitempty"`
		Features   []string        `yaml:"features,omitempty,flow"`
		Fixes      []string        `yaml:"fixes,omitempty,flow"`
		Rollback   string          `yaml:"rollback,omitempty"`
	}
	m := manifest{APIVersion: releases.APIVersion, Kind: "Release", Version: c.version, Source: source,
		Features: c.features, Fixes: c.fixes}
	if c.forward {
		m.Rollback = string(releases.ForwardOnly)
	}
	return yaml.Marshal(m)
}

// listFiles returns the files of a folder, slash-separated. In a worktree, these are the files that git would
// commit, with the commit that is checked out; elsewhere all but .git.
func listFiles(ctx context.Context, a *cli.App, dir string) (names []string, source releases.Source, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, source, cli.Fail(err, "--from names the folder with the kustomization.yaml")
	}
	if !info.IsDir() {
		return nil, source, cli.Fail(fmt.Errorf("%s is not a folder", dir),
			"--from names the folder with the kustomization.yaml")
	}
	if out, err := a.RunGit(ctx, dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard",
		"--deduplicate"); err == nil && out != "" {
		source.Commit, _ = a.RunGit(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD")
		if origin, err := a.RunGit(ctx, dir, "config", "remote.origin.url"); err == nil && source.Commit != "" {
			source.Repository = cleantext.Address(origin)
		}
		names = strings.Split(strings.TrimRight(out, "\x00"), "\x00")
		if len(names) > maxCutFiles {
			return nil, source, fmt.Errorf("%s holds more than %d files", dir, maxCutFiles)
		}
		return names, source, nil
	}
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == ".git":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		case len(names) >= maxCutFiles:
			return fmt.Errorf("%s holds more than %d files", dir, maxCutFiles)
		}
		rel, err := filepath.Rel(dir, name)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	return names, source, err
}

func readAtMost(file string, limit int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("the folder is larger than %d bytes", maxCutBytes)
	}
	return data, err
}
