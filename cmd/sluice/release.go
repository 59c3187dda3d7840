package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

func (a *app) releaseVerb() *cobra.Command {
	cmd := group("release", "Cut, list, show and prune releases", "", a.cutVerb(), a.listVerb(), a.complete(a.showVerb(), releaseNames), a.pruneVerb())
	cmd.GroupID = groupAuthor
	return cmd
}

// listed is one release as release list shows it.
type listed struct {
	Version     string          `json:"version"`
	Digest      releases.Digest `json:"digest,omitempty"`
	Head        []string        `json:"head,omitempty"`        // channels that run it
	Accepted    []string        `json:"accepted,omitempty"`    // channels that accepted it from upstream
	Quarantined []string        `json:"quarantined,omitempty"` // channels; "all" for all
	Pruned      bool            `json:"pruned,omitempty"`
	Faults      []string        `json:"faults,omitempty"`
}

func (a *app) listVerb() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List releases, the newest first: digest, where each is the head, quarantine",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			repo, err := a.open(cmd.Context(), cmd, committer{})
			if err != nil {
				return err
			}
			defer repo.Close()
			repo.loader.All = true
			s, err := repo.snapshot(cmd.Context())
			if err != nil {
				return err
			}
			list := listReleases(s.desired, all)
			if done, err := a.encode(list); done {
				return err
			}
			rows := make([][]field, 0, len(list))
			for _, l := range list {
				state, c := "", plain
				switch {
				case l.Pruned:
					state, c = "pruned", faint
				case len(l.Faults) > 0:
					state, c = "faults: sluice validate", red
				case len(l.Quarantined) > 0:
					state, c = "quarantined in "+strings.Join(l.Quarantined, ", "), red
				}
				rows = append(rows, []field{{l.Version, bold}, text(orDash(short(string(l.Digest)))), {orDash(strings.Join(l.Head, ", ")), green}, {state, c}})
			}
			a.stdout.table([]string{"VERSION", "DIGEST", "HEAD OF", "STATE"}, rows)
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "pruned releases too")
	return cmd
}

func listReleases(d *plan.Desired, all bool) []listed {
	list := []listed{}
	for version, r := range d.Releases {
		if r.Tombstone != nil && !all {
			continue
		}
		l := listed{Version: version, Digest: r.Digest, Pruned: r.Tombstone != nil}
		if r.Tombstone != nil {
			l.Digest = r.Tombstone.Digest
		}
		for _, name := range d.Order {
			if e := d.Channels[name].Effective; e != nil && e.Release == version {
				l.Head = append(l.Head, name)
			}
		}
		l.Quarantined = quarantinedIn(d, version)
		for _, f := range fatal(r.Faults) {
			l.Faults = append(l.Faults, f.String())
		}
		list = append(list, l)
	}
	slices.SortFunc(list, func(x, y listed) int {
		return d.Releases[y.Version].Version.Compare(d.Releases[x.Version].Version)
	})
	return list
}

// quarantinedIn names the channels that must not take a release; "all" for all.
func quarantinedIn(d *plan.Desired, version string) []string {
	var in []string
	for _, q := range d.Quarantine {
		if q.Release != version {
			continue
		}
		if len(q.Channels) == 0 {
			return []string{"all"}
		}
		in = append(in, q.Channels...)
	}
	return in
}

// shown is one release as release show tells it.
type shown struct {
	listed
	Manifest releases.Release  `json:"manifest"`
	Merged   string            `json:"merged"` // the commit that brought it
	Authors  []releases.Person `json:"authors"`
	Files    []string          `json:"files"`
}

func (a *app) showVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "show V",
		Short: "Show what one release is and where it runs",
		Args:  arguments(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := a.open(cmd.Context(), cmd, committer{})
			if err != nil {
				return err
			}
			defer repo.Close()
			repo.loader.All = true
			s, err := repo.snapshot(cmd.Context())
			if err != nil {
				return err
			}
			r := s.desired.Releases[args[0]]
			if r == nil {
				_, err := s.release(args[0])
				return err
			}
			list := listReleases(s.desired, true)
			i := slices.IndexFunc(list, func(l listed) bool { return l.Version == args[0] })
			out := shown{listed: list[i], Manifest: r.Release, Merged: r.Origin, Authors: r.Authors}
			if files, err := readRelease(s.files, args[0]); err == nil {
				out.Files = sortedKeys(files)
			}
			if done, err := a.encode(out); done {
				return err
			}
			a.printRelease(out)
			return nil
		},
	}
}

func (a *app) printRelease(s shown) {
	line := func(name, value string) {
		if value != "" {
			a.stdout.line("%s %s", a.stdout.paint(faint, fmt.Sprintf("%-12s", name)), value)
		}
	}
	line("release", a.stdout.paint(bold, s.Version))
	if s.Pruned {
		line("state", a.stdout.paint(red, "pruned: its number is not used again"))
	}
	line("digest", string(s.Digest))
	line("merged in", s.Merged)
	var authors []string
	for _, p := range s.Authors {
		authors = append(authors, fmt.Sprintf("%s <%s>", p.Name, p.Email))
	}
	line("by", strings.Join(authors, ", "))
	line("source", strings.TrimSpace(s.Manifest.Source.Repository+" "+short(s.Manifest.Source.Commit)))
	line("head of", a.stdout.paint(green, strings.Join(s.Head, ", ")))
	line("quarantined", a.stdout.paint(red, strings.Join(s.Quarantined, ", ")))
	line("fixes", strings.Join(s.Manifest.Fixes, ", "))
	line("features", strings.Join(s.Manifest.Features, ", "))
	if s.Manifest.ForwardOnly() {
		line("rollback", a.stdout.paint(yellow, "forward-only: cells never go back from it"))
	}
	for _, c := range s.Manifest.Components {
		note := ""
		if c.Maintenance {
			note = " (maintenance)"
		}
		line("component", c.Name+" "+c.Image+note)
	}
	for _, name := range sortedKeys(s.Manifest.Parameters) {
		p := s.Manifest.Parameters[name]
		def := ""
		if p.Default != nil {
			def = fmt.Sprintf(", default %v", p.Default)
		}
		if p.Required {
			def = ", required"
		}
		line("parameter", fmt.Sprintf("%s: %s%s", name, p.Type, def))
	}
	line("profiles", strings.Join(sortedKeys(s.Manifest.Profiles), ", "))
	line("files", fmt.Sprint(len(s.Files)))
	for _, f := range s.Faults {
		line("fault", a.stdout.paint(red, f))
	}
}
