// Package repos opens what the command line names and verbs work on: the release repository and the flags repository,
// with commits in the caller's name, and the store of a control plane, with what the engine would decide by it.
//
// It knows no verb, and changes nothing but by a commit that its caller asks for. An open repository is used by one
// goroutine, and closed by who opened it.
package repos

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// cacheFile is the Loader's cache in the folder of the mirror, which makes the next start quick. It can be deleted.
const cacheFile = "read.cache"

// Location names a repository and its branch, as the command line does.
type Location struct {
	Address    string // a folder or a URL, without credentials: for messages
	full       string // the same with its credentials, if it has any
	Branch     string // empty: the one that HEAD names
	followed   string // without Branch, the branch that the engine follows while another is checked out; else empty
	branchNote string // what people should know of the branch that their decisions go to; empty: nothing
	layout     gitrepo.Layout
	mirrorName string // the folder of its mirror in --data
	flagName   string // the flag that names the repository, for messages
}

// ReleaseLocation returns the location of a release repository at address.
func ReleaseLocation(a *cli.App, address string) Location {
	return Location{Address: cleantext.Address(address), full: address, Branch: a.Branch, mirrorName: "mirror",
		flagName: "--repo"}
}

// findReleaseLocation finds the release repository: --repo, $SLUICE_REPO, or the repository around the working folder.
func findReleaseLocation(ctx context.Context, a *cli.App, cmd *cobra.Command) (Location, error) {
	// a.Repo stays as it is: a flag goes before $SLUICE_SERVER, a variable does not.
	if named := cmp.Or(a.Repo, a.Getenv("SLUICE_REPO")); named != "" {
		return withFollowedBranch(a, ctx, ReleaseLocation(a, named)), nil
	}
	address, err := enclosingRepository(ctx, a)
	if err != nil {
		return Location{}, err
	}
	if address == "" {
		return Location{}, cli.Fail(fmt.Errorf("%sthere is no git repository around the working folder",
			cli.CommandPrefix(cmd)), "name it: --repo FOLDER-OR-URL, or set SLUICE_REPO")
	}
	return withFollowedBranch(a, ctx, ReleaseLocation(a, address)), nil
}

// withFollowedBranch finds the branch that the engine follows in a folder with a worktree: people check out others
// there, to work on a policy.
func withFollowedBranch(a *cli.App, ctx context.Context, at Location) Location {
	if at.Branch != "" || IsRemote(at.Address) || FindFolderKind(at.Address) != Worktree {
		return at
	}
	followed, err := RunGit(ctx, a, at.Address, "config", "--local", gitrepo.FollowedBranch)
	if err != nil || followed == "" {
		return at
	}
	head, detached := RunGit(ctx, a, at.Address, "symbolic-ref", "--short", "--quiet", "HEAD")
	if head == followed {
		return at
	}
	_, gone := RunGit(ctx, a, at.Address, "rev-parse", "--verify", "--quiet", "refs/heads/"+followed)
	if gone != nil && detached == nil { // renamed: the engine goes on with the branch that HEAD names now (R61)
		at.branchNote = fmt.Sprintf("%s has no branch %s any more, which the engine followed; this goes to %s, "+
			"which is checked out (%s names another)", at.Address, followed, head, at.branchFlag())
		return at
	}
	if detached != nil {
		head = "no branch"
	}
	at.followed = followed
	at.branchNote = fmt.Sprintf("%s has %s checked out; this goes to %s, the branch that the engine follows "+
		"(%s names another)", at.Address, head, followed, at.branchFlag())
	return at
}

// branchFlag returns the flag that names the branch, for messages.
func (at Location) branchFlag() string {
	if at.layout == gitrepo.FlagsLayout {
		return "--flags-branch"
	}
	return "--branch"
}

