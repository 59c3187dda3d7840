package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

func (a *app) validateVerb() *cobra.Command {
	var hook bool
	cmd := &cobra.Command{
		Use:     "validate [DIR-or-URL]",
		GroupID: groupAuthor,
		Short:   "Find all that is wrong in a release repository, or a flags repository",
		Long: `Reads every file strictly and prints one "file:line: fault" a line; exits 1 if there is any. Warnings are printed
and don't count. Without an argument, the working folder is read.

A folder is read as it stands. A worktree is held against its history too: a release that was edited after its
merge is a fault. Of a bare repository or a URL, the tip of the branch is read, with its history.

In a pre-receive hook (hooks/pre-receive of a bare repository), so that no push brings a fault in:

  #!/bin/sh
  exec sluice validate --pre-receive

It reads git's "old new ref" lines from standard input and refuses a push to the release branch for the faults that it
would bring; what was wrong before is no reason.`,
		Example: `  sluice validate
  sluice validate https://git.example/releases --branch main
  sluice validate . -o json`,
		Args: arguments(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := "."
			if a.repo != "" {
				target = a.repo
			}
			if len(args) == 1 {
				target = args[0]
			}
			if !hook && target == "." && len(args) == 0 {
				target = a.around(cmd.Context())
			}
			var faults []releases.Fault
			var err error
			if hook {
				faults, err = a.validatePush(cmd.Context(), target)
			} else {
				faults, err = a.validate(cmd.Context(), target)
			}
			if err != nil {
				return fmt.Errorf("validate %s: %w", target, err)
			}
			return a.printFaults(faults)
		},
	}
	cmd.Flags().BoolVar(&hook, "pre-receive", false, "read the lines that git gives a pre-receive hook")
	return cmd
}

// around is the release repository that the working folder is in, or the working folder.
func (a *app) around(ctx context.Context) string {
	if _, err := os.Stat("sluice.yaml"); err == nil {
		return "."
	}
	top, err := a.git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return "."
	}
	if _, err := os.Stat(filepath.Join(top, "sluice.yaml")); err != nil {
		return "."
	}
	return top
}

func (a *app) validate(ctx context.Context, target string) ([]releases.Fault, error) {
	if isRemote(target) {
		return a.validateTip(ctx, target)
	}
	info, err := os.Stat(target)
	if err != nil {
		return nil, fail(err, "name a folder or a URL")
	}
	if !info.IsDir() {
		return nil, fail(errors.New("it is not a folder"), "name the folder of the whole repository: files are checked against each other")
	}
	switch kindOfFolder(target) {
	case bareGit:
		return a.validateTip(ctx, target)
	case worktree:
		return a.validateWorktree(ctx, target)
	}
	if files := os.DirFS(target); isFlags(files) {
		return flags.Load(nil, files).Faults, nil
	}
	return plan.Validate(os.DirFS(target))
}

// validateTip reads the tip of a repository's branch, with its history. No commits: no faults.
func (a *app) validateTip(ctx context.Context, address string) ([]releases.Fault, error) {
	repo, tip, err := a.openTip(ctx, address)
	if tip == "" || err != nil {
		return nil, err
	}
	defer repo.Close()
	files, err := repo.FS(tip)
	if err != nil {
		return nil, err
	}
	if isFlags(files) {
		return flags.Load(nil, files).Faults, nil
	}
	repo.loader.All = true
	d, err := repo.loader.Load(ctx, tip)
	if err != nil {
		return nil, err
	}
	return d.Check(), nil
}

// openTip opens a repository and gives its branch's newest commit. Empty: there is none, and nothing is open.
func (a *app) openTip(ctx context.Context, address string) (repo *opened, tip string, err error) {
	repo, err = a.openAt(ctx, a.releasePlace(address), committer{})
	if err != nil {
		return nil, "", err
	}
	tip, err = repo.Fetch(ctx)
	if err != nil {
		err = fail(err, "is %s right, and the host reachable?", address)
	}
	if tip == "" || err != nil {
		repo.Close()
	}
	return repo, tip, err
}

