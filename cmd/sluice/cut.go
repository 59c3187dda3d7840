package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/releases"
)

// cutting is what release cut was asked for.
type cutting struct {
	version  string
	from     string
	fixes    []string
	features []string
	forward  bool
	message  string
}

func (a *app) cutVerb() *cobra.Command {
	c := cutting{}
	sign := false
	key := ""
	cmd := &cobra.Command{
		Use:   "cut V --from DIR",
		Short: "Make a release of a kustomize folder",
		Long: `Puts the files of DIR into the release repository as releases/V, in one commit of yours. DIR holds a
kustomization.yaml; a release.yaml is added if it has none, with the commit of DIR if that lies in a git repository
(then files that git ignores are left out). Everything is checked before anything is written. V is [v]N.N.N[-pre], and
is used once: a release never changes.`,
		Example: `  sluice release cut 2026.11.3 --from deploy --fixes CVE-2026-1234
  sluice release cut 2.0.0 --from deploy --features ssh-gateway --forward-only --sign`,
		Args: arguments(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.version = args[0]
			if c.from == "" {
				return usage(cmd, "--from, the folder with the kustomization, is missing")
			}
			if key != "" {
				sign = true
			}
			return a.cut(cmd, c, sign, key)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.from, "from", "", "the kustomize `DIR`")
	f.StringSliceVar(&c.fixes, "fixes", nil, "what it fixes, CVEs for instance (only without a release.yaml)")
	f.StringSliceVar(&c.features, "features", nil, "flags whose code it contains (only without a release.yaml)")
	f.BoolVar(&c.forward, "forward-only", false, "cells never go back from it (only without a release.yaml)")
	f.StringVarP(&c.message, "message", "m", "", "what the commit says beside its subject")
	f.BoolVar(&sign, "sign", false, "sign the commit with your SSH key (git's user.signingKey, or --key)")
	f.StringVar(&key, "key", "", "`FILE` of the private SSH key that signs")
	return cmd
}

func (a *app) cut(cmd *cobra.Command, c cutting, sign bool, key string) error {
	ctx := cmd.Context()
	commit := change{what: "cut " + c.version, body: c.message, key: key, signed: sign}
	version, err := releases.ParseVersion(c.version)
	if err != nil {
		return wrapFailure(commit.what, fail(err, "a version is [v]N.N.N[-pre], as in 2026.11.3 or 1.4.0-rc.1"))
	}
	files, err := a.releaseFiles(ctx, c)
	if err != nil {
		return wrapFailure(commit.what, err)
	}
	entry, err := tryRelease(version, files)
	if err != nil {
		return wrapFailure(commit.what, err)
	}
	for _, f := range entry.Faults {
		a.stderr.line("%s", f)
	}
	if n := len(fatal(entry.Faults)); n > 0 {
		return fail(fmt.Errorf("%s: %s has faults (%d), see above", commit.what, c.from, n), "mend them there; nothing was written")
	}
	repo, err := a.openAs(cmd, commit)
	if err != nil {
		return wrapFailure(commit.what, err)
	}
	defer repo.Close()
	if sign && repo.signs == nil {
		return fail(fmt.Errorf("%s: there is no SSH key to sign with", commit.what), "name one: --key FILE, or git config --global user.signingKey FILE")
	}
	next := ""
	id, err := a.push(ctx, repo, commit, func(s *snapshot) (map[string][]byte, error) {
		if err := unused(s, version, entry.Digest); err != nil {
			return nil, err
		}
		next = entries(s)
		out := map[string][]byte{}
		for name, data := range files {
			out[path.Join(releases.Dir, c.version, name)] = data
		}
		return out, nil
	})
	if errors.Is(err, errUnchanged) {
		return a.wrote(written{Did: fmt.Sprintf("%s: it is there already, with the same bytes (%s)", commit.what, entry.Digest.Short())})
	}
	if err != nil {
		return err
	}
	return a.wrote(written{Commit: id, Did: fmt.Sprintf("%s (%d files, %s)", commit.what, len(files), short(string(entry.Digest))), Next: next})
}

// unused tells whether a version is free. The same bytes under the same version are no error.
func unused(s *snapshot, v releases.Version, digest releases.Digest) error {
	if r := s.desired.Releases[v.String()]; r != nil {
		switch {
		case r.Tombstone != nil:
			return fail(fmt.Errorf("%s was used before, and pruned", v), "take another version")
		case r.Loaded && r.Digest == digest:
			return errUnchanged
		}
		return fail(fmt.Errorf("%s is there already, with other bytes", v), "releases never change: take another version")
	}
	for _, r := range s.desired.Versions {
		if r.Version.Compare(v) == 0 {
			return fail(fmt.Errorf("%s is the same version as %s", v, r.Version), "take another version")
		}
	}
	return nil
}

// entries says which channels take new releases.
func entries(s *snapshot) string {
	var auto, manual []string
	for _, name := range s.desired.Order {
		if p := s.desired.Channels[name].Policy; p != nil && len(p.After) == 0 {
			if p.Promote == "manual" {
				manual = append(manual, name)
			} else {
				auto = append(auto, name)
			}
		}
	}
	switch {
	case len(auto) > 0:
		return fmt.Sprintf("the engine promotes it to %s; sluice why %s tells how far it is", strings.Join(auto, " and "), auto[0])
	case len(manual) > 0:
		return fmt.Sprintf("sluice promote %s V", manual[0])
	}
	return "no channel takes new releases: one without `after` would"
}

// tryRelease reads files as the release that they will be, and gives its digest and its faults.
func tryRelease(v releases.Version, files map[string][]byte) (*releases.Entry, error) {
	dir, err := os.MkdirTemp("", "sluice-cut-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for name, data := range files {
		to := filepath.Join(dir, releases.Dir, v.String(), filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, data, 0o600)); err != nil {
			return nil, err
		}
	}
	return releases.ReadRelease(nil, os.DirFS(dir), v), nil
}

