package trustcmd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/flags/signed"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// status is the output of sluice trust status and verify.
type status struct {
	Signed   bool              `json:"signed"`         // some channel takes only signed releases
	Damaged  bool              `json:"damaged"`        // files that counted can't be read: no channel takes anything new
	Channels []string          `json:"channels"`       // that do
	Root     releases.Digest   `json:"root,omitempty"` // newest root that counts, for sluice agent --trust-root
	Files    []file            `json:"files"`          // that count
	Waiting  []file            `json:"waiting"`
	Floor    string            `json:"floor,omitempty"`
	Revoked  map[string]string `json:"revoked,omitempty"`
	Releases []release         `json:"releases"`
	Flags    flagsStatus       `json:"flags"`
	Support  []supportKey      `json:"support"` // who may ask for debug access
	Faults   []string          `json:"faults,omitempty"`
}

type file struct {
	File       string          `json:"file"`
	Digest     releases.Digest `json:"digest"`
	Expires    time.Time       `json:"expires"`
	Signatures []trust.Quorum  `json:"signatures"`
	Changes    []string        `json:"changes,omitempty"` // of what waits: what it would change

	words    string
	expiring bool
}

// flagsStatus says who signs flags, and what was signed.
type flagsStatus struct {
	Signers       []string `json:"signers"` // none: flags are unsigned
	Threshold     int      `json:"threshold,omitempty"`
	Flags         int      `json:"flags"`
	Announcements int      `json:"announcements"`
}

type release struct {
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Channels []string        `json:"channels"`
}

func describe(s *edits.Releases, now time.Time) status {
	v := status{Channels: []string{}, Files: []file{}, Waiting: []file{}, Releases: []release{},
		Support: []supportKey{}, Flags: flagsStatus{Signers: []string{}}}
	l := s.Desired.Trust
	if l == nil {
		return v
	}
	show := func(all []*trust.File) []file {
		list := []file{}
		for _, f := range all {
			list = append(list, file{File: f.Path, Digest: f.Digest, Expires: f.Expires, Signatures: f.Quorums,
				words: f.Signatures(), expiring: f.IsExpiring(now)})
		}
		return list
	}
	v.Channels = append(v.Channels, l.Channels()...)
	v.Signed, v.Files, v.Waiting = len(v.Channels) > 0, show(l.Counting()), show(l.Waiting)
	for i, f := range l.Waiting {
		v.Waiting[i].Changes = l.Changes(f)
	}
	v.Damaged, v.Revoked = l.Damaged(), l.Policy.Revoked
	if r := l.Root(); r != nil {
		v.Root = r.Digest
	}
	if !l.Policy.Floor.IsZero() {
		v.Floor = l.Policy.Floor.String()
	}
	listed := slices.SortedFunc(maps.Values(l.Listed), func(a, b trust.Release) int {
		return b.Version.Compare(a.Version)
	})
	for _, r := range listed {
		v.Releases = append(v.Releases, release{r.Version.String(), r.Digest, r.Channels})
	}
	v.Flags = describeFlags(l)
	v.Support = describeSupport(l, now)
	for _, f := range l.Faults {
		v.Faults = append(v.Faults, f.String())
	}
	return v
}

func describeFlags(l *trust.Ledger) (f flagsStatus) {
	keys, threshold := l.SignsFlags()
	f.Threshold, f.Signers = threshold, []string{}
	for _, k := range keys {
		f.Signers = append(f.Signers, k.Name)
	}
	slices.Sort(f.Signers)
	names := map[string]bool{} // several contents of one may be signed
	for _, p := range l.Parts {
		switch {
		case names[p.Name]:
		case strings.HasPrefix(p.Name, signed.FlagPrefix):
			f.Flags++
		default:
			f.Announcements++
		}
		names[p.Name] = true
	}
	return f
}

const (
	unsigned = "unsigned: no channel needs signatures, so whoever runs the control plane decides what cells run"
	damaged  = "the signers' files are damaged, so no channel takes anything new: put them back as they were"
)

func statusVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show who signed what, what waits for signatures, and what expires",
		Args:  cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
			if err != nil {
				return fmt.Errorf("trust status: %w", err)
			}
			v := describe(s, time.Now())
			return a.PrintResult(v, func() { printStatus(a, v) })
		},
	}
}

