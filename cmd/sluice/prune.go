package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

func (a *app) pruneVerb() *cobra.Command {
	var keep int
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove old releases, leaving a tombstone for each",
		Long: `Removes the folders of old releases in one commit of yours. A tombstone keeps each version from being used again.
Never removed: the --keep newest releases, what any channel runs or may roll back to, what is newer than the oldest
head, and what a request, a hotfix or a quarantine names.`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep < 1 {
				return usage(cmd, "--keep %d: keep at least one", keep)
			}
			var gone []string
			c := change{what: "prune releases"}
			repo, err := a.openAs(cmd, c)
			if err != nil {
				return wrapFailure(c.what, err)
			}
			defer repo.Close()
			repo.loader.All = true // a tombstone needs its release's digest
			if dry {
				s, err := repo.snapshot(cmd.Context())
				if err != nil {
					return err
				}
				return a.wrote(written{Did: "would prune " + orDash(strings.Join(prunable(s.desired, keep), ", "))})
			}
			commit, err := a.push(cmd.Context(), repo, c, func(s *snapshot) (map[string][]byte, error) {
				if gone = prunable(s.desired, keep); len(gone) == 0 {
					return nil, errUnchanged
				}
				return tombstones(s, gone)
			})
			switch {
			case err == nil:
				return a.wrote(written{Commit: commit, Did: "prune " + strings.Join(gone, ", ")})
			case len(gone) == 0:
				return a.wrote(written{Did: "nothing to prune"})
			}
			return err
		},
	}
	cmd.Flags().IntVar(&keep, "keep", 20, "how many of the newest releases stay in any case")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only tell what would be removed")
	return cmd
}

// rollbackReach is how many of a channel's past heads stay, as targets of a rollback.
const rollbackReach = 10

// prunable names the releases that nothing needs any more, the oldest first.
func prunable(d *plan.Desired, keep int) []string {
	needed := map[string]bool{}
	var oldest *releases.Version
	for _, name := range d.Order {
		c := d.Channels[name]
		if c.Effective == nil {
			continue
		}
		for _, h := range c.History[max(0, len(c.History)-rollbackReach):] {
			needed[h.Release] = true
		}
		if c.Request != nil {
			needed[c.Request.Release] = true
		}
		for _, h := range c.Hotfixes {
			needed[h.Release] = true
		}
		if r := d.Releases[c.Effective.Release]; r != nil && (oldest == nil || r.Version.Less(*oldest)) {
			oldest = &r.Version
		}
	}
	for _, q := range d.Quarantine {
		needed[q.Release] = true
	}
	var gone []string
	if oldest == nil {
		return nil // nothing runs yet: every release may be a candidate
	}
	for _, r := range d.Versions[:max(0, len(d.Versions)-keep)] {
		if !needed[r.Version.String()] && r.Version.Less(*oldest) && r.Loaded {
			gone = append(gone, r.Version.String())
		}
	}
	return gone
}

func tombstones(s *snapshot, gone []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, version := range gone {
		files, err := readRelease(s.files, version)
		if err != nil {
			return nil, fmt.Errorf("read release %s: %w", version, err)
		}
		for name := range files {
			out[path.Join(releases.Dir, version, name)] = nil
		}
		r := s.desired.Releases[version]
		data, err := yaml.Marshal(map[string]any{
			"apiVersion": releases.APIVersion, "kind": "Tombstone", "version": version, "digest": string(r.Digest), "reason": "pruned",
		})
		if err != nil {
			return nil, err
		}
		out[path.Join(releases.Dir, version, "tombstone.yaml")] = data
	}
	return out, nil
}