// RecordFollowedBranch keeps, in the configuration of a folder with a worktree, which branch the engine follows, so
// that people's commands go there too. A folder that can't be written to keeps what it says.
func RecordFollowedBranch(a *cli.App, ctx context.Context, at Location) {
	if IsRemote(at.Address) || FindFolderKind(at.Address) != Worktree {
		return
	}
	branch := cmp.Or(at.Branch, at.followed)
	if branch == "" {
		branch, _ = RunGit(ctx, a, at.Address, "symbolic-ref", "--short", "--quiet", "HEAD")
	}
	known, _ := RunGit(ctx, a, at.Address, "config", "--local", gitrepo.FollowedBranch)
	if branch != "" && branch != known {
		_, _ = RunGit(ctx, a, at.Address, "config", "--local", gitrepo.FollowedBranch, branch)
	}
}

// enclosingRepository returns the repository around the working folder; empty: there is none. For a clone, it
// returns the clone's origin, which is what the engine reads.
func enclosingRepository(ctx context.Context, a *cli.App) (address string, err error) {
	dir, err := RunGit(ctx, a, "", "rev-parse", "--absolute-git-dir")
	if next, _ := cli.NextStep(err); next != "" || errors.Is(err, gitrepo.ErrNoGit) {
		return "", err
	} else if err != nil {
		return "", nil //nolint:nilerr // outside a repository, git fails
	}
	top := dir
	if inside, err := RunGit(ctx, a, "", "rev-parse", "--show-toplevel"); err == nil && inside != "" {
		top = inside
	}
	if origin, err := RunGit(ctx, a, top, "config", "remote.origin.url"); err == nil && origin != "" {
		if !IsRemote(origin) && !filepath.IsAbs(origin) {
			origin = filepath.Join(top, origin)
		}
		return origin, nil
	}
	return top, nil
}

// OpenRepository is an open repository. The caller closes it.
type OpenRepository struct {
	*gitrepo.Repo
	Location
	Loader  engine.Loader
	cleanup func()
	dryRun  bool // nothing may be committed
}

// CommitterAs returns the repository for commits in a person's name; a nil signer signs nothing.
func (o *OpenRepository) CommitterAs(who releases.Person, signer gitrepo.Signer) edits.Repository {
	if o.dryRun {
		return noCommitter{}
	}
	return o.Repo.CommitterAs(who, signer)
}

// Close closes the repository. Its mirror stays for the next run, unless it was made for this run only.
func (o *OpenRepository) Close() {
	_ = o.Repo.Close() // the mirror can be fetched again
	o.cleanup()
}

// CommitIdentity is the author of commits. The zero value is for reading only.
type CommitIdentity struct {
	Person releases.Person
	Signer *gitrepo.SSHSigner // nil: commits are not signed
}

// OpenReleases opens the release repository, with the mirror in --data or, without --data, in the user's cache.
func OpenReleases(ctx context.Context, a *cli.App, cmd *cobra.Command) (*OpenRepository, error) {
	return OpenReleasesAs(ctx, a, cmd, CommitIdentity{})
}

