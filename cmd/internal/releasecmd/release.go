// Package releasecmd has the verbs for a release repository: init, validate, and release cut, list, show and
// prune. It makes flags repositories too, in the same way.
//
// Package edits decides what is committed; this package reads folders and pushes, and never changes a release.
// Each verb is a function that returns a cobra.Command, and runs in one goroutine.
package releasecmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

func ReleaseVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("release", "Cut, list, show and prune releases", "", cutVerb(a), listVerb(a),
		repos.Complete(a, showVerb(a), repos.ReleaseNames), pruneVerb(a))
	cmd.GroupID = cli.GroupAuthor
	return cmd
}

// releaseSummary is one release in the output of release list.
type releaseSummary struct {
	Version     string          `json:"version"`
	Digest      releases.Digest `json:"digest,omitempty"`
	Head        []string        `json:"head,omitempty"`        // channels that run it
	Accepted    []string        `json:"accepted,omitempty"`    // channels that accepted it from upstream
	Quarantined []string        `json:"quarantined,omitempty"` // channels; "all" for all
	Pruned      bool            `json:"pruned,omitempty"`
	Faults      []string        `json:"faults,omitempty"`
}

func listVerb(a *cli.App) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List releases, newest first: digest, channels that run it, quarantine",
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := repos.FullReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			list := listReleases(s.Desired, all)
			return a.PrintResult(list, func() {
				rows := make([][]cli.Field, 0, len(list))
				for _, l := range list {
					state, c := "", cli.Plain
					switch {
					case l.Pruned:
						state, c = "pruned", cli.Faint
					case len(l.Faults) > 0:
						state, c = "faults: sluice validate", cli.Red
					case len(l.Quarantined) > 0:
						state, c = "quarantined in "+words.Some(l.Quarantined, 3), cli.Red
					}
					rows = append(rows, []cli.Field{cli.Coloured(l.Version, cli.Bold),
						cli.Text(cli.OrDash(cli.ShortID(string(l.Digest)))),
						cli.Coloured(cli.OrDash(words.Some(l.Head, 3)), cli.Green), cli.Coloured(state, c)})
				}
				a.Stdout.PrintTable([]string{"VERSION", "DIGEST", "HEAD OF", "STATE"}, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list pruned releases too")
	return cmd
}

func listReleases(d *plan.Desired, all bool) []releaseSummary {
	list := []releaseSummary{}
	for version, r := range d.Releases {
		if r.Tombstone != nil && !all {
			continue
		}
		list = append(list, summarise(d, version, r))
	}
	slices.SortFunc(list, func(x, y releaseSummary) int {
		return d.Releases[y.Version].Version.Compare(d.Releases[x.Version].Version)
	})
	return list
}

// summarise returns the summary of a release of d, as it was read.
func summarise(d *plan.Desired, version string, r *plan.Release) releaseSummary {
	l := releaseSummary{Version: version, Digest: r.Digest, Pruned: r.Tombstone != nil}
	if r.Tombstone != nil {
		l.Digest = r.Tombstone.Digest
	}
	for _, name := range d.Order {
		if e := d.Channels[name].Effective; e != nil && e.Release == version {
			l.Head = append(l.Head, name)
		}
	}
	l.Quarantined = quarantinedIn(d, version)
	for _, f := range edits.Fatal(r.Faults) {
		l.Faults = append(l.Faults, f.String())
	}
	return l
}

// quarantinedIn returns the channels that must not take a release; "all" for all.
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

// releaseDetails is the output of release show.
type releaseDetails struct {
	releaseSummary
	Manifest releases.Release  `json:"manifest"`
	Merged   string            `json:"merged"` // the commit that brought it
	Authors  []releases.Person `json:"authors"`
	Files    []string          `json:"files"`
}

func showVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "show V",
		Short: "Show a release and where it runs",
		Args:  cli.ArgumentCount(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := repos.OpenReleases(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			defer repo.Close()
			s, err := repo.ReadReleases(cmd.Context())
			if err != nil {
				return err
			}
			r := s.Desired.Releases[args[0]]
			if r == nil {
				_, err := s.Release(args[0])
				return err
			}
			r = s.Whole(r)
			out := releaseDetails{releaseSummary: summarise(s.Desired, args[0], r), Manifest: r.Release,
				Merged: r.Origin, Authors: r.Authors}
			if files, err := edits.ReleaseFiles(s.Files, args[0]); err == nil {
				out.Files = cli.SortedKeys(files)
			}
			return a.PrintResult(out, func() { printRelease(a, out) })
		},
	}
}

func printRelease(a *cli.App, s releaseDetails) {
	coloured := func(name string, c cli.Colour, value string) {
		if value != "" {
			a.Stdout.PrintLine("%s %s", a.Stdout.Paint(cli.Faint, fmt.Sprintf("%-12s", name)), a.Stdout.Paint(c, value))
		}
	}
	line := func(name, value string) { coloured(name, cli.Plain, value) }
	coloured("release", cli.Bold, s.Version)
	if s.Pruned {
		coloured("state", cli.Red, "pruned: its number is not used again")
	}
	line("digest", string(s.Digest))
	line("merged in", s.Merged)
	var authors []string
	for _, p := range s.Authors {
		authors = append(authors, fmt.Sprintf("%s <%s>", p.Name, p.Email))
	}
	line("by", strings.Join(authors, ", "))
	commit, dirty := strings.CutSuffix(s.Manifest.Source.Commit, dirtySuffix)
	if commit = cli.ShortID(commit); dirty {
		commit += dirtySuffix
	}
	line("source", strings.TrimSpace(s.Manifest.Source.Repository+" "+commit))
	coloured("head of", cli.Green, strings.Join(s.Head, ", "))
	coloured("quarantined", cli.Red, strings.Join(s.Quarantined, ", "))
	line("fixes", strings.Join(s.Manifest.Fixes, ", "))
	line("features", strings.Join(s.Manifest.Features, ", "))
	if s.Manifest.IsForwardOnly() {
		coloured("rollback", cli.Yellow, "forward-only: cells never go back from it")
	}
	for _, c := range s.Manifest.Components {
		note := ""
		if c.Maintenance {
			note = " (maintenance)"
		}
		line("component", c.Name+" "+c.Image+note)
	}
	for _, name := range cli.SortedKeys(s.Manifest.Parameters) {
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
	line("profiles", strings.Join(cli.SortedKeys(s.Manifest.Profiles), ", "))
	line("files", fmt.Sprint(len(s.Files)))
	for _, f := range s.Faults {
		coloured("fault", cli.Red, f)
	}
}

func pruneVerb(a *cli.App) *cobra.Command {
	var keep int
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove old releases, leaving a tombstone for each",
		Long: `Removes the folders of old releases in one commit in your name. A tombstone keeps each version from
being used again. Never removed: the --keep newest releases, what any channel runs or may roll back
to, what is newer than the oldest head, and what a request, a hotfix, a quarantine or a cell's pin
names.`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep < 1 {
				return cli.UsageError(cmd, "--keep %d: keep at least one", keep)
			}
			d := edits.Prune{Keep: keep}
			repo, p, err := repos.ReleaseRepository().OpenPusher(a, cmd)
			if err != nil {
				return repos.DecisionError(d, err)
			}
			defer repo.Close()
			repo.Loader.AllReleases = true // a tombstone needs its release's digest
			return repos.PushOrShow(cmd.Context(), a, repo, p, d)
		},
	}
	cmd.Flags().IntVar(&keep, "keep", 20, "how many of the newest releases are kept in any case")
	return cmd
}
