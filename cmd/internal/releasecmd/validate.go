package releasecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/cmd/internal/trial"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure/template"
)

func ValidateVerb(a *cli.App) *cobra.Command {
	var hook bool
	cmd := &cobra.Command{
		Use:     "validate [DIR-or-URL]",
		GroupID: cli.GroupAuthor,
		Short:   "Find every fault in a release repository or a flags repository",
		Long: `Reads every file strictly and prints one fault a line, as "file:line: fault"; exits 1 if there is any.
Warnings are printed, and don't count. Without an argument, the working folder is read.

A folder is read as it is. A worktree is also compared with its history: a release that was edited
after its merge is a fault. Of a bare repository or a URL, the tip of the branch is read, with its
history.

To refuse pushes that bring a fault in, call validate from a pre-receive hook (hooks/pre-receive of
a bare repository):

  #!/bin/sh
  exec sluice validate --pre-receive

It reads git's "old new ref" lines from standard input and refuses a push to the release branch for
the faults that the push would bring in; faults that were there before are no reason to refuse it.
It also refuses a push that takes commits off the branch, or that merges the branch the wrong way
round, so that its tip is not among the first parents: git pull --rebase puts yours on top.`,
		Example: `  sluice validate
  sluice validate https://git.example/releases --branch main
  sluice validate . -o json`,
		Args: cli.ArgumentCount(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := cmp.Or(a.Repo, ".")
			if len(args) == 1 {
				target = args[0]
			}
			if !hook && target == "." && len(args) == 0 {
				target = repos.EnclosingFolder(cmd.Context(), a)
			}
			var found findings
			var err error
			if hook {
				found.faults, err = validatePush(cmd.Context(), a, target)
			} else {
				found, err = validateTarget(cmd.Context(), a, target)
			}
			if err != nil {
				return fmt.Errorf("validate %s: %w", target, err)
			}
			a.PrintNotes(found.notes)
			return cli.PrintFaults(a, found.faults)
		},
	}
	cmd.Flags().BoolVar(&hook, "pre-receive", false, "read the lines that git passes to a pre-receive hook")
	return cmd
}

// findings is what validate says of a repository.
type findings struct {
	faults []releases.Fault
	notes  []string // on what sluice.yaml does not ask for
}

func validateFlags(files fs.FS) findings {
	tree := repository.Load(nil, files)
	return findings{tree.Faults, tree.Settings.Notes()}
}

// readFlagsTip reads the tip of a flags repository's branch, with its history.
func readFlagsTip(ctx context.Context, a *cli.App, address string) (*edits.Flags, error) {
	at := repos.FlagsLocation(a, address)
	at.Branch = a.Branch
	repo, err := repos.OpenLocation(ctx, a, at, repos.CommitIdentity{})
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	return repo.ReadFlags(ctx)
}

// validateReleases returns the faults of a release repository. The releases that matter now are rendered as cells
// would.
func validateReleases(ctx context.Context, a *cli.App, files fs.FS, d *plan.Desired) (findings, error) {
	found := findings{d.AllFaults(), d.Notes()}
	r, err := trial.Open(a)
	if err != nil {
		return found, err
	}
	defer r.Close()
	rendered, err := r.CheckAll(ctx, files, d)
	_, told := notices.Load(nil, files)
	templates := template.CheckAll(files, d.Infrastructure)
	found.faults = manifest.Sort(slices.Concat(found.faults, rendered, told, templates))
	return found, err
}

func validateTarget(ctx context.Context, a *cli.App, target string) (findings, error) {
	if repos.IsRemote(target) {
		return validateTip(ctx, a, target)
	}
	info, err := os.Stat(target)
	if err != nil {
		return findings{}, cli.Fail(err, "name a folder or a URL")
	}
	if !info.IsDir() {
		return findings{}, cli.Fail(errors.New("not a folder"),
			"name the folder of the whole repository: files are checked against each other")
	}
	switch repos.FindFolderKind(target) {
	case repos.BareGit:
		return validateTip(ctx, a, target)
	case repos.Worktree:
		return validateWorktree(ctx, a, target)
	}
	if files := os.DirFS(target); repos.IsFlags(files) {
		return validateFlags(files), nil
	}
	d, err := plan.BuildFiles(os.DirFS(target))
	if err != nil {
		return findings{}, err
	}
	return validateReleases(ctx, a, os.DirFS(target), d)
}