// validateWorktree reads the files as they stand, and holds them against the history of the branch.
func (a *app) validateWorktree(ctx context.Context, dir string) ([]releases.Fault, error) {
	files := os.DirFS(dir)
	if isFlags(files) {
		return flags.Load(nil, files).Faults, nil
	}
	faults, err := plan.Validate(files)
	if err != nil {
		return nil, err
	}
	rev := "HEAD"
	if a.branch != "" {
		rev = "refs/heads/" + a.branch
	}
	commit, err := a.git(ctx, dir, "rev-parse", "--verify", "--quiet", rev+"^{commit}")
	if err != nil {
		if a.branch != "" {
			return nil, fail(fmt.Errorf("there is no branch %q", a.branch), "git branch --list tells which there are")
		}
		return faults, nil // no commit yet: there is no history to hold it against
	}
	if shallow, err := a.git(ctx, dir, "rev-parse", "--is-shallow-repository"); err != nil || shallow == "true" {
		a.stderr.line("warning: a shallow clone has no history to hold the files against: git fetch --unshallow")
		return faults, err
	}
	d, err := a.loadCommit(ctx, dir, commit)
	if err != nil {
		return nil, err
	}
	for version, merged := range d.Releases {
		if merged.Tombstone != nil || !merged.Loaded {
			continue
		}
		// What the branch's own history says against this release holds for the worktree too.
		for _, f := range merged.Faults {
			if strings.Contains(f.Message, "edited after its merge") {
				faults = append(faults, f)
			}
		}
		folder := path.Join(releases.Dir, version)
		if digest, err := releases.DigestOf(files, folder); err == nil && digest != merged.Digest {
			faults = append(faults, releases.Fault{
				File:    path.Join(folder, "release.yaml"),
				Message: fmt.Sprintf("release %s was edited after its merge in %s: releases are immutable; put it back, and cut a new version", version, short(merged.Origin)),
			})
		}
	}
	return manifest.Sort(faults), nil
}

// validateCommit finds the faults of one commit of dir, as if it were the branch's tip.
func (a *app) validateCommit(ctx context.Context, dir, commit string) (faults []releases.Fault, err error) {
	err = a.borrow(ctx, dir, commit, func(outside *app, source string) error {
		faults, err = outside.validateTip(ctx, source)
		return err
	})
	return faults, err
}

// loadCommit reads every release of one commit of dir as if it were the branch's tip.
func (a *app) loadCommit(ctx context.Context, dir, commit string) (d *plan.Desired, err error) {
	err = a.borrow(ctx, dir, commit, func(outside *app, source string) error {
		repo, tip, err := outside.openTip(ctx, source)
		if err != nil {
			return err
		}
		defer repo.Close()
		repo.loader.All = true
		d, err = repo.loader.Load(ctx, tip)
		return err
	})
	return d, err
}

// borrow lets do read one commit of dir as if it were the tip of a repository's branch. In a hook the pushed objects are still in
// quarantine: they are reached through a repository of ours, source, that borrows all of dir's objects.
func (a *app) borrow(ctx context.Context, dir, commit string, do func(outside *app, source string) error) error {
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
	err = add(a.getenv("GIT_OBJECT_DIRECTORY"))
	for _, folder := range filepath.SplitList(a.getenv("GIT_ALTERNATE_OBJECT_DIRECTORIES")) {
		err = errors.Join(err, add(strings.Trim(folder, `"`)))
	}
	own, gitErr := a.git(ctx, dir, "rev-parse", "--path-format=absolute", "--git-common-dir")
	if err = errors.Join(err, gitErr); err != nil {
		return err
	}
	stores = append(stores, filepath.Join(own, "objects"))

	outside := &app{env: withoutGit(a.env), stdout: a.stdout, stderr: a.stderr, branch: "main", data: filepath.Join(borrowed, "data")}
	source := filepath.Join(borrowed, "source")
	if _, err := outside.git(ctx, "", "init", "--quiet", "--bare", "--initial-branch=main", source); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(source, "objects", "info", "alternates"), []byte(strings.Join(stores, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	if _, err := outside.git(ctx, source, "update-ref", "refs/heads/main", commit); err != nil {
		return err
	}
	return do(outside, source)
}

// withoutGit is env without what git tells its hooks: where they are, and that refs must not change.
func withoutGit(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "GIT_") {
			out = append(out, e)
		}
	}
	return out
}

// printFaults prints all faults, a line each; without the -o forms, nothing else.
func (a *app) printFaults(faults []releases.Fault) error {
	if faults == nil {
		faults = []releases.Fault{}
	}
	done, err := a.encode(faults)
	if err != nil {
		return err
	}
	for _, f := range faults {
		if !done {
			a.stdout.line("%s", f)
		}
	}
	if len(fatal(faults)) > 0 {
		return errSilent
	}
	return nil
}

// brought is what of after was not before, wherever it stood then: lines move.
func brought(before, after []releases.Fault) (more []releases.Fault) {
	known := map[releases.Fault]bool{}
	for _, f := range before {
		f.Line = 0
		known[f] = true
	}
	for _, f := range after {
		bare := f
		bare.Line = 0
		if !known[bare] {
			more = append(more, f)
		}
	}
	return more
}