// OpenReleasesAs is OpenReleases with one author for all commits, as the engine needs.
func OpenReleasesAs(ctx context.Context, a *cli.App, cmd *cobra.Command, as CommitIdentity) (*OpenRepository, error) {
	at, err := findReleaseLocation(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	return OpenLocation(ctx, a, at, as)
}

// OpenLocation opens the repository at a location.
func OpenLocation(ctx context.Context, a *cli.App, at Location, as CommitIdentity) (*OpenRepository, error) {
	mirror, cleanup, err := mirrorDir(a, at)
	if err != nil {
		return nil, err
	}
	var signer gitrepo.Signer
	if as.Signer != nil {
		signer = as.Signer
	}
	repo, err := gitrepo.Open(ctx, at.full, gitrepo.Options{
		Mirror: mirror, Branch: cmp.Or(at.Branch, at.followed), Layout: at.layout, Author: as.Person, Signer: signer,
		Log: a.Logger(),
		Web: gitrepo.Web{Username: a.Getenv("SLUICE_GIT_USERNAME"), Password: a.Getenv("SLUICE_GIT_TOKEN"),
			CAFile: a.Getenv("SLUICE_GIT_CA_FILE")},
		SSH: gitrepo.SSH{Key: a.Getenv("SLUICE_SSH_KEY"), KnownHosts: a.Getenv("SLUICE_SSH_KNOWN_HOSTS")},
	})
	if err != nil {
		cleanup()
		return nil, cli.Guess(err, "is %s %s right? It takes a folder, https://…, ssh://… or host:path", at.flagName,
			at.Address)
	}
	return &OpenRepository{Repo: repo, Location: at, cleanup: cleanup, dryRun: a.DryRun,
		Loader: engine.Loader{Repo: repo, CacheFile: filepath.Join(mirror, cacheFile)}}, nil
}

// mirrorDir returns the folder of the mirror, one for each named branch, and a function to call at the end.
func mirrorDir(a *cli.App, at Location) (dir string, cleanup func(), err error) {
	keep := func() {}
	if a.Data != "" {
		dir := filepath.Join(a.Data, at.mirrorName)
		if at.Branch != "" {
			dir += "-" + strings.ReplaceAll(at.Branch, "/", "-")
		}
		return dir, keep, nil
	}
	address := at.Address
	if !IsRemote(address) {
		if address, err = filepath.Abs(address); err != nil {
			return "", nil, err
		}
	}
	temporary := strings.HasPrefix(address, filepath.Clean(os.TempDir())+string(filepath.Separator))
	if cache := cli.CacheDir(a, "mirrors"); cache != "" && !temporary {
		sum := sha256.Sum256([]byte(address + "\x00" + at.Branch))
		dir = filepath.Join(cache, hex.EncodeToString(sum[:8]))
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err == nil {
			return dir, keep, nil
		}
	}
	borrowed, err := os.MkdirTemp("", "sluice-mirror-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the mirror: %w", err)
	}
	return filepath.Join(borrowed, "mirror"), func() { _ = os.RemoveAll(borrowed) }, nil
}

// ReadReleases reads the releases at the branch's tip.
func (o *OpenRepository) ReadReleases(ctx context.Context) (*edits.Releases, error) {
	tip, files, err := o.ReadTip(ctx, "sluice init --repo "+words.Shell(o.Address))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(o.checkKind(files), o.checkReleases(files)); err != nil {
		return nil, err
	}
	d, err := o.Loader.Load(ctx, tip)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Address, err)
	}
	return &edits.Releases{Files: files, Desired: d}, nil
}

// ReadTip returns the branch's tip and its files. begin is the next step for an empty repository.
func (o *OpenRepository) ReadTip(ctx context.Context, begin string) (commit string, files fs.FS, err error) {
	commit, err = o.Fetch(ctx)
	if err != nil {
		return "", nil, FailFetch(fmt.Errorf("read %s: %w", o.Address, err), o.flagName)
	}
	if commit == "" {
		return "", nil, cli.Fail(fmt.Errorf("read %s: it has no commits yet", o.Address), "%s", begin)
	}
	if files, err = o.FS(commit); err != nil {
		return "", nil, fmt.Errorf("read %s: %w", o.Address, err)
	}
	return commit, files, nil
}

// FailFetch adds the next step to the error of a fetch. source is what named the address.
func FailFetch(err error, source string) error {
	busy, credentials, lack := new(releases.BusyError), new(releases.CredentialsError), new(gitrepo.IncompleteError)
	switch {
	case errors.As(err, &lack):
		return cli.Fail(err, "%s", lack.Remedy)
	case errors.As(err, &busy):
		return cli.Fail(err, "try again then")
	case errors.As(err, &credentials):
		return cli.Fail(err, "check the token, then try again")
	}
	return cli.Guess(err, "is %s right, and the host reachable?", source)
}

// EnclosingFolder returns the worktree around the working folder if it has settings, else the working folder.
func EnclosingFolder(ctx context.Context, a *cli.App) string {
	if _, err := os.Stat("sluice.yaml"); err == nil {
		return "."
	}
	top, err := RunGit(ctx, a, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return "."
	}
	if _, err := os.Stat(filepath.Join(top, "sluice.yaml")); err != nil {
		return "."
	}
	return top
}

// ReadFolder returns the files below a folder, by their path in it.
func ReadFolder(from fs.FS, dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(from, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(from, name)
		files[strings.TrimPrefix(name, dir+"/")] = data
		return err
	})
	return files, err
}