// validateTip returns the faults at the tip of a repository's branch, with its history; without commits, none.
func validateTip(ctx context.Context, a *cli.App, address string) (findings, error) {
	repo, tip, err := openTip(ctx, a, address)
	if tip == "" || err != nil {
		return findings{}, err
	}
	defer repo.Close()
	files, err := repo.FS(tip)
	if err != nil {
		return findings{}, err
	}
	if repos.IsFlags(files) {
		s, err := readFlagsTip(ctx, a, address)
		if err != nil {
			return findings{}, err
		}
		return findings{manifest.Sort(slices.Concat(s.Tree.Faults, s.Withheld)), s.Tree.Settings.Notes()}, nil
	}
	repo.Loader.AllReleases = true
	d, err := repo.Loader.Load(ctx, tip)
	if err != nil {
		return findings{}, err
	}
	return validateReleases(ctx, a, files, d)
}

// openTip opens a repository and returns its branch's tip. If the tip is empty, nothing is left open.
func openTip(ctx context.Context, a *cli.App, address string) (repo *repos.OpenRepository, tip string, err error) {
	repo, err = repos.OpenLocation(ctx, a, repos.ReleaseLocation(a, address), repos.CommitIdentity{})
	if err != nil {
		return nil, "", err
	}
	tip, err = repo.Fetch(ctx)
	if err != nil {
		err = repos.FailFetch(err, address)
	}
	if tip == "" || err != nil {
		repo.Close()
	}
	return repo, tip, err
}

// validateWorktree validates the files as they are, and compares them with the branch's history.
func validateWorktree(ctx context.Context, a *cli.App, dir string) (findings, error) {
	if err := repos.CheckWorktree(ctx, a, dir); err != nil {
		return findings{}, err
	}
	files := os.DirFS(dir)
	found := validateFlags(files)
	if !repos.IsFlags(files) {
		alone, err := plan.BuildFiles(files)
		if err != nil {
			return findings{}, err
		}
		if found, err = validateReleases(ctx, a, files, alone); err != nil {
			return found, err
		}
	}
	rev := "HEAD"
	if a.Branch != "" {
		rev = "refs/heads/" + a.Branch
	}
	commit, err := repos.RunGit(ctx, a, dir, "rev-parse", "--verify", "--quiet", rev+"^{commit}")
	if err != nil {
		if a.Branch != "" {
			return findings{}, cli.Fail(fmt.Errorf("there is no branch %q", a.Branch),
				"git branch --list shows the branches")
		}
		if _, err := repos.RunGit(ctx, a, dir, "rev-parse", "--verify", "--quiet", rev); err == nil {
			if lack := gitrepo.FindLack(ctx, dir, rev); lack != nil { // HEAD names a commit that is not there
				return found, repos.FailFetch(lack, dir)
			}
		}
		return found, nil // without a commit there is no history
	}
	shallow, err := repos.RunGit(ctx, a, dir, "rev-parse", "--is-shallow-repository")
	if err != nil || shallow == "true" {
		a.Stderr.PrintLine("warning: a shallow clone has no history to compare the files with: git fetch --unshallow")
		return found, err
	}
	if repos.IsFlags(files) {
		err := withBorrowedObjects(ctx, a, dir, commit, func(outside *cli.App, source string) error {
			s, err := readFlagsTip(ctx, outside, source)
			if err == nil {
				found.faults = manifest.Sort(append(found.faults, s.Withheld...))
			}
			return err
		})
		return found, err
	}
	d, err := loadCommit(ctx, a, dir, commit)
	if err != nil {
		return findings{}, err
	}
	for _, f := range d.Faults {
		if _, withheld := d.Withheld[f.File]; withheld && f.Code == manifest.Forbidden {
			found.faults = append(found.faults, f)
		}
	}
	for version, merged := range d.Releases {
		if merged.Tombstone != nil || !merged.Loaded {
			continue
		}
		// A fault of the branch's own history also holds for the worktree.
		for _, f := range merged.Faults {
			if f.Code == manifest.Immutable || f.Code == manifest.Unsigned {
				found.faults = append(found.faults, f)
			}
		}
		folder := path.Join(releases.Dir, version)
		if digest, err := releases.DigestOf(files, folder); err == nil && digest != merged.Digest {
			found.faults = append(found.faults, releases.Fault{
				File: path.Join(folder, "release.yaml"),
				Code: manifest.Immutable,
				Message: fmt.Sprintf(
					"release %s was edited after its merge in %s: releases are immutable; put it back, and cut a new version", version, cli.ShortID(merged.Origin)),
			})
		}
	}
	found.faults = manifest.Sort(found.faults)
	return found, nil
}