func printStatus(a *cli.App, v status) {
	switch {
	case v.Damaged:
		a.Stdout.PrintLine("%s", damaged)
	case !v.Signed:
		a.Stdout.PrintLine("%s", unsigned)
	default:
		a.Stdout.PrintLine("signed releases only: %s", strings.Join(v.Channels, ", "))
		a.Stdout.PrintLine("root of trust: %s", v.Root)
	}
	for _, f := range v.Faults {
		a.Stdout.PrintLine("fault: %s", f)
	}
	var rows [][]cli.Field
	add := func(all []file, waits string) {
		for _, f := range all {
			colour := cli.Plain
			if f.expiring || waits != "" {
				colour = cli.Yellow
			}
			rows = append(rows, []cli.Field{cli.Text(f.File), cli.Text(cli.FormatTime(f.Expires)),
				cli.Coloured(waits+f.words, colour)})
		}
	}
	add(v.Files, "")
	add(v.Waiting, "waits: ")
	if len(rows) > 0 {
		a.Stdout.PrintTable([]string{"FILE", "EXPIRES", "SIGNATURES"}, rows)
	}
	for _, f := range v.Files {
		if f.expiring && !isReplaced(f, v.Files) {
			a.Stdout.PrintLine("%s expires at %s, and then nothing new runs: sluice trust rotate", f.File,
				cli.FormatTime(f.Expires))
		}
	}
	if v.Floor != "" {
		a.Stdout.PrintLine("floor: %s", v.Floor)
	}
	for _, version := range slices.Sorted(maps.Keys(v.Revoked)) {
		a.Stdout.PrintLine("revoked: %s: %s", version, v.Revoked[version])
	}
	printReleases(a, v.Releases)
	if f := v.Flags; len(f.Signers) > 0 {
		a.Stdout.PrintLine("flags: %s and %s signed; %d of %s sign them", words.Count(f.Flags, "flag"),
			words.Count(f.Announcements, "announcement"), f.Threshold, words.Some(f.Signers, 8))
	} else if v.Signed {
		a.Stdout.PrintLine("flags: unsigned")
	}
	printSupport(a, v)
	for _, f := range v.Waiting {
		for _, change := range f.Changes {
			a.Stdout.PrintLine("%s would change: %s", f.File, change)
		}
	}
}

// isReplaced reports whether a newer root counts: the older ones may expire.
func isReplaced(f file, all []file) bool {
	last := ""
	for _, other := range all {
		if strings.HasSuffix(other.File, ".root.json") {
			last = other.File
		}
	}
	return strings.HasSuffix(f.File, ".root.json") && f.File != last
}

func printReleases(a *cli.App, all []release) {
	if len(all) == 0 {
		return
	}
	var rows [][]cli.Field
	for _, r := range all {
		rows = append(rows, []cli.Field{cli.Coloured(r.Release, cli.Bold), cli.Text(strings.Join(r.Channels, ", ")),
			cli.Text(string(r.Digest))})
	}
	a.Stdout.PrintTable([]string{"RELEASE", "CHANNELS", "DIGEST"}, rows)
}

func verifyVerb(a *cli.App) *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "verify [RELEASE…]",
		Short: "Prove from a clone of the repository who signed a release",
		Long: `Verifies every signature from the first root to the list of releases, and compares the releases that are named, as the repository has them,
with what was signed. It asks nobody: a clone suffices. With --root it begins at the root that you were given out of band, and refuses
a repository that another root leads to. It ends with 1 unless everything that was asked is proven.`,
		Example: `  sluice trust verify 2026.11.3 --repo releases --root sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae`,
		Args:    cli.ArgumentCount(0, -1, "RELEASE"),
	}
	cmd.Flags().StringVar(&root, "root", "", "`DIGEST` of a root that you trust: sha256:…")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var pinned releases.Digest
		if root != "" {
			var err error
			if pinned, err = releases.ParseDigest(root); err != nil {
				return cli.UsageError(cmd, "--root %w", err)
			}
		}
		s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
		if err != nil {
			return fmt.Errorf("trust verify: %w", err)
		}
		now := time.Now()
		v := describe(s, now)
		if err := check(s, v, pinned, args, now); err != nil {
			return fmt.Errorf("trust verify: %w", err)
		}
		return a.PrintResult(v, func() {
			for _, f := range v.Files {
				a.Stdout.PrintLine("%s %s: %s", f.File, f.Digest, f.words)
			}
			named := slices.DeleteFunc(slices.Clone(v.Releases), func(r release) bool {
				return len(args) > 0 && !slices.Contains(args, r.Release)
			})
			for _, r := range named {
				a.Stdout.PrintLine("%s %s is signed for %s", r.Release, r.Digest, strings.Join(r.Channels, ", "))
			}
		})
	}
	return cmd
}

// check returns why what was asked is not proven.
func check(s *edits.Releases, v status, pinned releases.Digest, asked []string, now time.Time) error {
	l := s.Desired.Trust
	switch {
	case l.Damaged():
		return cli.Fail(errors.New(damaged), "sluice trust status shows their faults")
	case len(l.Channels()) == 0:
		return cli.Fail(errors.New(unsigned), "sluice trust status shows what waits for signatures")
	}
	isPinned := func(f *trust.File) bool { return f.Digest == pinned }
	if pinned != "" && !slices.ContainsFunc(l.Roots, isPinned) {
		return cli.Fail(fmt.Errorf("no root of this repository has the digest %s", pinned),
			"it may be another vendor's repository, or a forged one: ask for the digest once more, by another way")
	}
	if first := l.Expires(); !now.Before(first.Expires) {
		return cli.Fail(fmt.Errorf("%s expired at %s", first.Path, cli.FormatTime(first.Expires)),
			"sluice trust rotate")
	}
	for _, version := range asked {
		r, err := s.Release(version)
		if err != nil {
			return err
		}
		signed := false
		for _, name := range l.Channels() {
			a := l.Judge(name, r.Version, r.Digest, now)
			if a.Held {
				signed = true
			} else if err == nil {
				err = errors.New(a.Words)
			}
		}
		if !signed {
			return cli.Fail(fmt.Errorf("%s is not signed: %w", version, err), "sluice trust status")
		}
	}
	return nil
}
