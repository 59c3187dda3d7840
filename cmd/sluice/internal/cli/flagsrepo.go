package cli

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// AddFlagsRepoFlags adds what names the flags repository.
func AddFlagsRepoFlags(a *App, cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.FlagsRepo, "flags-repo", "", "flags repository: a folder or a URL (default $SLUICE_FLAGS_REPO)")
	f.StringVar(&a.flagsBranch, "flags-branch", "", "branch of the flags repository (default: the one that HEAD names)")
}

// FlagsLocation is where a flags repository at address is.
func (a *App) FlagsLocation(address string) Location {
	return Location{Address: address, Branch: a.flagsBranch, layout: gitrepo.FlagsLayout, mirrorName: "flags-mirror", flagName: "--flags-repo"}
}

// FindFlagsLocation finds the flags repository: --flags-repo, $SLUICE_FLAGS_REPO, or the repository around the working folder.
func (a *App) FindFlagsLocation(ctx context.Context, cmd *cobra.Command) (Location, error) {
	at := a.FlagsLocation(cmp.Or(a.FlagsRepo, a.Getenv("SLUICE_FLAGS_REPO")))
	if at.Address == "" {
		at.Address = a.enclosingRepository(ctx)
	}
	if at.Address == "" {
		return at, Fail(fmt.Errorf("%sthere is no git repository around the working folder", CommandPrefix(cmd)), "name the flags repository: --flags-repo FOLDER-OR-URL, or set SLUICE_FLAGS_REPO; sluice flag init makes one")
	}
	return at, nil
}

// OpenFlags opens the flags repository.
func (a *App) OpenFlags(ctx context.Context, cmd *cobra.Command) (*OpenRepository, error) {
	at, err := a.FindFlagsLocation(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return a.OpenLocation(ctx, at, CommitIdentity{})
}

// SettingsFile says what kind of repository it is.
const SettingsFile = "sluice.yaml"

// ReadFlags reads the tip of a flags repository.
func (o *OpenRepository) ReadFlags(ctx context.Context) (*edits.Flags, error) {
	commit, files, err := o.ReadTip(ctx, "sluice flag init "+o.Address)
	if err != nil {
		return nil, err
	}
	if err := o.checkKind(files); err != nil {
		return nil, err
	}
	if !IsFlags(files) {
		return nil, Fail(fmt.Errorf("%s is not a flags repository: its sluice.yaml does not say kind: Flags", o.Address), "name it: --flags-repo FOLDER-OR-URL, or set SLUICE_FLAGS_REPO; sluice flag init makes one")
	}
	return &edits.Flags{
		Commit: commit, Files: files, Tree: repository.Load(nil, files), Open: o.FS,
		Contains: func(older string) bool {
			in, err := o.Contains(ctx, older, commit)
			return err == nil && in
		},
		Approvals: func() (announce.Input, error) { return announcer.Look(ctx, o.Repo, commit, nil, time.Now()) },
	}, nil
}

// What settings say that a repository is.
const (
	kindFlags    = "Flags"
	kindReleases = "Pipeline"
)

// IsFlags reports whether files are a flags repository's.
func IsFlags(files fs.FS) bool { return repositoryKind(files) == kindFlags }

// repositoryKind is what a repository says that it is, also where its settings have faults; empty: it does not say.
func repositoryKind(files fs.FS) string {
	settings, err := fs.ReadFile(files, SettingsFile)
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

// checkKind refuses files of the other kind of repository: no flag is committed to a release repository, no release to a flags repository.
func (at Location) checkKind(files fs.FS) error {
	switch kind := repositoryKind(files); {
	case kind == kindFlags && at.layout != gitrepo.FlagsLayout:
		return Fail(fmt.Errorf("%s is a flags repository: its sluice.yaml says kind: %s", at.Address, kind), "%s, or SLUICE_REPO, names the release repository", at.flagName)
	case kind == kindReleases && at.layout == gitrepo.FlagsLayout:
		return Fail(fmt.Errorf("%s is a release repository: its sluice.yaml says kind: %s", at.Address, kind), "%s, or SLUICE_FLAGS_REPO, names the flags repository; sluice flag init makes one", at.flagName)
	}
	return nil
}

// checkKindTimeout bounds how long a repository is looked at before anything is run for it.
const checkKindTimeout = 10 * time.Second

// CheckKind refuses a repository that is of the other kind. One that can't be read now is none to stop for: whoever runs goes on without it.
func (o *OpenRepository) CheckKind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkKindTimeout)
	defer cancel()
	commit, err := o.Fetch(ctx)
	if err != nil || commit == "" {
		return nil //nolint:nilerr // it is said by whoever reads it next, again and again
	}
	files, err := o.FS(commit)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	return o.checkKind(files)
}