// withBorrowedObjects calls do with a repository whose branch's tip is one commit of dir. In a hook the pushed
// objects are still in git's quarantine: source, a temporary repository, borrows all of dir's objects.
func withBorrowedObjects(ctx context.Context, a *cli.App, dir, commit string,
	do func(outside *cli.App, source string) error) error {
	borrowed, err := os.MkdirTemp("", "sluice-validate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(borrowed)
	var stores []string
	add := func(folder string) error {
		if folder == "" {
			return nil
		}
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		abs, err := filepath.Abs(folder)
		stores = append(stores, abs)
		return err
	}
	err = add(a.Getenv("GIT_OBJECT_DIRECTORY"))
	for _, folder := range filepath.SplitList(a.Getenv("GIT_ALTERNATE_OBJECT_DIRECTORIES")) {
		err = errors.Join(err, add(strings.Trim(folder, `"`)))
	}
	own, gitErr := repos.RunGit(ctx, a, dir, "rev-parse", "--path-format=absolute", "--git-common-dir")
	if err = errors.Join(err, gitErr); err != nil {
		return err
	}
	stores = append(stores, filepath.Join(own, "objects"))

	outside := &cli.App{Env: cli.WithoutGitEnv(a.Env), Stdout: a.Stdout, Stderr: a.Stderr, Branch: "main",
		Data: filepath.Join(borrowed, "data")}
	source := filepath.Join(borrowed, "source")
	_, err = repos.RunGit(ctx, outside, "", "init", "--quiet", "--bare", "--initial-branch=main", source)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(source, "objects", "info", "alternates"),
		[]byte(strings.Join(stores, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	if _, err = repos.RunGit(ctx, outside, source, "update-ref", "refs/heads/main", commit); err == nil {
		err = do(outside, source)
	}
	if err == nil {
		return nil
	}
	if lack := gitrepo.FindLack(ctx, dir, commit); lack != nil { // of dir, which the user knows, and not of source
		return repos.FailFetch(lack, dir)
	}
	return err
}

// validateCommit returns the faults of one commit of dir, as if it were the branch's tip.
func validateCommit(ctx context.Context, a *cli.App, dir, commit string) (faults []releases.Fault, err error) {
	err = withBorrowedObjects(ctx, a, dir, commit, func(outside *cli.App, source string) error {
		found, err := validateTip(ctx, outside, source)
		faults = found.faults
		return err
	})
	return faults, err
}

// loadCommit reads every release at one commit of dir, as if it were the branch's tip.
func loadCommit(ctx context.Context, a *cli.App, dir, commit string) (d *plan.Desired, err error) {
	err = withBorrowedObjects(ctx, a, dir, commit, func(outside *cli.App, source string) error {
		repo, tip, err := openTip(ctx, outside, source)
		if err != nil {
			return err
		}
		defer repo.Close()
		repo.Loader.AllReleases = true
		d, err = repo.Loader.Load(ctx, tip)
		return err
	})
	return d, err
}
