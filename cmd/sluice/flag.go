package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

func (a *app) flagVerb() *cobra.Command {
	cmd := group("flag", "Feature flags: list, show, set, try, check, kill", `Flags live in a repository of their own, in flagd's format: flags/*.yaml. A flag that names a feature (metadata.feature) is on only in
cells that run a release with that feature, once an announcement of the feature is published there (sluice announce). Each
verb that changes something makes one commit of yours to the flags repository, never to the release repository.

The flags repository is --flags-repo, else $SLUICE_FLAGS_REPO, else the one around the working folder.`,
		a.flagInitVerb(),
		a.flagListVerb(),
		a.completeFlags(a.flagShowVerb(), flagKeys),
		a.completeFlags(a.flagSetVerb(), flagKeys),
		a.completeFlags(a.flagEvalVerb(), flagKeys),
		a.flagLintVerb(),
		a.flagStaleVerb(),
		a.completeFlags(a.flagKillVerb(), flagKeys),
		a.completeFlags(a.flagUnkillVerb(), flagKeys),
		a.flagPromoteVerb(),
	)
	cmd.GroupID = groupFlags
	a.flagsRepoFlags(cmd)
	return cmd
}

func flagKeys(s *flagsSnapshot) []string { return sortedKeys(s.tree.Flags) }

// flagsRepoFlags adds what names the flags repository.
func (a *app) flagsRepoFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.flagsRepo, "flags-repo", "", "flags repository: a folder or a URL (default $SLUICE_FLAGS_REPO)")
	f.StringVar(&a.flagsBranch, "flags-branch", "", "its branch (default: the one its HEAD names)")
}

// flagsAt is where a flags repository at address is.
func (a *app) flagsAt(address string) place {
	return place{address: address, branch: a.flagsBranch, layout: gitrepo.FlagsLayout, mirror: "flags-mirror", flag: "--flags-repo"}
}

// flagsPlace finds the flags repository: --flags-repo, $SLUICE_FLAGS_REPO, or the repository around the working folder.
func (a *app) flagsPlace(ctx context.Context, cmd *cobra.Command) (place, error) {
	at := a.flagsAt(cmp.Or(a.flagsRepo, a.getenv("SLUICE_FLAGS_REPO")))
	if at.address == "" {
		at.address = a.aroundHere(ctx)
	}
	if at.address == "" {
		return at, fail(fmt.Errorf("%sthere is no git repository around the working folder", verb(cmd)), "name the flags repository: --flags-repo FOLDER-OR-URL, or set SLUICE_FLAGS_REPO; sluice flag init makes one")
	}
	return at, nil
}

// openFlags opens the flags repository.
func (a *app) openFlags(ctx context.Context, cmd *cobra.Command, as committer) (*opened, error) {
	at, err := a.flagsPlace(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return a.openAt(ctx, at, as)
}

// flagsSnapshot is what the flags repository says at one commit.
type flagsSnapshot struct {
	repo   *opened
	commit string
	files  fs.FS
	tree   *flags.Tree
}

// settingsFile says what kind of repository it is.
const settingsFile = "sluice.yaml"

// flags reads the tip of a flags repository.
func (o *opened) flags(ctx context.Context) (*flagsSnapshot, error) {
	commit, files, err := o.tip(ctx, "sluice flag init "+o.address)
	if err != nil {
		return nil, err
	}
	if err := o.right(files); err != nil {
		return nil, err
	}
	if !isFlags(files) {
		return nil, fail(fmt.Errorf("%s is no flags repository: its sluice.yaml does not say kind: Flags", o.address), "name it: --flags-repo FOLDER-OR-URL, or set SLUICE_FLAGS_REPO; sluice flag init makes one")
	}
	return &flagsSnapshot{repo: o, commit: commit, files: files, tree: flags.Load(nil, files)}, nil
}

// What settings say that a repository is.
const (
	kindFlags    = "Flags"
	kindReleases = "Pipeline"
)

func isFlags(files fs.FS) bool { return repositoryKind(files) == kindFlags }

// repositoryKind is what a repository says that it is, also where its settings have faults; empty: it does not say.
func repositoryKind(files fs.FS) string {
	settings, err := fs.ReadFile(files, settingsFile)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(settings)) {
		if rest, ok := strings.CutPrefix(line, "kind:"); ok {
			word, _, _ := strings.Cut(rest, "#")
			return strings.Trim(strings.TrimSpace(word), `"'`)
		}
	}
	return ""
}

