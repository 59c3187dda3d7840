package repos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/words"
)

// AddFlagsRepoFlags adds the flags that name the flags repository.
func AddFlagsRepoFlags(a *cli.App, cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.FlagsRepo, "flags-repo", "", "flags repository: a folder or a URL (default $SLUICE_FLAGS_REPO)")
	f.StringVar(&a.FlagsBranch, "flags-branch", "", "branch of the flags repository (default: the one that HEAD names)")
}

// FlagsLocation returns the location of a flags repository at address.
func FlagsLocation(a *cli.App, address string) Location {
	return Location{Address: cleantext.Address(address), full: address, Branch: a.FlagsBranch,
		layout: gitrepo.FlagsLayout, mirrorName: "flags-mirror", flagName: "--flags-repo"}
}

// FindFlagsLocation finds the flags repository: --flags-repo, $SLUICE_FLAGS_REPO, or the repository around the
// working folder.
func FindFlagsLocation(ctx context.Context, a *cli.App, cmd *cobra.Command) (Location, error) {
	address := cmp.Or(a.FlagsRepo, a.Getenv("SLUICE_FLAGS_REPO"))
	if address == "" {
		var err error
		if address, err = enclosingRepository(ctx, a); err != nil {
			return Location{}, err
		}
	}
	if address == "" {
		return Location{}, cli.Fail(fmt.Errorf("%sthere is no git repository around the working folder",
			cli.CommandPrefix(cmd)), "name the flags repository: --flags-repo FOLDER-OR-URL, or set "+
			"SLUICE_FLAGS_REPO; sluice flag init makes one")
	}
	return withFollowedBranch(a, ctx, FlagsLocation(a, address)), nil
}

func OpenFlags(ctx context.Context, a *cli.App, cmd *cobra.Command) (*OpenRepository, error) {
	at, err := FindFlagsLocation(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	return OpenLocation(ctx, a, at, CommitIdentity{})
}

// SettingsFile holds the settings of a repository, with its kind.
const SettingsFile = "sluice.yaml"

// ReadFlags reads the tip of a flags repository.
func (o *OpenRepository) ReadFlags(ctx context.Context) (*edits.Flags, error) {
	commit, files, err := o.ReadTip(ctx, "sluice flag init "+words.Shell(o.Address))
	if err != nil {
		return nil, err
	}
	if err := o.checkKind(files); err != nil {
		return nil, err
	}
	if !IsFlags(files) {
		return nil, cli.Fail(fmt.Errorf("%s is not a flags repository: its sluice.yaml does not say kind: Flags",
			o.Address), "name it: --flags-repo FOLDER-OR-URL, or set SLUICE_FLAGS_REPO; sluice flag init makes one")
	}
	files, withheld, err := announcer.ReadFiles(ctx, o.Repo, commit)
	if err != nil {
		return nil, err
	}
	return &edits.Flags{
		Commit: commit, Files: files, Withheld: withheld, Tree: repository.Load(nil, files), Open: o.FS,
		Contains: func(older string) bool {
			in, err := o.Contains(ctx, older, commit)
			return err == nil && in
		},
		Approvals: func() (announce.Input, error) { return announcer.ReadInput(ctx, o.Repo, commit, nil, time.Now()) },
	}, nil
}

// The kinds of repository.
const (
	kindFlags    = "Flags"
	kindReleases = "Pipeline"
)

// IsFlags reports whether files are those of a flags repository.
func IsFlags(files fs.FS) bool { return repositoryKind(files) == kindFlags }

// repositoryKind returns the kind that a repository's settings name, even where the settings have faults;
// empty: none.
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

// checkKind refuses the files of the other kind of repository, so that no flag is committed to a release
// repository, and no release to a flags repository.
func (at Location) checkKind(files fs.FS) error {
	switch kind := repositoryKind(files); {
	case kind == kindFlags && at.layout != gitrepo.FlagsLayout:
		return cli.Fail(fmt.Errorf("%s is a flags repository: its sluice.yaml says kind: %s", at.Address, kind),
			"%s, or SLUICE_REPO, names the release repository", at.flagName)
	case kind == kindReleases && at.layout == gitrepo.FlagsLayout:
		return cli.Fail(fmt.Errorf("%s is a release repository: its sluice.yaml says kind: %s", at.Address, kind),
			"%s, or SLUICE_FLAGS_REPO, names the flags repository; sluice flag init makes one", at.flagName)
	}
	return nil
}

// checkReleases refuses files that are no release repository's: they have neither settings nor a channel's policy.
func (at Location) checkReleases(files fs.FS) error {
	if _, err := fs.Stat(files, SettingsFile); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if found, err := fs.Glob(files, channels.Dir+"/*/channel.yaml"); err != nil || len(found) > 0 {
		return nil //nolint:nilerr // the reader of channels reports it
	}
	return cli.Fail(fmt.Errorf("%s is no release repository: it has neither sluice.yaml nor channels/NAME/channel.yaml",
		at.Address), "%s, or SLUICE_REPO, names the release repository; sluice init makes one", at.flagName)
}

// checkKindTimeout bounds how long CheckKind reads the repository.
const checkKindTimeout = 10 * time.Second

// CheckKind refuses a repository of the other kind. A repository that can't be read now is no reason to stop:
// its reader tries again. first: nothing was read from it before, so one that has lost everything is another one.
func (o *OpenRepository) CheckKind(ctx context.Context, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, checkKindTimeout)
	defer cancel()
	commit, err := o.Fetch(ctx)
	if err != nil || commit == "" {
		return nil //nolint:nilerr // its next reader reports it
	}
	files, err := o.FS(commit)
	if err != nil {
		return nil //nolint:nilerr // its next reader reports it
	}
	if err := o.checkKind(files); err != nil || !first {
		return err
	}
	if o.layout != gitrepo.FlagsLayout {
		return o.checkReleases(files)
	}
	return nil
}