// Limits of what is read from a folder, before the release's own are checked.
const (
	maxCutFiles = 10_000
	maxCutBytes = 64 << 20
)

// releaseFiles reads the folder and adds a release.yaml if there is none.
func (a *app) releaseFiles(ctx context.Context, c cutting) (map[string][]byte, error) {
	names, source, err := a.listFolder(ctx, c.from)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	total := 0
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(c.from, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // git knows it, and it was removed here
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fail(fmt.Errorf("%s is not a regular file", name), "a release holds only files: put a copy there")
		}
		if info.Mode()&0o111 != 0 {
			a.stderr.line("%s: warning: is executable, and will not be in the release", name)
		}
		data, err := readAtMost(filepath.Join(c.from, filepath.FromSlash(name)), maxCutBytes-total)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		total += len(data)
		files[name] = data
	}
	if len(files) == 0 {
		return nil, fail(fmt.Errorf("%s holds no files", c.from), "--from names the folder with the kustomization.yaml")
	}
	if _, there := files["release.yaml"]; there {
		if c.forward || len(c.fixes)+len(c.features) > 0 {
			return nil, fail(fmt.Errorf("%s has a release.yaml, which says itself what it fixes and contains", c.from), "put it there, or leave out the flags")
		}
		return files, nil
	}
	files["release.yaml"], err = releaseYAML(c, source)
	return files, err
}

func releaseYAML(c cutting, source releases.Source) ([]byte, error) {
	type manifest struct {
		APIVersion string          `yaml:"apiVersion"`
		Kind       string          `yaml:"kind"`
		Version    string          `yaml:"version"`
		Source     releases.Source `yaml:"source,omitempty"`
		Features   []string        `yaml:"features,omitempty,flow"`
		Fixes      []string        `yaml:"fixes,omitempty,flow"`
		Rollback   string          `yaml:"rollback,omitempty"`
	}
	m := manifest{APIVersion: releases.APIVersion, Kind: "Release", Version: c.version, Source: source, Features: c.features, Fixes: c.fixes}
	if c.forward {
		m.Rollback = string(releases.ForwardOnly)
	}
	return yaml.Marshal(m)
}