// right refuses files of the other kind of repository: no flag is committed to a release repository, no release to a flags repository.
func (at place) right(files fs.FS) error {
	switch kind := repositoryKind(files); {
	case kind == kindFlags && at.layout != gitrepo.FlagsLayout:
		return fail(fmt.Errorf("%s is a flags repository: its sluice.yaml says kind: %s", at.address, kind), "%s, or SLUICE_REPO, names the release repository", at.flag)
	case kind == kindReleases && at.layout == gitrepo.FlagsLayout:
		return fail(fmt.Errorf("%s is a release repository: its sluice.yaml says kind: %s", at.address, kind), "%s, or SLUICE_FLAGS_REPO, names the flags repository; sluice flag init makes one", at.flag)
	}
	return nil
}

// peekTimeout bounds how long a repository is looked at before anything is run for it.
const peekTimeout = 10 * time.Second

// peek refuses a repository that is of the other kind. One that can't be read now is none to stop for: whoever runs goes on without it.
func (o *opened) peek(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, peekTimeout)
	defer cancel()
	commit, err := o.Fetch(ctx)
	if err != nil || commit == "" {
		return nil //nolint:nilerr // it is said by whoever reads it next, again and again
	}
	files, err := o.FS(commit)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	return o.right(files)
}

// definition gives a flag by key, or says which is near.
func (s *flagsSnapshot) definition(key string) (*flags.Definition, error) {
	if d := s.tree.Flags[key]; d != nil {
		return d, nil
	}
	if broken := fatal(s.tree.Faults); len(broken) > 0 {
		return nil, fail(fmt.Errorf("there is no flag %q among those that could be read; the first fault is %s", key, broken[0]), "sluice flag lint tells all of them")
	}
	return nil, fail(fmt.Errorf("there is no flag %q", key), "sluice flag list; or make it: sluice flag set %s --new", key)
}

// announcement gives an announcement by id.
func (s *flagsSnapshot) announcement(id string) (*flags.Announcement, error) {
	if a := s.tree.Announcements[id]; a != nil {
		return a, nil
	}
	file := announcementFile(id)
	for _, f := range fatal(s.tree.Faults) {
		if f.File == file {
			return nil, fail(errors.New(f.String()), "mend it; sluice flag lint tells all faults")
		}
	}
	return nil, fail(fmt.Errorf("there is no announcement %q", id), "there are: %s", orDash(strings.Join(sortedKeys(s.tree.Announcements), ", ")))
}

// announcing gives the ids of the announcements that have a feature, those that are not over first.
func (s *flagsSnapshot) announcing(feature string) (ids []string) {
	var over []string
	for _, id := range sortedKeys(s.tree.Announcements) {
		switch a := s.tree.Announcements[id]; {
		case feature == "" || !slices.Contains(a.Features, feature):
		case a.Archived || a.Cancelled != "":
			over = append(over, id)
		default:
			ids = append(ids, id)
		}
	}
	return append(ids, over...)
}

// commitFlags is commit for the flags repository. It refuses a change that brings a fault in.
func (a *app) commitFlags(cmd *cobra.Command, c change, edit func(*flagsSnapshot) (map[string][]byte, error), next func() string) error {
	repo, err := a.openFlagsAs(cmd, c)
	if err != nil {
		return wrapFailure(c.what, err)
	}
	defer repo.Close()
	commit, err := a.pushFlags(cmd.Context(), repo, c, edit)
	return a.landed(c, commit, err, next)
}

// openFlagsAs opens the flags repository for a change in the caller's name.
func (a *app) openFlagsAs(cmd *cobra.Command, c change) (*opened, error) {
	as, err := a.committer(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	return a.openFlags(cmd.Context(), cmd, as)
}

func (a *app) pushFlags(ctx context.Context, repo *opened, c change, edit func(*flagsSnapshot) (map[string][]byte, error)) (string, error) {
	return a.land(ctx, repo, c, func() (string, map[string][]byte, error) {
		s, err := repo.flags(ctx)
		if err != nil {
			return "", nil, err
		}
		files, err := edit(s)
		if err == nil {
			err = a.sound(s, files)
		}
		return s.commit, files, err
	})
}

// sound tells whether a change brings no fault in. What was wrong before is no reason: it may be what is mended.
func (a *app) sound(s *flagsSnapshot, files map[string][]byte) error {
	more := brought(s.tree.Faults, flags.Load(nil, simulate.Over(s.files, files)).Faults)
	wrong := fatal(more)
	for _, f := range more {
		if f.Warning || len(wrong) > 1 {
			a.stderr.line("%s", f)
		}
	}
	if len(wrong) > 0 {
		return fail(fmt.Errorf("it would bring a fault in: %s", wrong[0]), "nothing was committed; docs/formats.md describes the files")
	}
	return nil
}
